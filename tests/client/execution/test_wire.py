import pickle

import pytest

import frazil
from frazil.execution.wire import received, remote
from frazil_functions import errors
from frazil_functions.reading.opening import RaggedError

OURS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.FrazilError)]


def raise_it(error: Exception) -> None:
    raise error


def told(error: Exception) -> BaseException:
    outcome = received(3, "read", remote(pickle.dumps(raise_it))(pickle.dumps(error)))
    assert outcome.error is not None
    return outcome.error


@pytest.mark.parametrize("error", OURS, ids=lambda error: error.__name__)
def test_an_error_of_ours_arrives_as_what_it_was_and_says_whether_to_try_again(
    error: type[errors.FrazilError],
) -> None:
    arrived = told(error("s3://b/a.nc cannot be read"))
    assert (type(arrived), str(arrived)) == (error, "s3://b/a.nc cannot be read")
    assert isinstance(arrived, errors.FrazilError)
    assert arrived.transient == error.transient


@pytest.mark.parametrize("error", OURS, ids=lambda error: error.__name__)
def test_every_error_of_ours_can_be_caught_by_a_public_name(error: type[errors.FrazilError]) -> None:
    assert getattr(frazil, error.__name__) is error


def test_a_narrower_error_arrives_as_the_one_that_is_known_everywhere() -> None:
    assert type(told(RaggedError("rows"))) is errors.SourceError


def test_an_unknown_error_arrives_as_one_of_the_backend() -> None:
    arrived = told(MemoryError("7 GiB"))
    assert type(arrived) is errors.BackendError
    assert arrived.transient
    assert "failed: MemoryError: 7 GiB" in str(arrived)
