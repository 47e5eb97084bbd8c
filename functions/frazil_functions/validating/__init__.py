"""Validating: look at what a repository stores, and say what is wrong with it. Nothing is written."""
