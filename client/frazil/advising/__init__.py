"""Advice: what chunks and shards cost to read and to write, and which cost least. Nothing here reads or writes."""
