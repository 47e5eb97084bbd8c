"""`--config`: a job file and the environment give what the command line does not, and contradictions are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import pytest
import xarray as xr
import yaml

import frazil
from frazil.cli import main

from .hourly import read, series

type Job = Callable[..., Path]
type Said = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _serial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAZIL_BACKEND", "serial")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job file beside two NetCDF files; `None` leaves a key out."""
    for number in range(2):
        series(number * 12, number * 12 + 12).to_netcdf(tmp_path / f"{number}.nc")

    def write(name: str = "job.yaml", **keys: Any) -> Path:
        told = {"sources": "*.nc", "repository": "archive", **keys}
        path = tmp_path / name
        path.write_text(yaml.safe_dump({key: value for key, value in told.items() if value is not None}))
        return path

    return write


def plan(said: Said, *arguments: object) -> frazil.Plan:
    assert main(["plan", *map(str, arguments), "--json"]) == 0, said.readouterr().err
    return frazil.Plan.from_json(said.readouterr().out)


def refusal(said: Said, *arguments: object) -> str:
    """What a command that ends with 2 says, having written nothing."""
    assert main([*map(str, arguments)]) == 2
    return said.readouterr().err


def unit(plan: frazil.Plan) -> int:
    return next(grid.unit[0] for grid in plan.grids if grid.array == "tas")


def message(repository: Path, branch: str = "main") -> str:
    return next(frazil.open_repository(repository, create=False).ancestry(branch=branch)).message


