"""A job file is read strictly: what it cannot mean is refused, and what it means has one digest."""

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import pytest

import frazil
from frazil.cli import options
from frazil.job import PlanOptions
from frazil.jobfile import JobFile, Retry, job_start_of, load
from frazil.labels import compare, join
from frazil.planning.inputs import expand
from frazil_functions import records

from .hourly import series as hourly

START = datetime(2026, 1, 2, 6, tzinfo=UTC)
LEAST = 'sources = "s3://raw/a.nc"\nrepository = "s3://bucket/archive"\n'
FULL = """
sources = ["s3://raw/a.nc", "s3://raw/b.nc"]
repository = "s3://bucket/archive"
replicas = ["https://mirror.example/raw"]
group = "era5/hourly"
branch = "staging"
chunks = { time = 24, lat = 180 }
compression = { tas = "blosc:lz4:5", "*" = "small" }
append_dim = "time"
variables = ["tas", "pr"]
engine = "h5netcdf"
gaps = "fill"
accept = ["units", "drift"]
mode = "append"
on_overlap = "skip"
region = { time = [0, 100], lat = "auto" }
reorder = true
on_attrs = "keep"
pack = { tas = "int16" }
pack_range = { tas = [200, 330.5] }
pack_overflow = "clip"
keepbits = { pr = 7, ps = "auto" }
virtual = true
load = ["lat", "lon"]
fallback = "native"
containers = ["s3://raw/=region=eu-west-1", "https://data.example/raw/"]
message = "A year"
verify = "full"
retries_on_missing = 2
missing_check_vars = ["tas"]
workers = 8
backend = "serial"
lithops_config = "/etc/lithops.yaml"
run_dir = "s3://bucket/runs/year"
function_logs = true
run_id = "year"
resume = true

[shards]
time = 48

[retry]
attempts = 5
backoff = 2
backups = false
start_deadline = 60
call_timeout = 600.5

[worker]
assignment = "spread"
start_deadline = 100
finish_deadline = 200
"""

type Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "job.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path, job_start: datetime | None = None) -> str:
    with pytest.raises(frazil.InvalidInputError) as caught:
        load(path, job_start)
    return str(caught.value)


def test_every_key_is_read(write: Write) -> None:
    job = load(write(FULL))
    assert job.sources == ("s3://raw/a.nc", "s3://raw/b.nc")
    assert job.replicas == ("https://mirror.example/raw",)
    assert (job.chunks, job.shards) == ({"time": 24, "lat": 180}, {"time": 48})
    assert job.compression == {"tas": "blosc:lz4:5", "*": "small"}
    assert (job.variables, job.accept, job.mode) == (("tas", "pr"), ("units", "drift"), "append")
    assert (job.region, job.reorder, job.on_attrs) == ({"time": (0, 100), "lat": "auto"}, True, "keep")
    assert (job.pack, job.pack_range, job.pack_overflow) == ({"tas": "int16"}, {"tas": (200, 330.5)}, "clip")
    assert job.keepbits == {"pr": 7, "ps": "auto"}
    assert (job.virtual, job.load, job.fallback) == (True, ("lat", "lon"), "native")
    assert job.containers == ("s3://raw/=region=eu-west-1", "https://data.example/raw/")
    assert job.retry == Retry(attempts=5, backoff=2.0, backups=False, start_deadline=60.0, call_timeout=600.5)
    assert (job.worker.assignment, job.worker.start_deadline, job.worker.finish_deadline) == ("spread", 100.0, 200.0)
    assert (job.retries_on_missing, job.missing_check_vars) == (2, ("tas",))
    least = load(write(LEAST))
    same = [field.name for field in fields(JobFile) if getattr(job, field.name) == getattr(least, field.name)]
    assert same == ["repository"]


def test_the_options_of_a_plan_are_the_same_wherever_they_can_be_given(write: Write) -> None:
    """One that is added to `plan` is added to what passes options on, to job files, and to the command line."""
    signature = inspect.signature(frazil.plan).parameters
    asked = {name: one for name, one in signature.items() if name not in {"sources", "repo", "executor", "listener"}}
    assert PlanOptions.__annotations__ == {name: one.annotation for name, one in asked.items()}
    assert PlanOptions.__optional_keys__ == asked.keys()
    defaults = {name: one.default for name, one in asked.items()}
    job = load(write(LEAST))
    assert {name: getattr(job, name) for name in asked} == defaults
    typed = options.Job().as_keywords() | {"workers": options.Backend().workers}
    assert typed == defaults


