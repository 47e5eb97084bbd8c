"""Indexed workers as Kubernetes runs them: real processes that share a run, are killed, and are started again."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr

import frazil.job
from frazil.cli import main
from frazil.jobfile import job_start_of, load
from frazil_functions.locations import locate, storage_of
from frazil_functions.rundir import RunDirectory
from frazil_functions.tasks import Receipt

from .hourly import read, series

VARIABLES = 8
"""A region belongs to one array, so these are as many regions, and as many tasks as there can be."""

RUN = "nightly"

SMALL = """
import frazil.job
real_options = frazil.job.Options
frazil.job.Options = lambda **options: real_options(**options, task_bytes=1)
"""
"""Few bytes are a task, so that small files make several."""


@pytest.fixture(autouse=True)
def _small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frazil.job, "Options", partial(frazil.job.Options, task_bytes=1))


def whole(start: int = 0, stop: int = 24) -> xr.Dataset:
    one = series(start, stop)
    return one.drop_vars("tas").assign({f"v{number}": one.tas + np.float32(number) for number in range(VARIABLES)})


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job file of two source files beside it."""
    (tmp_path / "raw").mkdir()
    for start, stop in [(0, 10), (10, 24)]:
        whole(start, stop).to_netcdf(tmp_path / "raw" / f"{start:02}.nc", engine="netcdf4")
    return write_job(tmp_path)


