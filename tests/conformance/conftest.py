"""What Xarray's own test-suite needs of a pytest configuration, beside what is in its package."""

import pytest

# Markers that Xarray's suite carries; they are looked at when it is imported.
_MARKERS = (
    "flaky: of Xarray's suite; not looked at",
    "network: of Xarray's suite; not looked at",
    "mypy: of Xarray's suite; not looked at",
    "asyncio: of Xarray's suite; a test of a coroutine",
    "skip_if_param: of Xarray's suite; not for a parameter of a certain value",
    "slow_hypothesis: of Xarray's suite; not looked at",
    "skip_with_dask_array: of Xarray's suite; not for a dask array",
)


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
