"""Costing: what a plan will take - calls, seconds, memory, requests, bytes - and what that costs. Computes alone."""
