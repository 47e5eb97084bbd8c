"""Client, metadata and function are compared; what differs is named, with the cure."""

from collections.abc import Callable

import pytest

from frazil.runtime.check import check
from frazil.runtime.configuration import LambdaRuntime
from frazil.runtime.metadata import own_versions
from frazil_functions.errors import BackendError

from .conftest import Account


def test_what_agrees_is_no_problem(account: Account, deployed: Callable[..., LambdaRuntime]) -> None:
    found = check(deployed(), account.connection, own_versions)
    assert found.problems == ()
    assert found.client == found.answered == own_versions()


@pytest.mark.parametrize("name", ["frazil", "icechunk", "lithops"])
def test_metadata_of_other_versions_is_a_problem(
    name: str, account: Account, deployed: Callable[..., LambdaRuntime]
) -> None:
    found = check(deployed(**{name: "0.0.7"}), account.connection, own_versions)
    assert any(f"{name} 0.0.7 in the function and {own_versions()[name]} here" in one for one in found.problems)
    assert any("metadata is not the function's" in one and "runtime deploy" in one for one in found.problems)


@pytest.mark.parametrize("name", ["frazil", "icechunk", "python"])
def test_a_function_of_other_versions_is_a_problem_whatever_its_metadata_says(
    name: str, account: Account, deployed: Callable[..., LambdaRuntime]
) -> None:
    found = check(deployed(), account.connection, lambda: own_versions() | {name: "3.1.7"})
    assert any(f"answers with other versions ({name} 3.1.7 in the function" in one for one in found.problems)


def test_another_patch_of_python_is_none(account: Account, deployed: Callable[..., LambdaRuntime]) -> None:
    major_minor = ".".join(own_versions()["python"].split(".")[:2])
    patched = own_versions() | {"python": f"{major_minor}.99"}
    assert check(deployed(), account.connection, lambda: patched).problems == ()


def test_a_function_without_frazil_is_a_problem(account: Account, deployed: Callable[..., LambdaRuntime]) -> None:
    found = check(deployed(), account.connection, lambda: own_versions() | {"frazil": "none"})
    assert any("frazil none in the function" in one for one in found.problems)


def test_a_function_that_does_not_answer_is_a_problem(account: Account, deployed: Callable[..., LambdaRuntime]) -> None:
    def ask() -> dict[str, str]:
        raise BackendError("nothing came back")

    found = check(deployed(), account.connection, ask)
    assert found.answered == {}
    assert any("nothing came back" in one for one in found.problems)


def test_a_function_without_metadata_is_named_with_the_cure(account: Account) -> None:
    with pytest.raises(BackendError, match=r"no metadata of lithops-worker-mple-380-.*frazil runtime deploy"):
        check(account.runtime(), account.connection, own_versions)


def test_metadata_without_a_function_is_named_with_the_cure(
    account: Account, deployed: Callable[..., LambdaRuntime]
) -> None:
    runtime = deployed()
    account.lose_functions()
    with pytest.raises(BackendError, match=r"no function lithops-worker-mple-380-.*frazil runtime deploy"):
        check(runtime, account.connection, own_versions)
