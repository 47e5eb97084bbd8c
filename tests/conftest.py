"""Options of the whole suite, and what several of its parts stand on."""

import gc
from collections.abc import Iterator

import hypothesis
import pytest

from frazil.execution.opening import import_lithops

from .aws.local import LocalAws, started
from .aws.policies import missing

# Tests that hold Frazil against Lithops' own code import that at their top; as Frazil does, it has to be before them.
import_lithops()

# Speed is measured elsewhere; a busy machine must fail no test.
hypothesis.settings.register_profile("frazil", deadline=None)
hypothesis.settings.load_profile("frazil")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every",
        type=int,
        default=8,
        metavar="N",
        help="of tests that kill or overtake at each of many requests, try every N-th; 1 for all (just exhaustive)",
    )


@pytest.fixture(scope="session")
def every(request: pytest.FixtureRequest) -> int:
    """How many requests to go on by, where a test could take each."""
    return int(request.config.getoption("--every"))


@pytest.fixture(scope="session")
def shared_aws() -> Iterator[LocalAws]:
    """A local AWS for the whole session; see `aws`."""
    if why := missing():
        pytest.skip(why)
    with started() as running:
        yield running


@pytest.fixture
def aws(shared_aws: LocalAws) -> LocalAws:
    """A local AWS that nothing has been asked of yet: no functions run, counters are at zero."""
    shared_aws.reset()
    return shared_aws


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No thread collects garbage meanwhile.

    A server in this process might: h5py's garbage waits for a lock that whoever reads HDF5 holds, and that one waits
    for the server.
    """
    gc.disable()
    yield
    gc.enable()
