"""What an estimate says, and that it moves as what it is made from does."""

import json
import tomllib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import frazil
from frazil.cli import main
from frazil.costing.estimate import Estimate, estimate_plan
from frazil.costing.prices import PriceTable, load_prices
from frazil.costing.rates import ASSUMED, Probe, calibrated
from frazil.costing.spread import Spread, number
from frazil.costing.telling import plain
from frazil_functions.locations import Location

from .conftest import smooth, store
from .test_memory import configured

TWO_GB = frazil.FunctionLimits("aws_lambda", 2 << 30, 900, "us-east-1")


@pytest.fixture
def plan(tmp_path: Path) -> frazil.Plan:
    source = store(smooth(0, 64, 64, 64), tmp_path / "a.nc", compressed=True)
    with frazil.SerialExecutor() as executor:
        return frazil.plan(source, tmp_path / "archive", chunks={"time": 16}, executor=executor)


def elsewhere(plan: frazil.Plan, location: Location) -> frazil.Plan:
    """The same plan for a repository at another place."""
    return replace(plan, target=replace(plan.target, location=location))


def price(estimate: Estimate, what: str) -> Spread:
    (found,) = [one.dollars for one in estimate.charges if one.price.what == what]
    return found


def test_neither_estimate_nor_prices_are_part_of_a_plan(plan: frazil.Plan) -> None:
    assert "estimate" in repr(plan)
    assert "estimate" in plan._repr_html_()
    again = frazil.Plan.from_json(plan.to_json())
    assert again == plan
    assert again.hash == plan.hash == replace(plan, expected=(("cost", "$1000"),)).hash
    assert "expected" not in json.loads(plan.to_json())
    told = json.loads(plan.to_json()) | {"expected": [["cost", "nothing"]]}
    assert "nothing" not in repr(frazil.Plan.from_json(json.dumps(told)))


def test_gigabyte_seconds_and_dollars_follow_from_seconds_memory_and_prices(plan: frazil.Plan) -> None:
    found = estimate_plan(plan, TWO_GB)
    seconds, gb_seconds = found.function_seconds, found.gb_seconds
    assert gb_seconds == Spread(2 * seconds.low, 2 * seconds.high)
    assert seconds == found.work_seconds + ASSUMED.start_seconds
    assert price(found, "function_gb_second_x86_64").high == pytest.approx(2 * seconds.high * 0.0000166667)
    assert price(found, "function_call") == Spread(0.0000002, 0.0000002)
    arm = estimate_plan(plan, replace(TWO_GB, architecture="arm64"))
    ratio = price(arm, "function_gb_second_arm64").low / price(found, "function_gb_second_x86_64").low
    assert ratio == pytest.approx(0.8, abs=0.001)
    assert found.dollars.high == pytest.approx(sum(one.dollars.high for one in found.charges))


def test_a_small_function_takes_longer(plan: frazil.Plan) -> None:
    small, large = (estimate_plan(plan, replace(TWO_GB, memory_bytes=mb << 20)) for mb in (512, 1769))
    assert small.work_seconds.low > 1.5 * large.work_seconds.low
    assert small.work_seconds.high > 1.2 * large.work_seconds.high


def test_storage_is_paid_for_in_amazon_s3_alone(plan: frazil.Plan) -> None:
    amazon = estimate_plan(elsewhere(plan, Location("s3://bucket/archive")), TWO_GB)
    assert price(amazon, "stored_gb_month").high == pytest.approx(ASSUMED.ratio.high * plan.nbytes * 0.023 / 1e9)
    assert amazon.monthly_dollars.high > 0
    assert price(amazon, "put_request") == amazon.puts.times(0.000005)
    other = estimate_plan(elsewhere(plan, Location("s3://bucket/archive", endpoint_url="http://minio:9000")), TWO_GB)
    assert other.puts == amazon.puts
    unpriced = "requests to and storage of s3://bucket/archive, of which the table knows nothing"
    assert unpriced in other.left_out
    assert unpriced not in amazon.left_out + estimate_plan(plan, TWO_GB).left_out
    assert {one.price.what for one in other.charges} == {"function_gb_second_x86_64", "function_call", "logs_gb"}
    assert estimate_plan(elsewhere(plan, Location("gs://bucket/archive"))).charges == ()


