"""Names that Lithops computes on AWS: whoever makes a function, an image or an object has to hit them exactly.

They are those of `lithops.serverless.backends.aws_lambda.aws_lambda.AWSLambdaBackend`; a test holds both together.
"""

import hashlib
from importlib.metadata import version
from typing import Final

METADATA: Final = "lithops.runtimes"
"""Below this lies, in the staging bucket, what Lithops knows of functions; it must never expire."""

JOBS: Final = "lithops.jobs"
"""Below this lies, in the staging bucket, what calls are given and what they return."""


def lithops_version() -> str:
    """The installed version of Lithops, without importing it."""
    return version("lithops")


def user_key(user_id: str) -> str:
    """The part of names that tells users apart: the end of the id that `sts:GetCallerIdentity` gives."""
    return user_id.partition(":")[0][-4:].lower()


def function_name(
    runtime: str, memory: int, *, user_id: str, namespace: str | None = None, lithops: str | None = None
) -> str:
    """The name of the Lambda function that Lithops calls.

    Parameters
    ----------
    runtime
        The name of the image, with its tag: `frazil:0.1.0`.
    memory
        In MB; each size is another function.
    user_id
        Lithops' `user_id`, of which the last four characters count.
    namespace
        Lithops' `namespace`, if one is set.
    lithops
        The version of Lithops; by default the installed one.

    Examples
    --------
    >>> function_name("frazil:0.1.0", 2048, user_id="AIDAEXAMPLE", lithops="3.8.0")
    'lithops-worker-mple-380-ecfdc3e848'
    """
    of = lithops or lithops_version()
    digest = hashlib.sha1(f"{runtime}-{memory}-{of}".encode(), usedforsecurity=False).hexdigest()[:10]
    name = f"lithops-worker-{user_key(user_id)}-{of.replace('.', '')}-{digest}"
    return f"{namespace}-{name}" if namespace else name


def metadata_key(region: str, function: str, lithops: str | None = None) -> str:
    """The key of the object in the staging bucket without which Lithops would not use a function that exists."""
    return f"{METADATA}/aws_lambda/{lithops or lithops_version()}/{region}/{function}.meta.json"


def image_repository(
    runtime: str, *, user_id: str, namespace: str | None = None, lithops: str | None = None
) -> tuple[str, str]:
    """The repository in ECR, and the tag in it, that Lithops looks for an image of this name.

    Examples
    --------
    >>> image_repository("frazil:0.1.0", user_id="AIDAEXAMPLE", lithops="3.8.0")
    ('lithops_v380_mple/frazil', '0.1.0')
    """
    package = f"lithops_v{(lithops or lithops_version()).replace('.', '')}_{user_key(user_id)}"
    image, _, tag = runtime.partition(":")
    return f"{package}_{namespace}/{image}".lower() if namespace else f"{package}/{image}".lower(), tag or "latest"
