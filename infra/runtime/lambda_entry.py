"""What Lambda starts: Lithops' entry point, once what takes longest to import is imported.

Lithops forks for each call. What is imported before is imported once for an environment, and the rest again in every
call. Icechunk, and so `frazil_functions`, cannot be among it: it starts threads when it is imported, and a fork lacks
them and waits for them for ever.
"""

import xarray  # noqa: F401 - as said, with pandas
import zarr  # noqa: F401 - the same, with NumPy and the codecs
from lithops.serverless.backends.aws_lambda.entry_point import lambda_handler

__all__ = ["lambda_handler"]
