"""Filling: groups that are made empty over their full range, written in regions by many at once, and added to."""
