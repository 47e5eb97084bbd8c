"""Reading: how a file says what it holds, and what its values are."""