def write_job(folder: Path, repository: str = "archive.icechunk", **keys: Any) -> Path:
    """`keys` are those of the table [worker], or stand at the top if that has none of the name."""
    table = {"start_deadline": 60, "finish_deadline": 60} | {
        name: keys.pop(name) for name in ("assignment", "start_deadline", "finish_deadline") if name in keys
    }
    top = {"sources": "raw/*.nc", "repository": repository, "workers": 4} | keys
    path = folder / "job.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in top.items()]
    path.write_text(
        "\n".join([*lines, "chunks = { time = 4 }", "[worker]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())])
    )
    return path


def command(job: Path, index: int | None, total: int, run_dir: str = "", *more: str) -> list[str]:
    run_dir = run_dir or str(job.parent / "archive.icechunk.frazil" / RUN)
    numbered = [] if index is None else ["--index", str(index)]
    return ["worker", "--config", str(job), "--run-dir", run_dir, *numbered, "--total", str(total), *more]


def begin(arguments: Sequence[str], program: str = "", **variables: str) -> subprocess.Popen[str]:
    """The command in a process of its own; after some lines of a program."""
    source = f"{SMALL}{program}\nfrom frazil.cli import main\nimport sys\nsys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How it ended, and what it said."""
    with process:
        said, errors = process.communicate(timeout=150)
    return process.returncode, said + errors


def run_all(job: Path, total: int, order: Iterable[int] | None = None, run_dir: str = "", **variables: str) -> None:
    started = [begin(command(job, index, total, run_dir), **variables) for index in (order or range(total))]
    ended = [end(process) for process in started]
    assert [code for code, _ in ended] == [0] * total, ended


def check_published(repository: str | Path, run_dir: str | Path, group: str | None = None, commits: int = 2) -> None:
    """One commit, the right values, and nothing left but what says so."""
    repo = icechunk.Repository.open(storage_of(locate(repository)))
    assert sorted(repo.list_branches()) == ["main"]
    history = list(repo.ancestry(branch="main"))
    assert len(history) == commits
    with xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None, group=group) as found:
        xr.testing.assert_identical(found.load(), xr.decode_cf(whole()))
    directory = RunDirectory(locate(run_dir))
    record = directory.record()
    assert record is not None
    assert record.tasks == 4
    outcome = directory.outcome()
    assert outcome is not None
    assert outcome.snapshots == (history[0].id,)
    assert directory.list_receipts() == []


@pytest.mark.parametrize("assignment", ["contiguous", "spread"])
def test_four_workers_at_once_publish_one_commit(job: Path, assignment: str) -> None:
    job = write_job(job.parent, assignment=assignment)
    run_all(job, 4)
    check_published(job.parent / "archive.icechunk", job.parent / "archive.icechunk.frazil" / RUN)


def test_workers_may_start_in_any_order(job: Path) -> None:
    waiting = [begin(command(job, index, 3)) for index in (2, 1)]
    time.sleep(4)
    assert [process.poll() for process in waiting] == [None, None]
    assert not (job.parent / "archive.icechunk").exists()
    waiting.append(begin(command(job, 0, 3)))
    assert [end(process)[0] for process in waiting] == [0, 0, 0]
    check_published(job.parent / "archive.icechunk", job.parent / "archive.icechunk.frazil" / RUN)


def test_workers_share_a_run_in_s3(job: Path, bucket: Any) -> None:
    job = write_job(job.parent, "s3://raw/archive")
    run_all(job, 3, (2, 0, 1), "s3://raw/archive.frazil/nightly")
    check_published("s3://raw/archive", "s3://raw/archive.frazil/nightly")


class Kubernetes:
    """Starts workers, kills them at random moments, and starts those again that did not end well.

    Parameters
    ----------
    kills
        After how many kills it leaves them alone.
    seed
        Of the moments.
    """

    def __init__(self, kills: int, seed: int) -> None:
        self._kills = kills
        self._random = random.Random(seed)  # noqa: S311 - chance, not secrecy
        self.killed: list[int] = []
        self.codes: list[tuple[int, str]] = []

    def run(self, total: int, start: Callable[[int], subprocess.Popen[str]]) -> None:
        left = list(range(total))
        self._random.shuffle(left)
        running = {index: start(index) for index in left}
        moments = sorted(time.monotonic() + self._random.uniform(1, 3 + self._kills) for _ in range(self._kills))
        while running:
            time.sleep(0.02)
            if moments and time.monotonic() > moments[0]:
                moments.pop(0)
                index = self._random.choice(list(running))
                running[index].kill()
                self.killed.append(index)
            for index, process in list(running.items()):
                if process.poll() is not None:
                    code, said = end(running.pop(index))
                    self.codes.append((code, said))
                    if code != 0:
                        running[index] = start(index)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("where", ["disk", "s3"])
def test_workers_that_are_killed_at_any_moment_publish_one_commit(
    job: Path, bucket: Any, where: str, seed: int
) -> None:
    repository = "s3://raw/archive" if where == "s3" else str(job.parent / "archive.icechunk")
    job = write_job(job.parent, repository)
    run_dir = f"{repository}.frazil/{RUN}"
    cluster = Kubernetes(kills=7, seed=seed)
    cluster.run(4, lambda index: begin(command(job, index, 4, run_dir)))
    assert cluster.killed
    bad = [(code, said) for code, said in cluster.codes if code not in {0, -signal.SIGKILL}]
    assert bad == [], "whoever is killed, the others go on"
    check_published(repository, run_dir)


DIE = """
import os, signal
from {module} import {owner}
real = {owner}.{name}
def dying(*arguments, **options):
    if {after}: real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
{owner}.{name} = dying
"""

MOMENTS = {
    f"{when} {name}": DIE.format(module=f"frazil_functions.{module}", owner=owner, name=name, after=when == "after")
    for module, owner, name, whens in [
        ("rundir", "RunDirectory", "put_plan", ("before", "after")),
        ("runs.publish", "PrivateBranch", "commit_template", ("before", "after")),
        ("rundir", "RunDirectory", "put_fork", ("after",)),
        ("rundir", "RunDirectory", "put_record", ("before", "after")),
        ("rundir", "RunDirectory", "put_receipt", ("before", "after")),
        ("runs.publish", "PrivateBranch", "commit_data", ("before", "after")),
        ("runs.publish", "PrivateBranch", "publish", ("before", "after")),
        ("rundir", "RunDirectory", "put_outcome", ("before", "after")),
        ("rundir", "RunDirectory", "remove_work", ("before",)),
    ]
    for when in whens
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_that_is_killed_at_a_certain_moment_goes_on_from_there(job: Path, moment: str) -> None:

    code, said = end(begin(command(job, 0, 1), MOMENTS[moment]))
    assert code == -signal.SIGKILL, said
    directory = RunDirectory(locate(job.parent / "archive.icechunk.frazil" / RUN))
    receipted = {
        one.region
        for _, receipt in directory.read_receipts(directory.list_receipts())
        if isinstance(receipt, Receipt)
        for one in receipt.regions
    }
    note = (
        "import frazil_functions.runs.worker as w\nreal = w.write_task\n"
        "def noting(task):\n    import sys\n    sys.stderr.write(f'{len(task.regions)} regions\\n')\n"
        "    return real(task)\n"
        "w.write_task = noting"
    )
    code, said = end(begin(command(job, 0, 1), note))
    assert code == 0, said
    told = [int(line.split()[0]) for line in said.splitlines() if line.endswith(" regions")]
    ended = moment in {"after publish", "before put_outcome", "after put_outcome", "before remove_work"}
    assert sum(told) == VARIABLES - len(receipted) if not ended else told == []
    if moment == "after put_outcome":  # what was left is nobody's any more
        assert directory.outcome() is not None
        return
    if moment == "before remove_work":
        return
    check_published(job.parent / "archive.icechunk", directory.location.url)


type Said = pytest.CaptureFixture[str]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_dir_of(job: Path) -> str:
    return str(job.parent / "archive.icechunk.frazil" / RUN)


def test_one_worker_does_it_all_and_the_next_has_nothing_to_do(job: Path, capsys: Said) -> None:
    assert main(command(job, 0, 1, "", "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    assert said.keys() == {"run_id", "index", "total", "snapshot_id", "regions", "bytes"}
    check_published(job.parent / "archive.icechunk", run_dir_of(job))
    before = files_of(job.parent)
    assert main(command(job, 2, 5, "", "--json")) == 0
    again = json.loads(capsys.readouterr().out)
    assert again == said | {"index": 2, "total": 5}
    assert files_of(job.parent) == before


def test_more_workers_than_tasks_do_no_harm(job: Path) -> None:
    for index in range(VARIABLES + 3):
        assert main(command(job, index, VARIABLES + 3)) == 0
    check_published(job.parent / "archive.icechunk", run_dir_of(job))


def test_a_worker_without_an_index_takes_that_of_kubernetes(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    for index in ("0", "1"):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", index)
        assert main(command(job, None, 2, "", "--json")) == 0
        assert json.loads(capsys.readouterr().out)["index"] == int(index)
    check_published(job.parent / "archive.icechunk", run_dir_of(job))


def test_a_given_index_wins_over_that_of_kubernetes(job: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "7")
    assert main(command(job, 0, 1, "", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["index"] == 0


@pytest.mark.parametrize("variable", [None, "", "two", "-1", "1.0"])
def test_a_worker_that_has_no_index_is_refused(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said, variable: str | None
) -> None:
    monkeypatch.delenv("JOB_COMPLETION_INDEX", raising=False)
    if variable is not None:
        monkeypatch.setenv("JOB_COMPLETION_INDEX", variable)
    before = files_of(job.parent)
    assert main(command(job, None, 2)) == 2
    named = f"JOB_COMPLETION_INDEX is {variable!r}, and no number of a worker; give --index"
    assert (named if variable else "give --index, or run it as an indexed Job") in capsys.readouterr().err
    assert files_of(job.parent) == before


@pytest.mark.parametrize(
    ("index", "total", "run_dir", "more", "says"),
    [
        (2, 2, "", [], "there is no worker 2 of 2; they are 0 to 1"),
        (-1, 2, "", [], "there is no worker -1 of 2"),
        (0, 0, "", [], "there are 0 workers"),
        (0, 2, "{}/archive.icechunk/runs/nightly", [], "lies in the repository"),
        (1, 2, "{}/archive.icechunk/runs/nightly", [], "lies in the repository"),
        (1, 2, "{}/archive.icechunk", [], "is the repository itself"),
        (1, 2, "{}/replica.icechunk/runs/nightly", [], "lies in the repository"),
        (1, 2, "{}/runs/-nightly", [], "cannot name a run"),
        (1, 2, "ftp://somewhere/nightly", [], "no storage goes by ftp://"),
        (1, 2, "", ["--job-start", "yesterday"], "'yesterday' is no time in ISO 8601"),
        (1, 2, "", ["--job-start", "2026-13-01"], "is no time in ISO 8601"),
    ],
)
def test_bad_usage_of_any_worker_exits_with_2_and_changes_nothing(
    job: Path, capsys: Said, index: int, total: int, run_dir: str, more: list[str], says: str
) -> None:
    job = write_job(job.parent, replicas=["replica.icechunk"], start_deadline=0.1)
    before = files_of(job.parent)
    assert main(command(job, index, total, run_dir.format(job.parent), *more)) == 2
    assert says in capsys.readouterr().err
    assert files_of(job.parent) == before
    assert not (job.parent / "archive.icechunk").exists()


def test_bad_input_of_the_first_worker_exits_with_2_and_changes_nothing(job: Path, capsys: Said) -> None:
    (job.parent / "raw" / "30.nc").write_bytes(b"no NetCDF at all")
    before = files_of(job.parent)
    assert main(command(job, 0, 2)) == 2
    assert "30.nc" in capsys.readouterr().err
    assert files_of(job.parent) == before


def test_a_wait_ends_at_its_deadline_with_1_and_says_what_was_waited_for(job: Path, capsys: Said) -> None:
    job = write_job(job.parent, start_deadline=0.5, finish_deadline=0.5)
    assert main(command(job, 1, 2)) == 1
    assert "waited 0.5 s for worker 0 to start the run" in capsys.readouterr().err
    assert main(command(job, 0, 3)) == 0
    assert main(command(job, 2, 3)) == 1
    assert "waited 0.5 s for receipts of the tasks 1" in capsys.readouterr().err
    assert main(command(job, 1, 3)) == 0
    assert main(command(job, 2, 3)) == 0
    check_published(job.parent / "archive.icechunk", run_dir_of(job))


@pytest.mark.parametrize(("key", "value"), [("message", "hello"), ("variables", ["v0"]), ("verify", "full")])
def test_a_job_file_that_changed_under_a_run_is_refused(job: Path, capsys: Said, key: str, value: Any) -> None:
    assert main(command(job, 0, 2)) == 0
    before = files_of(job.parent / "archive.icechunk.frazil")
    write_job(job.parent, **{key: value})
    for index in (0, 1):
        assert main(command(job, index, 2)) == 2
        assert "started with another job file, or with this one before it was changed" in capsys.readouterr().err
    assert files_of(job.parent / "archive.icechunk.frazil") == before
    write_job(job.parent)
    assert main(command(job, 1, 2)) == 0
    check_published(job.parent / "archive.icechunk", run_dir_of(job))


def test_a_job_file_that_changed_while_its_run_started_is_refused(job: Path, capsys: Said) -> None:
    code, said = end(begin(command(job, 0, 1), MOMENTS["after put_plan"]))
    assert code == -signal.SIGKILL, said
    write_job(job.parent, variables=["v0"])
    assert main(command(job, 0, 1)) == 2
    assert "another plan lies at" in capsys.readouterr().err
    write_job(job.parent)
    assert main(command(job, 0, 1)) == 0
    check_published(job.parent / "archive.icechunk", run_dir_of(job))


def test_an_update_writes_a_new_group_for_every_start(job: Path) -> None:
    """As the Jobs of a CronJob do, whose names carry the time."""
    job = write_job(
        job.parent,
        sources="{job_start:%Y}/*.nc",
        group="{job_start:%Y-%m-%dT%H}Z",
        message="Forecast of {job_start:%Y-%m-%d %H:%M} UTC",
    )
    (job.parent / "raw").rename(job.parent / "2026")
    where = job.parent / "archive.icechunk"
    for number, minutes in enumerate((29454120, 29454480)):
        run_dir = f"{where}.frazil/archive-update-{minutes}"
        for index in range(2):
            assert main(command(job, index, 2, run_dir)) == 0
        group = f"2026-01-01T{6 + 6 * number:02}Z"
        check_published(where, run_dir, group, commits=2 + number)
    said = [one.message for one in frazil.open_repository(where).ancestry(branch="main")]
    assert said[:2] == ["Forecast of 2026-01-01 12:00 UTC", "Forecast of 2026-01-01 06:00 UTC"]


def test_a_job_start_is_given_where_no_name_carries_it(job: Path, capsys: Said) -> None:
    job = write_job(job.parent, group="{job_start:%Y-%m-%dT%H}Z")
    assert main(command(job, 0, 1)) == 2
    assert "give the job start" in capsys.readouterr().err
    assert not (job.parent / "archive.icechunk").exists()
    assert main(command(job, 0, 1, "", "--job-start", "2026-01-31T07:00:00+01:00")) == 0
    check_published(job.parent / "archive.icechunk", run_dir_of(job), "2026-01-31T06Z")


def test_a_job_file_publishes_to_replicas_too(job: Path) -> None:
    job = write_job(job.parent, replicas=["replica.icechunk"])
    for index in range(2):
        assert main(command(job, index, 2)) == 0
    values = []
    for name in ("archive", "replica"):
        repo = frazil.open_repository(job.parent / f"{name}.icechunk", create=False)
        assert sorted(repo.list_branches()) == ["main"]
        assert len(list(repo.ancestry(branch="main"))) == 2
        values.append(read(job.parent / f"{name}.icechunk"))
    xr.testing.assert_identical(*values)
    xr.testing.assert_identical(values[0], xr.decode_cf(whole()))


def test_the_guide_s_example_runs(job: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "workers.md").read_text()
    told, _ = re.findall(r"^```toml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    (script,) = re.findall(r"^```sh\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    job.write_text(told)
    assert load(job).worker.finish_deadline == 3600
    line = script.replace("frazil worker", f"{sys.executable} -m frazil.cli worker")
    done = subprocess.run(["bash", "-c", line], cwd=job.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Run backfill is published as" in done.stdout
    xr.testing.assert_identical(read(job.parent / "archive.icechunk"), xr.decode_cf(whole()))


def test_the_guide_s_update_appends_what_is_new(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "workers.md").read_text()
    _, told = re.findall(r"^```toml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    (tmp_path / "job.toml").write_text(told)
    (name,) = re.findall(r"`(update-\d+)`", guide)
    (given,) = re.findall(r"`--job-start (\S+)`", guide)
    first, second = job_start_of(name), datetime.fromisoformat(given)
    assert load(tmp_path / "job.toml", first).message == "Observations up to 2026-01-01 06:00 UTC"
    assert load(tmp_path / "job.toml", second).message == "Observations up to 2026-01-02 06:00 UTC"
    folder = tmp_path / "raw" / "2026-01-01"
    folder.mkdir(parents=True)
    where = tmp_path / "archive.icechunk"
    (tmp_path / "job.toml").write_text(told.replace("s3://raw", "raw").replace("s3://bucket/archive", where.name))
    whole().isel(time=slice(0, 9)).to_netcdf(folder / "a.nc")
    frazil.convert(folder / "a.nc", where, chunks={"time": 4}, executor=frazil.SerialExecutor())
    for number, (start, stop) in enumerate(((9, 13), (13, 16), (16, 16))):
        if stop > start:
            whole().isel(time=slice(start, stop)).to_netcdf(folder / f"b{number}.nc")
        run_dir = f"{where}.frazil/update-{29454120 + number}"
        for index in range(2):
            assert main(command(tmp_path / "job.toml", index, 2, run_dir)) == 0
        xr.testing.assert_identical(read(where), xr.decode_cf(whole().isel(time=slice(0, stop))))
    assert len(list(frazil.open_repository(where).ancestry(branch="main"))) == 4, "nothing new, nothing committed"
