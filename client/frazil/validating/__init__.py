"""Validating: is what a repository holds whole, readable and consistent. Nothing is written."""
