"""What runs in the cloud: everything that a function needs, and nothing of the client."""

from frazil_functions.ending import settle_at_exit

__version__ = "0.1.0"
"""Of the distribution, which is built from this; a function that was installed without one knows it, too."""

settle_at_exit()  # whoever imports this uses Icechunk
