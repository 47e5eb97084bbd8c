"""Labels: what those of files and groups are, how they are held against each other, and where they lie."""
