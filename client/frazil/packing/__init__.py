"""Packing: what is stored with loss, in fewer bits, because a user asks for it."""
