"""frazil validate, as a person and a script see it."""

import json
from pathlib import Path

import pytest
import zarr

import frazil
from frazil.cli import main

from .test_against import change


@pytest.fixture
def archive(files: list[str], target: Path, serial: frazil.SerialExecutor) -> str:
    frazil.convert(files, target, chunks={"time": 4}, executor=serial)
    return str(target)


def test_a_whole_archive_exits_with_0(archive: str, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", archive, "--full", "--complete", "--backend", "serial", "--against", *files]) == 0
    shown = capsys.readouterr()
    assert "tas: float32 (time 24, lat 4, lon 5); 6 of 6 write units stored; 0 to 2334, 0.0% missing" in shown.out
    assert "No faults (every chunk decoded, 480 values compared with files" in shown.out
    assert shown.err == ""


def test_faults_exit_with_1_and_are_listed(archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    def alter(root: zarr.Group) -> None:
        root["tas"].update_attributes({"bounds": "nothing"})
        root["tas"][8:16] = float("nan")

    change(Path(archive), alter)
    assert main(["validate", archive, "--backend", "serial"]) == 1
    shown = capsys.readouterr()
    assert "    time 8:16 empty (2000-01-01 08:00:00 to 2000-01-01 15:00:00)\n" in shown.out
    assert "Fault: tas: its attribute 'bounds' names 'nothing'" in shown.out
    assert shown.err == f"frazil: {archive} has faults (1)\n"
    assert main(["validate", archive, "--complete", "--json", "--backend", "serial"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert [(fault["kind"], fault["array"]) for fault in found["faults"]] == [("attribute", "tas"), ("coverage", "tas")]
    assert found["arrays"][-1]["path"] == "time"
    assert {"snapshot_id", "group", "notes", "full", "compared", "seconds"} <= found.keys()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--variables", "taz"], "no variable 'taz' (--variables); did you mean 'tas'?"),
        (["--branch", "mian"], "did you mean 'main'?"),
        (["--branch", "main", "--snapshot", "x"], "name the one to validate"),
        (["--against", "nothing.nc"], "nothing.nc does not exist"),
        (["--against"], "no files were named to compare with (--against)"),
        (["--against", ""], "no files were named to compare with (--against)"),
        (["--fill"], "--fill"),
    ],
)
def test_bad_input_exits_with_2(
    archive: str, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["validate", archive, "--backend", "serial", *options]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.out == ""


def test_nothing_is_written(archive: str, tree: object) -> None:
    assert callable(tree)
    before = tree(Path(archive).parent)
    assert main(["validate", archive, "--full", "--quiet", "--json", "--backend", "serial"]) == 0
    assert tree(Path(archive).parent) == before


def test_references_are_counted_and_followed_into_a_container(
    tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "values.bin").write_bytes(bytes(range(64)))
    session = frazil.open_repository(target, virtual_containers=folder).writable_session("main")
    zarr.create_array(
        session.store,
        name="x",
        shape=(64,),
        chunks=(16,),
        dtype="u1",
        compressors=None,
        dimension_names=("y",),
        attributes={},
    )
    for at in range(3):
        session.store.set_virtual_ref(f"x/c/{at}", f"file://{folder}/values.bin", offset=16 * at, length=16)
    session.commit("refer")
    assert main(["validate", str(target), "--container", str(folder), "--backend", "serial"]) == 0
    shown = capsys.readouterr().out
    assert "x: uint8 (y 64); 3 of 4 write units stored (0 native, 3 by reference to 1 file, 1 missing)" in shown
    assert "a sample decoded, 1 file referred to" in shown
    assert main(["validate", str(target), "--backend", "serial"]) == 1
    shown = capsys.readouterr().out
    assert f"Authorise it (--container file://{folder}/)" in shown
    assert main(["validate", str(target), "--container", "s3://other/", "--backend", "serial"]) == 2
    assert "s3://other/" in capsys.readouterr().err
