"""What runs in the cloud: everything that a function needs, and nothing of the client."""