def test_another_region_is_said_to_be_priced_as_the_table_s(plan: frazil.Plan) -> None:
    said = estimate_plan(plan, replace(TWO_GB, region="eu-central-1")).left_out
    assert any("eu-central-1" in one and "us-east-1" in one for one in said)
    assert not any("other prices" in one for one in estimate_plan(plan, TWO_GB).left_out)
    unknown = estimate_plan(plan, frazil.FunctionLimits("k8s", 2 << 30))
    assert any("what k8s costs" in one for one in unknown.left_out)
    assert unknown.charges == ()


@pytest.mark.parametrize(("timeout", "sure"), [(1e-3, "will not"), (2, "may not")])
def test_a_region_that_does_not_end_in_time_is_warned_of(
    timeout: float, sure: str, plan: frazil.Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = estimate_plan(plan, replace(TWO_GB, timeout=timeout))
    assert any(sure in one and "runtime_timeout" in one for one in found.warnings)
    assert sure in repr(found)
    assert not estimate_plan(plan, TWO_GB).warnings
    config = configured(tmp_path, timeout=2)
    frazil.plan(tmp_path / "a.nc", tmp_path / "archive", executor=frazil.LithopsExecutor(config_file=config))
    assert "may not be written in time" in caplog.text


def test_what_was_measured_takes_the_place_of_what_is_assumed(plan: frazil.Plan) -> None:
    probe = Probe("tas[time 0:64]", plan.nbytes, plan.nbytes // 4, 1, 4, 2.0, 3.0, 0.5, 1 << 28, 1.0)
    found = estimate_plan(plan, rates=calibrated(probe))
    assert found.work_seconds.low <= 3.0 <= found.work_seconds.high <= 8
    assert found.function_seconds.low - found.work_seconds.low == pytest.approx(1.4)
    assert found.bytes_stored.low <= plan.nbytes / 4 <= found.bytes_stored.high < plan.nbytes / 3
    assert "measured: tas[time 0:64]" in repr(found)
    assert "assumed" in repr(estimate_plan(plan))


def test_estimates_show_themselves_in_notebooks_and_to_programs(plan: frazil.Plan) -> None:
    found = estimate_plan(elsewhere(plan, Location("s3://bucket/archive")), TWO_GB)
    assert found._repr_html_().count("<tr>") == len(repr(found).splitlines()) - 1
    told = json.loads(json.dumps(plain(found)))
    assert told["gb_seconds"] == [found.function_seconds.low * 2, found.function_seconds.high * 2]
    assert set(told["requests"]) >= {"chunks", "run directory", "staging"}


def test_an_append_of_nothing_takes_nothing(plan: frazil.Plan, tmp_path: Path) -> None:
    with frazil.SerialExecutor() as executor:
        frazil.run(plan, executor=executor)
        nothing = frazil.plan(
            tmp_path / "a.nc", tmp_path / "archive", mode="append", on_overlap="skip", executor=executor
        )
    found = estimate_plan(nothing, TWO_GB)
    assert found.function_seconds == Spread(0, 0)
    assert found.memory_bytes == 0


def test_the_price_table_says_where_when_and_which_page() -> None:
    table = load_prices()
    assert table.region == "us-east-1"
    assert tomllib.loads(files("frazil.costing").joinpath("prices.toml").read_text())["date"] == table.date
    assert all(one.source.startswith("https://aws.amazon.com/") and one.unit for one in table.prices)


def changed(tmp_path: Path, old: str, new: str) -> Path:
    file = tmp_path / "prices.toml"
    text = files("frazil.costing").joinpath("prices.toml").read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


def test_another_table_takes_the_place_of_ours(plan: frazil.Plan, tmp_path: Path) -> None:
    file = changed(tmp_path, "price = 0.023", "price = 23.0")
    there = elsewhere(plan, Location("s3://bucket/archive"))
    dear = estimate_plan(there, prices=load_prices(file)).monthly_dollars
    assert dear.high == pytest.approx(1000 * estimate_plan(there).monthly_dollars.high)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('what = "function_call"', 'what = "function_cal"', "is no price table"),
        ('what = "function_call"', 'what = "put_request"', "0 prices of 'function_call'"),
        ("price = 0.023", "price = -1.0", "'stored_gb_month' is -1"),
        ("price = 0.023", "price = nan", "'stored_gb_month' is nan"),
        ("[[price]]", "[price", "is no price table"),
        ('unit = "call"', 'unit = "1M calls"', "'function_call' is that of one '1M calls', and is taken .* 'call'"),
        ('date = "2026-06"', 'date = "last week"', "is of 'last week'; give a day or a month"),
    ],
)
def test_what_is_no_price_table_is_refused(old: str, new: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(frazil.InvalidInputError, match=says):
        load_prices(changed(tmp_path, old, new))


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "none.nc", "archive"],
        ["convert", "none.nc", "archive"],
        ["apply", "plan.json"],
        ["resume", "archive", "a"],
    ],
    ids=lambda words: words[0],
)
def test_a_missing_table_is_refused_before_anything_is_read(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--backend", "serial", "--prices", "none.toml"]) == 2
    assert "the prices none.toml cannot be read" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_report_refuses_a_missing_table_also_where_it_needs_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path / "archive"), "a", "--prices", str(tmp_path / "none.toml")]) == 2
    assert "none.toml cannot be read" in capsys.readouterr().err


