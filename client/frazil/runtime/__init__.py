"""The function on Lambda that Lithops calls: its names, what is known of it, how it is built, deployed and checked.

It knows the names that Lithops computes and the metadata that Lithops reads, and does not import Lithops.
"""
