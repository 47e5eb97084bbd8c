"""Calling functions: one protocol, and the backends behind it."""