def test_a_file_alone_reproduces_a_run(job: Job, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    path = job(chunks={"time": 4}, message="Of {job_start:%Y}", verify="full", run_id="one", retry={"attempts": 1})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["convert", "--config", "../job.yaml", "--job-start", "2001-02-03", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["run_id"], first["verified"] == first["regions"]) == ("one", True)
    assert message(tmp_path / "archive") == "Of 2001"
    xr.testing.assert_identical(read(tmp_path / "archive"), xr.decode_cf(series(0, 24)))
    assert main(["convert", "--config", str(path), "--group", "again", "--run-id", "two", "--json"]) == 0
    assert message(tmp_path / "archive").startswith("Of 20")  # the time that it was started
    assert message(tmp_path / "archive") != "Of 2001"


def test_the_command_line_wins_over_the_file_and_that_over_the_environment(
    job: Job, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAZIL_CHUNKS", "time=2")
    monkeypatch.setenv("FRAZIL_BRANCH", "main")
    monkeypatch.setenv("FRAZIL_GROUP", "")
    assert unit(plan(capsys, "--config", job())) == 2
    assert unit(plan(capsys, "--config", job(chunks={"time": 4}))) == 4
    assert unit(plan(capsys, "--config", job(chunks={"time": 4}), "--chunks", "time=8")) == 8
    assert plan(capsys, "--config", job(group="a")).target.group == "a"
    assert plan(capsys, "--config", job(group="a"), "--group", "").target.group == ""
    monkeypatch.setenv("FRAZIL_GROUP", "b")
    assert plan(capsys, "--config", job()).target.group == "b"
    assert plan(capsys, "--config", job(group="a")).target.group == "a"
    assert plan(capsys, "--config", job(group="")).target.group == ""  # said, though it is the default


def test_what_a_file_turns_on_the_command_line_turns_off(job: Job, capsys: Said) -> None:
    """Latitudes that run the other way are placed one by one, unless the command line forbids it."""
    path = job()
    assert main(["convert", "--config", str(path)]) == 0
    for number in range(2):
        source = path.parent / f"{number}.nc"
        with xr.open_dataset(source) as dataset:
            flipped = dataset.load().isel(lat=slice(None, None, -1))
        flipped.to_netcdf(source)
    path = job(mode="region", reorder=True)
    capsys.readouterr()
    assert plan(capsys, "--config", path).region_count
    assert "--reorder" in refusal(capsys, "plan", "--config", path, "--no-reorder")


def test_every_kind_of_option_can_stand_in_the_environment(
    job: Job, capsys: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "CONFIG": str(job(sources="{job_start:%H}.nc", repository=None)),
        "JOB_START": "2026-01-01T00:00",
        "REPLICA": f"{tmp_path}/one {tmp_path}/two",
        "CONTAINER": f"s3://raw/=region=eu-west-1,anonymous=true {tmp_path}",
        "ACCEPT": "units,drift",
        "VARIABLES": "tas",
        "WORKERS": "3",
        "REORDER": "true",
    }.items():
        monkeypatch.setenv(f"FRAZIL_{name}", value)
    (tmp_path / "0.nc").rename(tmp_path / "00.nc")
    made = plan(capsys, tmp_path / "archive")
    assert len(made.target.replicas) == 2
    assert [one.spelled for one in made.target.containers] == [
        f"file://{tmp_path}/",
        "s3://raw/=region=eu-west-1,anonymous=true",
    ]
    assert made.template.sizes["time"] == 12


def test_a_file_says_options_and_the_command_line_the_places(job: Job, tmp_path: Path, capsys: Said) -> None:
    files = [tmp_path / "0.nc", tmp_path / "1.nc"]
    target = tmp_path / "archive"
    whole = plan(capsys, *files, target, "--config", job(sources=None, repository=None))
    for places in (
        plan(capsys, *files, "--config", job(sources=None)),
        plan(capsys, *files, target, "--config", job(sources=None)),
        plan(capsys, target, "--config", job(repository=None)),
        plan(capsys, target, "--config", job()),
        plan(capsys, *files, target, "--config", job()),  # what a shell makes of the file's glob
        plan(capsys, tmp_path / "." / "*.nc", f"{target}/", "--config", job()),
    ):
        assert places.work_hash == whole.work_hash


@pytest.mark.parametrize(
    ("keys", "paths", "words"),
    [
        ({}, ["other"], ("the repository in", "archive", "other", "differ")),
        ({}, ["0.nc", "archive"], ("sources in", "*.nc", "0.nc", "differ")),
        ({}, ["1.nc", "0.nc", "archive"], ("sources in", "differ")),
        ({}, ["*.nc", "other"], ("the repository in", "differ")),
        ({"repository": "s3://b/a?sig=hidden"}, ["*.nc", "archive"], ("s3://b/a and ", "archive")),
        ({"sources": None}, [], ("names no sources",)),
        ({"sources": None}, ["archive"], ("names no sources",)),
        ({"repository": None}, [], ("names no repository",)),
        ({"repository": None}, ["1.nc", "archive"], ("sources in", "differ")),
        ({"chunk": 3}, [], ("no key 'chunk'", "'chunks'")),
        ({"chunks": {"time": "4"}}, [], ("chunks.time is '4', text",)),
        ({"mode": "apend"}, [], ("mode cannot be 'apend'", "'append'")),
        ({"region": {"time": [0, 3]}}, [], ("region means something with mode 'region' alone", "region comes from")),
        ({"on_overlap": "skip"}, [], ("on_overlap means something", "on_overlap comes from", "job.yaml")),
        ({"pack": True, "pack_range": {"tas": [9, 1]}}, [], ("the range of 'tas' is 9 to 1", "pack_range comes from")),
        ({"mode": "append", "chunks": {"time": 4}}, [], ("keeps the chunks", "chunks comes from", "mode comes from")),
        ({"lithops_config": "none.yaml", "backend": "localhost"}, [], ("no Lithops configuration file", "none.yaml")),
        ({"run_id": "a", "run_dir": "runs/b"}, [], ("'a'", "'b'", "leave out one of the two")),
        ({"group": "{job_start:%Q}"}, [], ("group has '%Q'",)),
    ],
)
def test_what_contradicts_is_refused_and_nothing_written(
    keys: dict[str, Any], paths: list[str], words: tuple[str, ...], job: Job, tmp_path: Path, capsys: Said
) -> None:
    path = job(**keys)
    before = sorted(tmp_path.rglob("*"))
    said = refusal(capsys, "convert", *(tmp_path / one for one in paths), "--config", path)
    for word in words:
        assert word in said
    assert "hidden" not in said
    assert sorted(tmp_path.rglob("*")) == before


def test_an_option_of_the_command_line_against_one_of_the_file_names_the_file(job: Job, capsys: Said) -> None:
    said = refusal(capsys, "plan", "--config", job(mode="append"), "--chunks", "time=4")
    assert "mode comes from" in said
    assert "chunks comes from" not in said
    assert "comes from" not in refusal(capsys, "plan", "--config", job(), "--on-overlap", "skip")
    defaults = {"on_overlap": "error", "mode": "create"}  # it says what would be done anyway
    assert "comes from" not in refusal(capsys, "plan", "--config", job(**defaults), "--on-overlap", "skoop")
    assert "comes from" not in refusal(capsys, "plan", "--config", job(**defaults), "--region", "time=0:1")


@pytest.mark.parametrize(
    ("keys", "options", "words"),
    [
        ({"mode": "create"}, ["--region", "time=0:4"], ("region means something with mode 'region'",)),
        ({"mode": "append"}, ["--region", "time=0:4"], ("region means something", "mode comes from")),
        ({"mode": "append"}, ["--compression", "zstd:3"], ("keeps the compression", "mode comes from")),
        ({"mode": "region"}, ["--shards", "time=8"], ("keeps the chunks", "mode comes from")),
        ({"mode": "region"}, ["--on-overlap", "skip"], ("on_overlap means something", "mode comes from")),
        ({"mode": "append"}, ["--pack", "tas=int16"], ("mode 'append' stores values", "mode comes from")),
        ({"mode": "region"}, ["--keepbits", "tas=7"], ("mode 'region' stores values", "mode comes from")),
        ({}, ["--pack-range", "tas=0:400"], ("not packed", "add --pack tas=int16")),
        ({"keepbits": {"tas": 7}}, ["--pack", "tas=int16"], ("one or the other", "keepbits comes from")),
        ({"pack_range": {"tas": [0, 400]}}, [], ("not packed", "pack_range comes from")),
        ({}, ["--pack-overflow", "clip"], ("pack some (--pack)",)),
        ({}, ["--on-attrs", "keep"], ("on_attrs means something",)),
        ({"on_attrs": "keep"}, ["--mode", "overwrite"], ("on_attrs means something", "on_attrs comes from")),
        ({"chunks": {"time": 4}}, ["--mode", "append"], ("keeps the chunks", "chunks comes from")),
        ({"compression": "small"}, ["--mode", "region"], ("keeps the compression", "compression comes from")),
        ({"missing_check_vars": ["tas"]}, [], ("missing_check_vars", "missing_check_vars comes from")),
        ({"run_dir": "runs/b"}, ["--run-id", "a"], ("'a'", "'b'", "run_dir comes from")),
    ],
)
def test_options_of_both_places_that_mean_nothing_together_are_refused_and_nothing_written(
    keys: dict[str, Any], options: list[str], words: tuple[str, ...], job: Job, tmp_path: Path, capsys: Said
) -> None:
    path = job(**keys)
    before = sorted(tmp_path.rglob("*"))
    said = refusal(capsys, "convert", "--config", path, *options)
    for word in words:
        assert word in said
    assert sorted(tmp_path.rglob("*")) == before


def test_one_file_serves_the_commands_that_fill_a_group_and_look_at_it(
    job: Job, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys that mean nothing to a command say nothing to it: an append has no chunks, a template no gaps."""
    monkeypatch.chdir(tmp_path / "..")  # paths of the file are relative to its folder
    path = job(group="a", chunks={"time": 12}, variables=["tas"], gaps="fill", message="Of the file")
    config = ("--config", str(path))
    assert main(["analyze", *config, "--json"]) == 0
    assert [one["sizes"]["time"] for one in json.loads(capsys.readouterr().out)["variables"]] == [24]
    ends = ("--global-start", "2000-01-01T00", "--global-end", "2000-01-01T23")
    assert main(["create-template", *config, *ends]) == 0
    assert main(["validate", *config, "--complete"]) == 1
    assert main(["write-region", *config]) == 0
    assert message(tmp_path / "archive") == "Of the file"
    xr.testing.assert_identical(read(tmp_path / "archive", group="a")["tas"], xr.decode_cf(series(0, 24))["tas"])
    series(24, 36).to_netcdf(tmp_path / "2.nc")
    assert main(["append", *config, "--on-overlap", "skip"]) == 0
    assert read(tmp_path / "archive", group="a").sizes["time"] == 36
    capsys.readouterr()
    assert main(["validate", *config, "--complete", "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert (checked["group"], [one["path"] for one in checked["arrays"]]) == ("a", ["tas"])
    again = ("validate", "--snapshot", checked["snapshot_id"], "--config")
    assert main([*again, str(job(branch="main"))]) == 0  # the command line wins


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["append", "0.nc", "archive"], ("sources in", "0.nc", "differ")),
        (["write-region", "*.nc", "other"], ("the repository in", "other", "differ")),
        (["validate", "other"], ("the repository in", "other")),
        (["analyze", "0.nc"], ("sources in", "0.nc", "differ")),
        (["create-template", "0.nc", "other", "--global-start", "0", "--global-end", "1"], ("the repository", "other")),
        (["create-template", "0.nc", "1.nc", "archive", "--global-start", "0", "--global-end", "1"], ("is one file",)),
        (["create-template", "--global-start", "0", "--global-end", "1", "--mode", "append"], ("append", "create")),
    ],
)
def test_every_command_refuses_a_file_that_names_another_place(
    command: list[str], words: tuple[str, ...], job: Job, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = job()
    before = sorted(tmp_path.rglob("*"))
    said = refusal(capsys, *command, "--config", path)
    for word in words:
        assert word in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["append", "write-region", "analyze", "validate", "create-template"])
def test_a_command_without_places_says_that_a_job_file_can_name_them(command: str, capsys: Said) -> None:
    ends = ["--global-start", "0", "--global-end", "1"] if command == "create-template" else []
    said = refusal(capsys, command, *ends)
    assert f"frazil {command} " in said
    assert "--config FILE" in said


def test_a_template_is_made_of_the_first_source_and_not_in_a_mode_that_makes_none(
    job: Job, tmp_path: Path, capsys: Said
) -> None:
    ends = ("--global-start", "2000-01-01T00", "--global-end", "2000-01-01T23")
    said = refusal(capsys, "create-template", "--config", job(mode="region"), *ends)
    assert "region" in said
    assert "mode" in said
    assert not (tmp_path / "archive").exists()
    one = ("create-template", str(tmp_path / "1.nc"), "--config", str(job(mode="region")), "--mode", "create")
    assert main([*one, *ends]) == 0
    assert read(tmp_path / "archive").sizes["time"] == 24


@pytest.mark.parametrize(
    ("backend", "code", "word"),
    [("nope", 2, "'nope'"), ("aws_lamda", 2, "did you mean 'aws_lambda'"), ("aws_lambda", 2, "section is mandatory")],
)
@pytest.mark.parametrize(
    "command",
    ["plan", "convert", "apply", "resume", "append", "write-region", "analyze", "validate"],
)
def test_a_backend_that_cannot_be_used_is_refused_before_anything_is_made(
    command: str, backend: str, code: int, word: str, job: Job, tmp_path: Path, capsys: Said
) -> None:
    """Even for work that is so small that this process would do it."""
    path, kept, target = job(backend=backend), tmp_path / "plan.json", str(tmp_path / "archive")
    if command == "apply":
        assert main(["plan", "--config", str(job("good.yaml")), "--out", str(kept)]) == 0
    before = sorted(tmp_path.rglob("*"))
    arguments = {"apply": [str(kept), "--config", str(path)], "resume": [target, "a", "--backend", backend]}
    assert main([command, *arguments.get(command, ["--config", str(path)])]) == code
    assert word in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("text", "says"), [("{[", "is no YAML"), ("- aws", "holds no sections")])
def test_a_file_for_lithops_that_cannot_be_meant_is_refused_by_its_name(
    text: str, says: str, job: Job, tmp_path: Path, capsys: Said
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    words = [str(tmp_path / "none.nc"), str(tmp_path / "archive"), "--backend", "aws_lambda"]
    assert main(["convert", *words, "--lithops-config", str(file)]) == 2
    said = capsys.readouterr().err
    assert f"{file} {says}" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "archive").exists()


def test_a_backend_of_python_that_is_not_configured_leaves_nothing(tmp_path: Path, job: Job) -> None:
    path = job().parent / "*.nc"
    before = sorted(tmp_path.rglob("*"))
    for backend in ("nope", "aws_lambda"):
        with (
            frazil.LithopsExecutor(backend=backend) as executor,
            pytest.raises(frazil.InvalidInputError, match=backend),
        ):
            frazil.convert(path, tmp_path / "archive", executor=executor)
    executor = frazil.LithopsExecutor(config={"lithops": {"backend": "nope"}})
    with executor, pytest.raises(frazil.InvalidInputError, match="'nope'"):
        frazil.convert(path, tmp_path / "archive", executor=executor, workers=1)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("workers", 10**23), ("workers", 100_001), ("start_deadline", "nan"), ("call_timeout", "inf"), ("backoff", "nan")],
)
def test_numbers_that_nobody_means_are_refused(
    name: str, value: object, job: Job, capsys: Said, tmp_path: Path
) -> None:
    option = "--" + name.replace("_", "-")
    for backend in ("serial", "localhost"):
        said = refusal(capsys, "convert", "--config", job(), option, value, "--backend", backend)
        assert ("--workers is" if name == "workers" else name) in said
    keys = {name: value} if name == "workers" else {"retry": {name: float(str(value))}}
    assert name in refusal(capsys, "plan", "--config", job(**keys))
    assert not (tmp_path / "archive").exists()


def test_workers_of_python_have_the_same_bound(job: Job, tmp_path: Path, serial: frazil.SerialExecutor) -> None:
    path = job().parent / "*.nc"
    assert frazil.plan(path, tmp_path / "archive", workers=100_000, executor=serial).region_count
    with pytest.raises(frazil.InvalidInputError, match="workers cannot be 100001"):
        frazil.plan(path, tmp_path / "archive", workers=100_001, executor=serial)


def test_a_variable_that_is_nearly_an_options_is_warned_of(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    path = str(job())
    for name in ("BACKND", "REPLICAS", "RUN_ID", "LOG_FORMAT", "WORKERS", "SOURCE", "FAULT_MARK", "IMAGE"):
        value = {"LOG_FORMAT": "text", "WORKERS": "2"}.get(name, "a-value")
        monkeypatch.setenv(f"FRAZIL_{name}", value)
    assert main(["plan", "--config", path]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "did you mean" in line]
    assert len(said) == 2
    assert "FRAZIL_BACKND" in said[0]
    assert "FRAZIL_BACKEND?" in said[0]
    assert "FRAZIL_REPLICA?" in said[1]
    assert "a-value" not in "".join(said)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("GAPS", "fil", ('"fil"', "FRAZIL_GAPS", "the environment", "fill")),
        ("CHUNKS", "time", ("FRAZIL_CHUNKS", "DIMENSION=LENGTH")),
        ("WORKERS", "0", ("at least one function", "workers comes from FRAZIL_WORKERS")),
        ("JOB_START", "noon", ("FRAZIL_JOB_START", "'noon'", "ISO 8601")),
        ("CONFIG", "none.toml", ("none.toml", "no such file")),
    ],
)
def test_what_the_environment_says_wrongly_is_refused_by_its_name(
    name: str, value: str, words: tuple[str, ...], job: Job, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"FRAZIL_{name}", value)
    config = [] if name == "CONFIG" else ["--config", job()]
    said = refusal(capsys, "plan", *config)
    for word in words:
        assert word in said


def test_apply_takes_from_the_file_how_a_plan_is_run(job: Job, tmp_path: Path, capsys: Said) -> None:
    path, kept = job(message="Applied"), tmp_path / "plan.json"
    assert main(["plan", "--config", str(path), "--out", str(kept)]) == 0
    assert main(["apply", str(kept), "--config", str(path)]) == 0
    assert message(tmp_path / "archive") == "Applied"
    capsys.readouterr()
    assert "the repository in" in refusal(capsys, "apply", kept, "--config", job(repository="other"))


def test_a_worker_finds_its_run_where_the_file_says(job: Job, tmp_path: Path, capsys: Said) -> None:
    path = job(run_dir="runs/{job_start:%Y}", run_id="2001")
    assert main(["worker", "--config", str(path), "--total", "1", "--index", "0", "--job-start", "2001-01-01"]) == 0
    assert (tmp_path / "runs" / "2001").is_dir()
    assert icechunk.Repository.exists(icechunk.local_filesystem_storage(str(tmp_path / "archive")))
    worker = ("worker", "--total", 1, "--index", 0, "--job-start", "2001-01-01", "--config")
    assert "leave out one of the two" in refusal(capsys, *worker, path, "--run-dir", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert "nobody says" in refusal(capsys, *worker, job("other.yaml"))