def test_convert_takes_the_options_of_a_plan_and_says_where_they_are_described(tmp_path: Path) -> None:
    with frazil.SerialExecutor() as executor, pytest.raises(TypeError, match="unexpected keyword argument 'chunk'"):
        frazil.convert(tmp_path / "a.nc", tmp_path / "a", executor=executor, chunk={"time": 1})  # type: ignore[call-arg]
    assert "help(frazil.plan)" in str(frazil.convert.__doc__)
    assert not {*PlanOptions.__optional_keys__} & {*inspect.signature(frazil.convert).parameters}


def test_what_a_job_file_leaves_out_of_a_run_is_what_python_leaves_out(write: Write) -> None:
    job = load(write(LEAST))
    asked = {name: one.default for name, one in inspect.signature(frazil.run).parameters.items()}
    shared = asked.keys() & {field.name for field in fields(JobFile)} - {"retry"}
    assert shared == {"verify", "message", "run_id", "retries_on_missing", "missing_check_vars", "function_logs"}
    assert {name: getattr(job, name) for name in shared} == {name: asked[name] for name in shared}
    assert frazil.Retry(job.retry.attempts, job.retry.backoff) == frazil.Retry()
    calls = inspect.signature(frazil.LithopsExecutor).parameters
    assert job.retry.start_deadline == calls["start_deadline"].default
    assert job.retry.call_timeout == calls["call_timeout"].default


