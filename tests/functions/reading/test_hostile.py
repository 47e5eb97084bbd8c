"""Sources that somebody made to do harm."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

import frazil
from frazil.cli import main

ESCAPE = "\x1b]0;owned\x07\x1b[2J"


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def write_source(path: Path, name: str = "tas") -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for key in ("x", name):
        array = group.create_array(key, shape=(4,), dtype="f8", chunks=(4,), compressors=None)
        array[:] = np.arange(1.0, 5.0)
        array.attrs["_ARRAY_DIMENSIONS"] = ["x"]
    return path


@pytest.mark.parametrize(
    "said",
    [
        {"filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "dtype": "|O", "fill_value": ""},
        {"filters": [{"id": "pickle"}], "dtype": "|O", "fill_value": None},
        {"filters": [{"id": "pickle"}]},
        {"compressor": {"id": "pickle"}},
        {"filters": [{"id": "vlen-utf8"}], "dtype": "|O", "fill_value": "", "compressor": {"id": "pickle"}},
    ],
    ids=["after text", "objects", "filter", "compressor", "compressor of text"],
)
def test_a_zarr_source_cannot_have_code_run_by_its_codec(tmp_path: Path, said: dict[str, object]) -> None:
    source, trap = write_source(tmp_path / "source.zarr"), tmp_path / "sprung"
    metadata = source / "tas" / ".zarray"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | said))
    (source / "tas" / "0").write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(frazil.FrazilError, match=r"cannot be (opened|read)"):
        frazil.convert(source, tmp_path / "archive", append_dim="x", executor=frazil.SerialExecutor())
    assert not trap.exists()
    pickle.loads((source / "tas" / "0").read_bytes())  # noqa: S301
    assert trap.exists()  # so the trap is one


@pytest.mark.parametrize("options", [(), ("--json",), ("-v",), ("-vv",)], ids=["plan", "json", "v", "vv"])
def test_names_in_a_source_cannot_drive_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    source = write_source(tmp_path / "source.zarr", f"tas{ESCAPE}")
    arguments = [str(source), str(tmp_path / "archive"), "--append-dim", "x", "--backend", "serial", *options]
    main(["plan", *arguments])
    plan = frazil.plan(source, tmp_path / "archive", append_dim="x", executor=frazil.SerialExecutor())
    assert "\x1b" not in repr(plan)
    main(["convert", *arguments])
    main(["validate", str(tmp_path / "archive"), "--backend", "serial"])
    main(["analyze", str(source), "--append-dim", "x", "--backend", "serial"])
    told = capsys.readouterr()
    assert "owned" in told.out + told.err
    assert "\x1b" not in told.out + told.err
    assert "\x07" not in told.out + told.err


def test_words_in_a_source_s_attributes_cannot_drive_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_source(tmp_path / "source.zarr")
    zarr.open_group(source)["x"].attrs["units"] = f"days since {ESCAPE}"
    main(["convert", str(source), str(tmp_path / "archive"), "--append-dim", "x", "--backend", "serial"])
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
