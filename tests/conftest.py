"""Options of the whole suite."""

import pytest


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
