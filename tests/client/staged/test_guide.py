"""What docs/staged-writer.md shows is what happens."""

import re
from pathlib import Path

import icechunk
import pytest
import xarray as xr

GUIDE = Path(__file__).parents[3] / "docs" / "staged-writer.md"


def test_the_guide_s_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, GUIDE.name, "exec"), names)  # noqa: S102 - the examples are ours
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage("staged.icechunk"))
    messages = [one.message for one in repo.ancestry(branch="main")]
    assert messages[:3] == ["noise", "twelve more days", "twelve days"]
    session = repo.readonly_session(
        snapshot_id=next(one.id for one in repo.ancestry(branch="main") if "more" in one.message)
    )
    found = xr.open_zarr(session.store, consolidated=False, chunks=None)
    assert found["tas"].shape == (24, 3)
    assert (found["tas"] == 1).all()
