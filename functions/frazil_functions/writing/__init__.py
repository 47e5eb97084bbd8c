"""Writing: what a task does, and what reads it back."""
