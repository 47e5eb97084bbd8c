"""Planning: from files to a plan that is proven before anything is written."""
