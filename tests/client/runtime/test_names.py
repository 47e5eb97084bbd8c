"""What Lithops computes, and what is computed here, are the same."""

import lithops
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lithops.constants import JOBS_PREFIX, RUNTIMES_PREFIX
from lithops.serverless.backends.aws_lambda.aws_lambda import AWSLambdaBackend
from lithops.storage.storage import InternalStorage

from frazil.runtime import names

_words = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
_users = st.from_regex(r"A[A-Z]{3}[A-Z0-9]{4,17}(:[a-z0-9@.-]{1,20})?", fullmatch=True)


def backend(user_id: str, namespace: str | None) -> AWSLambdaBackend:
    """Lithops' own, with what its constructor would set, less the connection."""
    made = AWSLambdaBackend.__new__(AWSLambdaBackend)
    made.name, made.region, made.namespace = "aws_lambda", "eu-central-1", namespace
    made.user_key = user_id.split(":", maxsplit=1)[0][-4:].lower()
    package = f"lithops_v{lithops.__version__.replace('.', '')}_{made.user_key}"
    made.package = f"{package}_{namespace}" if namespace else package
    return made


@given(image=_words, tag=st.none() | _words, memory=st.integers(128, 10240), user=_users, space=st.none() | _words)
def test_functions_images_and_metadata_are_named_as_lithops_names_them(
    image: str, tag: str | None, memory: int, user: str, space: str | None
) -> None:
    runtime = image if tag is None else f"{image}:{tag}"
    of = backend(user, space)
    function = names.function_name(runtime, memory, user_id=user, namespace=space)
    assert function == of._format_function_name(runtime, memory)  # noqa: SLF001 - Lithops has no public name for it
    key = of.get_runtime_key(runtime, memory)
    _, _, stored = InternalStorage._runtime_meta_refs(InternalStorage.__new__(InternalStorage), key)  # noqa: SLF001 - Lithops has no public name for it
    assert names.metadata_key("eu-central-1", function) == stored
    repository, found = names.image_repository(runtime, user_id=user, namespace=space)
    assert (repository, found) == (of._format_repo_name(runtime), tag or "latest")  # noqa: SLF001 - Lithops has no public name for it


def test_prefixes_and_version_are_those_of_lithops() -> None:
    assert (names.JOBS, names.METADATA) == (JOBS_PREFIX, RUNTIMES_PREFIX)
    assert names.lithops_version() == lithops.__version__


@pytest.mark.parametrize("memory", [512, 1769])
def test_each_memory_size_is_a_function_of_its_own(memory: int) -> None:
    one, other = (names.function_name("frazil:0.1.0", size, user_id="AIDAEXAMPLE") for size in (memory, memory + 1))
    assert one != other
