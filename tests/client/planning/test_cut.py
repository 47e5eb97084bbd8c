"""Any template is cut into regions that are proven, and grouped into tasks that are fair and near their files."""

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from frazil.planning.cut import MEMORY_REGIONS, REGION_UNITS, cut, group
from frazil_functions.footprint import handled_nbytes
from frazil_functions.grids import prove
from frazil_functions.template import ArrayTemplate, DatasetTemplate

DIMS = {"time": 40, "y": 12, "x": 9}


@st.composite
def templates(draw: st.DrawFn) -> tuple[DatasetTemplate, list[tuple[int, int]]]:
    """A template of up to four arrays, and the spans of its files."""
    sizes = {dim: draw(st.integers(1, most)) for dim, most in DIMS.items()}
    arrays = {}
    for number in range(draw(st.integers(1, 4))):
        dims = tuple(draw(st.permutations(list(DIMS)))[: draw(st.integers(0, 3))])
        shape = tuple(sizes[dim] for dim in dims)
        chunks = tuple(draw(st.integers(1, length + 2)) for length in shape)
        shards = tuple(c * draw(st.integers(1, 3)) for c in chunks) if draw(st.booleans()) else None
        name = f"v{number}"
        dtype = draw(st.sampled_from(["<f4", "|i1", "<f8", "string"]))
        arrays[name] = ArrayTemplate(name, dims, shape, dtype, chunks, shards, {}, "data")
    cuts = draw(st.sets(st.integers(1, max(1, sizes["time"] - 1)), max_size=6)) - {sizes["time"]}
    spans = list(pairwise([0, *sorted(cuts), sizes["time"]]))
    return DatasetTemplate(sizes, "time", {}, arrays, {}), spans


