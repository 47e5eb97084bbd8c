import inspect

import pytest

from frazil_functions import errors
from frazil_functions.errors import FrazilError, InvalidInputError, SourceError, UnreachableSourceError

EVERY = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, FrazilError)]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_only_what_may_pass_is_transient(error: type[FrazilError]) -> None:
    assert error.transient == (error.__name__ in {"UnreachableSourceError", "BackendError"})


def test_a_source_that_is_unreachable_was_not_refused() -> None:
    assert issubclass(UnreachableSourceError, SourceError)
    assert (SourceError.exit_code, InvalidInputError.exit_code, UnreachableSourceError.exit_code) == (2, 2, 1)
