"""The template: a dataset with its final shapes, types, chunks, attributes and labels, and no data."""