@settings(max_examples=200, deadline=None)
@given(
    made=templates(), region_bytes=st.integers(1, 20_000), workers=st.integers(1, 9), task_bytes=st.integers(1, 20_000)
)
def test_any_template_is_covered_once_by_tasks_that_know_their_files(
    made: tuple[DatasetTemplate, list[tuple[int, int]]], region_bytes: int, workers: int, task_bytes: int
) -> None:
    template, spans = made
    grids = [array.grid for array in template.arrays.values()]
    regions = cut(template, region_bytes)
    prove(grids, regions)
    tasks = group(template, regions, spans, workers, task_bytes)
    assert [region for task in tasks for region in task.regions] == regions
    sizes = [handled_nbytes(template, region, ()) for region in regions]
    assert len(tasks) <= max(1, min(workers, len(regions), -(-sum(sizes) // task_bytes)))
    share, largest = sum(sizes) / max(1, len(tasks)), max(sizes)
    for task in tasks:
        own = [handled_nbytes(template, region, ()) for region in task.regions]
        assert own
        assert task.nbytes == sum(own)
        assert task.memory_bytes == MEMORY_REGIONS * max(own)
        assert task.nbytes <= share + largest
        low, high = task.sources
        spread = [region.span("time") for region in task.regions]
        needed = {
            at
            for at, (start, stop) in enumerate(spans)
            for span in spread
            if (span is None and at == 0) or (span is not None and start < span[1] and span[0] < stop)
        }
        assert needed <= set(range(low, high))
        assert {low, high - 1} <= needed


@settings(max_examples=300, deadline=None)
@given(
    made=templates(),
    region_bytes=st.integers(1, 2_000),
    workers=st.integers(1, 9),
    task_bytes=st.integers(1, 250),
    most=st.integers(500, 20_000),
)
def test_no_task_holds_more_than_the_most_unless_one_region_does(
    made: tuple[DatasetTemplate, list[tuple[int, int]]], region_bytes: int, workers: int, task_bytes: int, most: int
) -> None:
    template, spans = made
    regions = cut(template, region_bytes)
    tasks = group(template, regions, spans, workers, task_bytes, most)
    assert [region for task in tasks for region in task.regions] == regions
    assert all(task.nbytes <= most or len(task.regions) == 1 for task in tasks)
    sizes = [handled_nbytes(template, region, ()) for region in regions]
    total, largest = sum(sizes), max(sizes)
    if largest <= most / 2:
        if total <= most / 2 * min(workers, len(regions)):
            assert len(tasks) <= max(1, workers)
        assert max(task.nbytes for task in tasks) <= total / len(tasks) + 2 * largest
        assert len(tasks) <= max(1, -(-total // task_bytes))


@settings(max_examples=100, deadline=None)
@given(made=templates(), region_bytes=st.integers(1, 20_000))
def test_regions_come_in_the_order_of_the_append_dimension(
    made: tuple[DatasetTemplate, list[tuple[int, int]]], region_bytes: int
) -> None:
    regions = cut(made[0], region_bytes)
    starts = [(region.span("time") or (0, 0))[0] for region in regions]
    assert starts == sorted(starts)


def template(**arrays: Any) -> DatasetTemplate:
    made = {
        name: ArrayTemplate(name, dims, shape, "<f4", chunks, None, {}, "data")
        for name, (dims, shape, chunks) in arrays.items()
    }
    return DatasetTemplate({"time": 100, "x": 10}, "time", {}, made, {})


def test_a_region_holds_as_many_units_as_its_bytes_allow() -> None:
    regions = cut(template(t=(("time", "x"), (100, 10), (5, 10))), region_bytes=5 * 10 * 4 * 4)
    assert [region.span("time") for region in regions] == [(0, 20), (20, 40), (40, 60), (60, 80), (80, 100)]


def test_a_unit_larger_than_the_bytes_is_a_region_of_its_own() -> None:
    regions = cut(template(t=(("time", "x"), (100, 10), (50, 10))), region_bytes=1)
    assert [region.span("time") for region in regions] == [(0, 50), (50, 100)]


def test_equal_regions_give_equal_tasks() -> None:
    made = template(t=(("time", "x"), (100, 10), (1, 10)))
    tasks = group(made, cut(made, 1), [(at, at + 1) for at in range(100)], workers=7, task_bytes=1)
    assert {len(task.regions) for task in tasks} == {14, 15}
    assert [task.sources[0] for task in tasks[1:]] == [task.sources[1] for task in tasks[:-1]]


def test_much_work_is_more_tasks_than_workers_in_whole_rounds() -> None:
    made = template(t=(("time", "x"), (100, 10), (1, 10)))  # of 40 bytes each
    tasks = group(made, cut(made, 1), [(0, 100)], workers=4, task_bytes=1, most_bytes=440)
    assert len(tasks) == 12
    assert {len(task.regions) for task in tasks} == {8, 9}


def test_a_region_larger_than_the_most_is_a_task_of_its_own() -> None:
    dims = ("time", "x")
    made = template(a=(dims, (100, 10), (100, 10)), b=(dims, (100, 10), (10, 10)))
    tasks = group(made, cut(made, 1), [(0, 100)], workers=1, task_bytes=1, most_bytes=1000)
    assert [region.array for region in tasks[0].regions] == ["a"]
    assert all(task.nbytes <= 1000 for task in tasks[1:])


def test_little_work_is_one_task_however_many_workers_there_are() -> None:
    made = template(t=(("time", "x"), (100, 10), (1, 10)))
    assert len(group(made, cut(made, 1), [(0, 100)], workers=64, task_bytes=1 << 20)) == 1


def test_arrays_of_the_same_times_lie_in_the_same_tasks() -> None:
    dims, shape = ("time", "x"), (100, 10)
    made = template(a=(dims, shape, (10, 10)), b=(dims, shape, (10, 10)))
    tasks = group(made, cut(made, 1), [(0, 50), (50, 100)], workers=2, task_bytes=1)
    assert [task.sources for task in tasks] == [(0, 1), (1, 2)]
    assert all({region.array for region in task.regions} == {"a", "b"} for task in tasks)


def test_arrays_without_elements_have_no_regions() -> None:
    made = template(t=(("time", "x"), (0, 10), (1, 10)))
    assert cut(made, 1) == []
    assert group(made, [], [(0, 0)], workers=3, task_bytes=1) == ()


def test_strings_count_as_sixteen_bytes() -> None:
    array = ArrayTemplate("s", ("time",), (4,), "string", (4,), None, {}, "data")
    made = DatasetTemplate({"time": 4}, "time", {}, {"s": array}, {})
    assert handled_nbytes(made, cut(made, 1)[0], ()) == array.nbytes == 64


def test_a_region_of_tiny_chunks_holds_no_more_than_can_be_called_off() -> None:
    tiny = ArrayTemplate("a", ("x",), (10_000,), "<f4", (1,), None, {}, "data")
    template = DatasetTemplate({"x": 10_000}, "x", {}, {"a": tiny}, {})
    counts = [tiny.grid.count(region) for region in cut(template, 1 << 30)]
    assert sum(counts) == 10_000
    assert max(counts) <= REGION_UNITS
