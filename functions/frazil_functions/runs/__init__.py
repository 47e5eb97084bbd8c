"""A run as three steps that any driver takes: start, write, finish."""
