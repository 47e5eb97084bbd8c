"""Lazy arrays: datasets in files, behind dask or in memory, and what it takes to compute a part of them."""