WRONG = {
    # an unknown key
    "chunk = { time = 1 }": ("no key 'chunk' at the top level", "'chunks'"),
    "[retry]\nattempt = 1": ("no key 'attempt' in [retry]", "'attempts'"),
    "[worker]\nassignement = 'spread'": ("no key 'assignement' in [worker]", "'assignment'"),
    "finish_deadline = 3": ("no key 'finish_deadline' at the top level", "belongs in [worker]"),
    "start_deadline = 3": ("at the top level", "belongs in [retry] or [worker]"),
    "[retry]\nmessage = 'x'": ("'message' stands in [retry]", "above the first [table]"),
    # a wrong type
    "sources = 3": ("sources is 3, a whole number", "text or a list is expected"),
    "sources = ['a', 3]": ("sources[1] is 3", "text is expected"),
    "sources = []": ("sources is []", "that is not empty"),
    "repository = ['a']": ("repository is ['a'], a list", "text is expected"),
    "repository = ''": ("repository is ''", "that is not empty"),
    "chunks = 3": ("chunks is 3", "a table is expected"),
    "chunks = 'auto:tempral'": ("chunks cannot be for 'tempral' reading", "'temporal'"),
    "chunks = { lat = 1, time = '24' }": ("chunks.time is '24', text", "a whole number is expected"),
    "chunks = { time = 2.5 }": ("chunks.time is 2.5, a number", "a whole number is expected"),
    "shards = { time = true }": ("shards.time is True, true or false", "a whole number is expected"),
    "compression = 3": ("compression is 3, a whole number", "text or ", "a table", "is expected"),
    "compression = { '*' = 'none', tas = 3 }": ("compression.tas is 3, a whole number", "text is expected"),
    "variables = 'tas'": ("variables is 'tas', text", "a list"),
    "pack = 3": ("pack is 3, a whole number", "is expected"),
    "pack = { tas = 3 }": ("pack.tas is 3", "text is expected"),
    "pack_range = { tas = 3 }": ("pack_range.tas is 3", "a list"),
    "keepbits = { pr = 7, tas = 7.5 }": ("keepbits.tas is 7.5", "a whole number or text"),
    "pack_overflow = 'clamp'": ("pack_overflow cannot be 'clamp'", "'clip'"),
    "accept = 'units'": ("accept is 'units', text", "a list is expected"),
    "message = 2020-01-01": ("a date or time", "text is expected"),
    "workers = true": ("workers is True", "a whole number is expected"),
    "workers = 0": ("workers is 0", "of at least 1"),
    "retry = 3": ("retry is 3", "write [retry]"),
    "[[worker]]\nassignment = 'spread'": ("worker is [", "write [worker]"),
    "[retry]\nattempts = 0": ("retry.attempts is 0", "of at least 1"),
    "[retry]\nattempts = 1.0": ("retry.attempts is 1.0, a number", "a whole number"),
    "[retry]\nbackoff = -1": ("retry.backoff is -1", "of at least 0"),
    "[retry]\nbackoff = nan": ("retry.backoff is nan", "finite"),
    "[worker]\nstart_deadline = inf": ("worker.start_deadline is inf", "finite"),
    "[worker]\nfinish_deadline = 0": ("worker.finish_deadline is 0", "greater than 0"),
    # a word that there is not
    "gaps = 'fil'": ("gaps cannot be 'fil'", "'fill'", "error, fill, keep"),
    "gaps = 1": ("gaps is 1", "one of error, fill, keep"),
    "accept = ['units', 'drit']": ("accept[1] cannot be 'drit'", "'drift'"),
    "retries_on_missing = -1": ("retries_on_missing is -1", "of at least 0"),
    "verify = 'ful'": ("verify cannot be 'ful'", "'full'"),
    "mode = 'apend'": ("mode cannot be 'apend'", "'append'"),
    "[worker]\nassignment = 'spred'": ("worker.assignment cannot be 'spred'", "'spread'"),
    # a placeholder that cannot be filled
    "sources = ['a', '{date:%Y}']": ("sources[1]", "{date}", "{job_start:%Y-%m-%d}", "double braces"),
    "repository = '{}'": ("repository", "double braces"),
    "repository = '{job_start.year}'": ("repository", "{job_start.year}"),
    "repository = '{job_start!r:%Y}'": ("repository", "double braces"),
    "repository = '{job_start}'": ("repository does not say how to write the time",),
    "repository = '{job_start:%Y{x}}'": ("repository does not say how to write the time",),
    "repository = '{job_start:%Y'": ("repository has a brace", "double it"),
    "repository = 'a}'": ("repository has a brace", "double it"),
    "repository = '{job_start:%Y%Q}'": ("'%Q'", "strftime"),
    "repository = '{job_start:%Y%}'": ("'%'", "strftime"),
    "repository = '{job_start:%-d}'": ("'%-'", "strftime"),
    # not TOML
    "gaps = \nverify = 'full'": ("cannot be read as a job file", "line 3"),
    "gaps = 'fill'\ngaps = 'keep'\n": ("cannot be read as a job file", "line 4"),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_a_job_file_cannot_mean_is_refused_by_name_with_the_cure(text: str, write: Write) -> None:
    least = re.sub(rf"(?m)^{re.escape(text.partition(' =')[0])} = .*\n", "", LEAST)
    path = write(least + text)
    message = refusal(path, START)
    assert message.startswith(str(path))
    for part in WRONG[text]:
        assert part in message


@pytest.mark.parametrize("name", ["sources", "repository"])
def test_a_job_without_sources_or_repository_is_refused(name: str, write: Write) -> None:
    assert f"{name} is missing" in refusal(write(re.sub(rf"(?m)^{name} = .*\n", "", LEAST)))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    assert "cannot be read as a job file" in refusal(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"sources = '\xff'")
    assert "cannot be read as a job file" in refusal(tmp_path / "bytes.toml")


def test_no_error_about_a_placeholder_shows_the_url_that_it_is_in(write: Write) -> None:
    for what in ("{x}", "{", "{job_start}", "{job_start:%Q}", "{job_start:%Y}"):
        path = write(f"sources = 'https://raw.example/a.nc?signature=hidden{what}'\nrepository = 's3://bucket/archive'")
        assert "hidden" not in refusal(path)


def test_the_job_start_is_filled_in_as_utc(write: Write) -> None:
    path = write(
        "sources = ['s3://raw/{job_start:%Y}/{job_start:%m/%d}/*.nc', 's3://raw/plain.nc']\n"
        "repository = 's3://bucket/{job_start:%Y%m%d%H}'\n"
        "replicas = ['s3://other/{job_start:%j}']\n"
        "group = '/{job_start:%Y-%m-%d}/'\n"
        "message = 'Forecast of {job_start:%H:%M}, 100{job_start:%%}'\n"
    )
    job = load(path, datetime(2026, 1, 2, 1, 30, tzinfo=timezone(timedelta(hours=-5))))
    assert job.sources == ("s3://raw/2026/01/02/*.nc", "s3://raw/plain.nc")
    assert job.repository == "s3://bucket/2026010206"
    assert job.replicas == ("s3://other/002",)
    assert job.group == "2026-01-02"
    assert job.message == "Forecast of 06:30, 100%"


def test_doubled_braces_are_braces(write: Write) -> None:
    job = load(write("sources = 's3://raw/{{a}}.nc'\nrepository = 's3://bucket/{{{job_start:%Y}}}'"), START)
    assert (job.sources, job.repository) == (("s3://raw/{a}.nc",), "s3://bucket/{2026}")


def test_a_placeholder_without_a_job_start_is_refused(write: Write) -> None:
    path = write("sources = ['s3://raw/a.nc', 's3://raw/{job_start:%Y}.nc']\nrepository = 's3://bucket/archive'")
    message = refusal(path)
    assert "sources[1]" in message
    assert "give the job start" in message
    assert load(path, START).sources[1] == "s3://raw/2026.nc"


def test_a_job_start_without_a_time_zone_is_refused(write: Write) -> None:
    assert "no time zone" in refusal(write(LEAST), START.replace(tzinfo=None))


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "sources = ['data/*.nc', '/elsewhere/b.nc', '~/c.nc', 's3://raw/d.nc']\nrepository = 'a.icechunk'\n"
    (tmp_path / "jobs").mkdir()
    write(text + "replicas = ['../mirror']\ncontainers = ['data', 's3://raw/']").rename(tmp_path / "jobs" / "job.toml")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.chdir(tmp_path)
    job = load("jobs/job.toml")
    jobs = tmp_path / "jobs"
    assert job.sources == (f"{jobs}/data/*.nc", "/elsewhere/b.nc", "/home/someone/c.nc", "s3://raw/d.nc")
    assert job.repository == f"{jobs}/a.icechunk"
    assert job.replicas == (f"{jobs}/../mirror",)
    assert job.containers == (f"{jobs}/data", "s3://raw/")


def test_a_folder_whose_name_looks_like_a_glob_is_no_glob(tmp_path: Path) -> None:
    for name in ("run[1]", "run1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.nc").touch()
        (tmp_path / name / "b[1].nc").touch()
    path = tmp_path / "run[1]" / "job.toml"
    path.write_text("sources = ['a*.nc', 'b[1].nc']\nrepository = 'archive'")
    found = expand(load(path).sources)
    assert found == (f"{tmp_path}/run[1]/a.nc", f"{tmp_path}/run[1]/b[1].nc")


def test_comments_and_the_order_of_keys_change_nothing_that_a_digest_sees(write: Write) -> None:
    first = load(write(FULL)).digest
    assert re.fullmatch("[0-9a-f]{64}", first)
    heads, *tables = FULL.split("\n\n")
    mixed = "\n".join(["# a comment", *reversed(heads.strip().splitlines()), *reversed(tables)])
    mixed = mixed.replace("time = 24, lat = 180", "lat = 180, time = 24").replace(
        '"units", "drift"', '"drift", "units"'
    )
    assert mixed != FULL
    assert load(write(mixed)).digest == first


def test_what_a_file_leaves_out_and_what_it_says_as_the_default_have_one_digest(write: Write) -> None:
    spelled = (
        LEAST.replace('"s3://raw/a.nc"', '["s3://raw/a.nc"]') + 'group = "/"\ngaps = "error"\n[retry]\nattempts = 3'
    )
    assert load(write(spelled)).digest == load(write(LEAST)).digest


CHANGES = [
    ('"s3://raw/a.nc", "s3://raw/b.nc"', '"s3://raw/b.nc", "s3://raw/a.nc"'),
    ("bucket/archive", "bucket/other"),
    ("mirror.example", "mirror.other"),
    ("era5/hourly", "era5/daily"),
    ("staging", "main"),
    ("lat = 180", "lat = 90"),
    ("blosc:lz4:5", "blosc:lz4:6"),
    ('append_dim = "time"', 'append_dim = "lat"'),
    ('"tas", "pr"', '"tas"'),
    ("h5netcdf", "netcdf4"),
    ('gaps = "fill"', 'gaps = "keep"'),
    ('"units", "drift"', '"units"'),
    ("A year", "A month"),
    ('verify = "full"', 'verify = "none"'),
    ("retries_on_missing = 2", "retries_on_missing = 3"),
    ('["tas"]', '["pr"]'),
    ("workers = 8", "workers = 9"),
    ("time = 48", "time = 72"),
    ('"spread"', '"contiguous"'),
]
PATIENCE = [
    ("function_logs = true", "function_logs = false"),
    ('backend = "serial"', 'backend = "localhost"'),
    ("/etc/lithops.yaml", "/etc/other.yaml"),
    ("bucket/runs/year", "bucket/runs/other"),
    ('run_id = "year"', 'run_id = "other"'),
    ("resume = true", "resume = false"),
    ("backups = false", "backups = true"),
    ("attempts = 5", "attempts = 6"),
    ("backoff = 2", "backoff = 3"),
    ("start_deadline = 60", "start_deadline = 61"),
    ("call_timeout = 600.5", "call_timeout = 600"),
    ("start_deadline = 100", "start_deadline = 101"),
    ("finish_deadline = 200", "finish_deadline = 201"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_a_change_of_what_is_written_changes_the_digest(old: str, new: str, write: Write) -> None:
    assert FULL.count(old) == 1
    first = load(write(FULL)).digest
    assert load(write(FULL.replace(old, new))).digest != first


@pytest.mark.parametrize(("old", "new"), PATIENCE)
def test_where_functions_run_and_how_long_to_wait_is_not_what_is_written(old: str, new: str, write: Write) -> None:
    """A worker that waited in vain may be told to wait for longer, and goes on with the same run."""
    assert FULL.count(old) == 1
    assert load(write(FULL.replace(old, new))).digest == load(write(FULL)).digest


def test_two_starts_of_one_file_have_digests_of_their_own(write: Write) -> None:
    path = write('sources = "s3://raw/{job_start:%Y%m%d%H}.nc"\nrepository = "s3://bucket/archive"')
    here, later = load(path, START), load(path, START + timedelta(hours=1))
    elsewhere = load(path, START.astimezone(timezone(timedelta(hours=9))))
    assert here.digest != later.digest
    assert here.digest == elsewhere.digest


def test_a_mounted_file_whose_folder_is_swapped_keeps_its_digest(tmp_path: Path) -> None:
    # A volume of Kubernetes: job.toml -> ..data/job.toml, and ..data -> a folder named by the time.
    digests = set()
    for stamp in ("..2026_01_01", "..2026_01_02"):
        (tmp_path / stamp).mkdir()
        (tmp_path / stamp / "job.toml").write_text("sources = 'a.nc'\nrepository = 'archive'")
        (tmp_path / "..data").unlink(missing_ok=True)
        (tmp_path / "..data").symlink_to(stamp)
        if not (tmp_path / "job.toml").is_symlink():
            (tmp_path / "job.toml").symlink_to("..data/job.toml")
        digests.add(load(tmp_path / "job.toml").digest)
    assert len(digests) == 1


def test_the_options_of_a_job_file_are_what_a_plan_takes(tmp_path: Path) -> None:
    hourly(0, 6).to_netcdf(tmp_path / "data.nc")
    path = tmp_path / "job.toml"
    path.write_text("sources = 'data.nc'\nrepository = 'archive.icechunk'\nchunks = { time = 3 }\naccept = ['drift']")
    job = load(path)
    asked = set(inspect.signature(frazil.plan).parameters) & {field.name for field in fields(JobFile)} - {
        "sources",
        "retry",
    }
    options: dict[str, Any] = {name: getattr(job, name) for name in asked}
    with frazil.SerialExecutor() as executor:
        made = frazil.plan(job.sources, job.repository, **options, executor=executor)
    assert made.target.location is not None
    assert made.target.location.url == str(tmp_path / "archive.icechunk")
    assert {grid.unit[0] for grid in made.grids if grid.array == "tas"} == {3}


def test_a_job_that_a_cronjob_made_carries_the_time_that_it_was_scheduled_for() -> None:
    minutes = int(START.timestamp()) // 60
    assert job_start_of(f"archive-update-{minutes}") == START
    assert job_start_of(f"v1.archive-2-{minutes}") == START


@pytest.mark.parametrize(
    "name",
    [
        "archive-backfill",
        "archive-backfill-8",
        "29454120",
        "-29454120",
        "archive29454120",
        "archive-29454120-0",
        "archive-20260102",  # a date
        "archive-20991231",
        "archive-1767333600",  # seconds
        "archive-2026010206",
        "archive-176733360",
        "archive-2945340",
        "archive-23667839",  # the last minute of 2014
        "archive-٢٩٤٥٣٤٠٠",
        "",
    ],
)
def test_any_other_name_carries_no_time(name: str) -> None:
    assert job_start_of(name) is None


def test_the_first_minute_of_2015_is_the_first_that_a_name_can_carry() -> None:
    assert job_start_of("archive-23667840") == datetime(2015, 1, 1, tzinfo=UTC)


def test_every_word_that_a_plan_knows_can_stand_in_a_job_file(write: Write) -> None:
    job = load(write(LEAST + f"accept = {list(get_args(compare.Accept.__value__))}"))
    assert set(job.accept) == set(get_args(compare.Accept.__value__))
    for gaps in get_args(join.Gaps.__value__):
        assert load(write(LEAST + f"gaps = '{gaps}'")).gaps == gaps
    for verify in get_args(records.Verify.__value__):
        assert load(write(LEAST + f"verify = '{verify}'")).verify == verify