def test_convert_refuses_a_missing_table_before_it_reads_a_source(tmp_path: Path) -> None:
    with pytest.raises(frazil.InvalidInputError, match=r"none\.toml cannot be read"):
        frazil.convert(tmp_path / "none.nc", tmp_path / "archive", prices=tmp_path / "none.toml")


def test_the_command_shows_a_line_and_all_of_it_where_more_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(smooth(0, 4, 8, 8), tmp_path / "a.nc", compressed=False)
    config = configured(tmp_path)
    words = ["plan", str(tmp_path / "a.nc"), str(tmp_path / "archive"), "--lithops-config", str(config)]
    assert main(words) == 0
    short = capsys.readouterr().out
    assert "GB-s at 2,048 MB" in short
    assert "prices of us-east-1" in short
    assert "Estimate" not in short
    assert main([*words, "-v"]) == 0
    assert "<frazil.Estimate>" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["estimate"]["charges"]["function_call"] == [2e-7, 2e-7]
    assert frazil.Plan.from_json(json.dumps(told)).nbytes == 4 * 8 * 8 * 4


@pytest.mark.parametrize(
    ("spread", "words"),
    [(Spread(1, 2), "1 to 2"), (Spread(3, 3), "3"), (Spread(0.0123, 123.4), "0.012 to 123"), (Spread(0, 0), "0")],
)
def test_spreads_are_told_shortly(spread: Spread, words: str) -> None:
    assert str(spread) == words
    assert number(1e-7) == "1.0e-07"


@pytest.mark.parametrize("bounds", [(2, 1), (-1, 1), (float("nan"), 1)])
def test_what_is_no_spread_is_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="is none"):
        Spread(*bounds)


def test_a_run_says_what_it_took_beside_what_was_estimated(
    plan: frazil.Plan, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Limited(frazil.SerialExecutor):
        def limits(self) -> frazil.FunctionLimits:
            return TWO_GB

    result = frazil.run(plan, executor=Limited(), run_id="once")
    found: dict[str, Any] = {one.what: one for one in result.compared}
    assert found["calls"].actual == found["calls"].low == 1
    assert found["work_seconds"].actual > 0
    assert found["gb_seconds"].actual == pytest.approx(2 * found["work_seconds"].actual)
    assert found["work_dollars"].actual == pytest.approx(found["gb_seconds"].actual * 0.0000166667)
    assert found["memory_bytes"].actual == result.peak_memory_bytes
    again = frazil.run(plan, executor=Limited(), run_id="once")
    assert again.already_published
    assert again.compared == ()


def test_the_command_tells_what_a_run_took_beside_the_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = store(smooth(0, 4, 8, 8), tmp_path / "a.nc", compressed=False)
    assert main(["convert", str(source), str(tmp_path / "one"), "--backend", "serial"]) == 0
    assert "s in functions (" in capsys.readouterr().out
    assert main(["convert", str(source), str(tmp_path / "two"), "--backend", "serial", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["compared"]
    assert {"what": "calls", "unit": "calls", "low": 1, "high": 1, "actual": 1} in told


def test_every_price_has_a_name_in_the_table() -> None:
    table: PriceTable = load_prices()
    assert table.of("put_request").price == 0.000005
