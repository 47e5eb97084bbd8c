from typing import Any

import frazil
from frazil.costing.killed import killed_words
from frazil.costing.limits import FunctionLimits
from frazil.costing.memory import LITHOPS, task_memory


def words(plan: frazil.Plan, megabytes: int, measured: int = 0) -> str:
    return killed_words(plan, 0, FunctionLimits("aws_lambda", megabytes << 20), measured)


def test_a_limit_below_what_the_plan_needs_is_named_with_a_size_that_is_enough(tmp_path: Any, series: Any) -> None:
    plan = made(tmp_path, series)
    need = task_memory(plan, plan.tasks[0]) + LITHOPS
    said = words(plan, 128)
    assert "most likely killed at its memory limit of 134.2 MB (runtime_memory: 128)" in said
    enough = int(said.partition("Give functions more (runtime_memory: ")[2].split(" ")[0])
    assert need <= enough << 20 < need + (64 << 20)
    assert f"or make a chunk of {plan.tasks[0].regions[0].array!r} smaller" in said


def test_where_the_plan_needs_less_it_says_so_and_twice_the_limit_is_advised(tmp_path: Any, series: Any) -> None:
    said = words(made(tmp_path, series), 2048, measured=300_000_000)
    assert "its task needs more than that, although by the plan" in said
    assert "others of this run were measured to take up to 300.0 MB" in said
    assert "runtime_memory: 4096" in said


def made(folder: Any, series: Any) -> frazil.Plan:
    series(24).to_netcdf(folder / "hours.nc")
    return frazil.plan(
        str(folder / "hours.nc"), str(folder / "archive"), chunks={"time": 8}, executor=frazil.SerialExecutor()
    )
