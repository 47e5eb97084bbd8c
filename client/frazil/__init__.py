"""Parallel, atomic writes into Icechunk from serverless functions."""
