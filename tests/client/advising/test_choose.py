"""Chosen chunks fit the target, cover the array, and cost their reading least."""

import itertools
import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from frazil.advising.choose import (
    MANY_CHUNKS,
    NEARLY,
    READINGS,
    SHARD_BYTES,
    Reading,
    choose,
    choose_common,
    choose_shards,
    lengths_along,
)
from frazil.advising.cost import Cut, Shape, chunk_count, map_reads, nbytes_of, series_reads

MIB = 1 << 20
DIMS = ("time", "member", "level", "lat", "lon")


def array(name: str = "tas", itemsize: int = 4, own: int = 0, **lengths: int) -> Shape:
    series = "time" if "time" in lengths else None
    maps = frozenset({"lat", "lon"} & lengths.keys())
    return Shape(name, lengths, itemsize, series, maps, {"time": own} if own and series else {})


@st.composite
def arrays(draw: st.DrawFn, most: int = 3000) -> Shape:
    dims = draw(st.lists(st.sampled_from(DIMS), unique=True, max_size=5))
    lengths = {dim: draw(st.integers(0, most) | st.sampled_from([1, 24, 365, 721, 1440])) for dim in dims}
    return array(itemsize=draw(st.sampled_from([1, 2, 4, 8, 16, 100])), own=draw(st.integers(0, 400)), **lengths)


TARGETS = st.sampled_from([1, 50, 4096, MIB, 16 * MIB, 256 * MIB])


@given(one=arrays(), target=TARGETS, reading=st.sampled_from(READINGS))
def test_chunks_fit_the_target_and_the_array(one: Shape, target: int, reading: Reading) -> None:
    chunks = choose(one, reading, target)
    assert chunks.keys() == one.lengths.keys()
    assert all(1 <= length <= max(1, one.lengths[dim]) for dim, length in chunks.items())
    assert nbytes_of(one, chunks) <= max(target, one.itemsize)


@given(one=arrays(), target=TARGETS)
def test_each_reading_costs_no_less_with_chunks_for_another(one: Shape, target: int) -> None:
    cuts = {reading: Cut(choose(one, reading, target)) for reading in READINGS}
    series = {reading: series_reads(one, cut).seconds for reading, cut in cuts.items()}
    maps = {reading: map_reads(one, cut).seconds for reading, cut in cuts.items()}
    assert series["temporal"] == min(series.values())
    assert maps["spatial"] == min(maps.values())
    both = {reading: series[reading] + maps[reading] for reading in READINGS}
    assert both["balanced"] <= min(both.values()) * (1 + 1e-9)


@given(one=arrays(), target=TARGETS, reading=st.sampled_from(READINGS))
def test_chunks_leave_little_of_a_target_unused(one: Shape, target: int, reading: Reading) -> None:
    chunks = choose(one, reading, target)
    if nbytes_of(one, {dim: max(1, length) for dim, length in one.lengths.items()}) <= target:
        assert chunks == {dim: max(1, length) for dim, length in one.lengths.items()}
    else:
        # The next length along a dimension is at most twice as long, or a little more where lengths are thinned out.
        assert nbytes_of(one, chunks) * 2.5 > target


@given(
    lengths=st.tuples(st.integers(1, 40), st.integers(1, 30), st.integers(1, 30)),
    target=st.integers(16, 2000),
    reading=st.sampled_from(READINGS),
)
def test_no_chunks_that_cannot_grow_need_many_fewer_requests(
    lengths: tuple[int, int, int], target: int, reading: Reading
) -> None:
    one = array(**dict(zip(("time", "lat", "lon"), lengths, strict=True)))
    known = [lengths_along(length, 0) for length in lengths]

    def fits(chunks: tuple[int, ...]) -> bool:
        return math.prod(chunks) * 4 <= target

    def requests(chunks: tuple[int, ...]) -> int:
        cut = Cut(dict(zip(one.lengths, chunks, strict=True)))
        series, maps = series_reads(one, cut).requests, map_reads(one, cut).requests
        return {"temporal": series, "spatial": maps, "balanced": series + maps}[reading]

    every = [chunks for chunks in itertools.product(*known) if fits(chunks)]
    found = tuple(choose(one, reading, target).values())
    assert found in every
    # What another reading chose may be taken for its smaller chunks, which is worth as much as they are smaller.
    assert requests(found) * (0.1 + 4 * math.prod(found) / 85e6) <= NEARLY * min(map(requests, every)) * (
        0.1 + target / 85e6
    )


@given(size=st.integers(1, 10**6), own=st.integers(0, 10**6))
def test_lengths_leave_no_large_remainder(size: int, own: int) -> None:
    for length in set(lengths_along(size, 0)):
        count = -(-size // length)
        assert count * length - size < count
    found = lengths_along(size, own)
    assert found[0] == 1
    assert found[-1] == size
    assert len(found) < 6 * math.isqrt(size) + 10


@pytest.mark.parametrize(
    ("one", "temporal", "spatial"),
    [
        (array(time=1000, lat=73, lon=144), {"time": 1000}, {"lat": 73, "lon": 144}),
        (array(time=10**6, lat=721, lon=1440), {"time": 10**6}, {"lat": 721, "lon": 1440}),
        (
            array(own=24, time=87600, level=37, lat=721, lon=1440),
            {"time": 87600},
            {"level": 1, "lat": 721, "lon": 1440},
        ),
        (array(own=24, time=240, member=50, level=37, lat=361, lon=720), {"time": 240}, {"lat": 361, "lon": 720}),
    ],
)
def test_a_series_or_a_map_is_one_chunk_where_it_fits(
    one: Shape, temporal: dict[str, int], spatial: dict[str, int]
) -> None:
    assert choose(one, "temporal", 16 * MIB).items() >= temporal.items()
    assert choose(one, "spatial", 16 * MIB).items() >= spatial.items()
    assert series_reads(one, Cut(choose(one, "temporal", 16 * MIB))).requests == 1
    assert map_reads(one, Cut(choose(one, "spatial", 16 * MIB))).requests == 1


@pytest.mark.parametrize("own", [24, 24 * 31, 6])
def test_balanced_chunks_hold_whole_files_or_even_parts_of_one(own: int) -> None:
    length = choose(array(own=own, time=8760 // own * own, lat=721, lon=1440), "balanced", 16 * MIB)["time"]
    assert length % own == 0 or own % length == 0
    assert length > 1


def test_balanced_chunks_make_a_series_and_a_map_cost_about_the_same() -> None:
    one = array(own=24, time=8760, lat=721, lon=1440)
    cut = Cut(choose(one, "balanced", 16 * MIB))
    series, maps = series_reads(one, cut).requests, map_reads(one, cut).requests
    assert 0.5 < series / maps < 2
    assert series + maps <= 1.2 * 2 * math.sqrt(one.nbytes / (16 * MIB))  # two equal factors have the least sum


def test_what_a_reading_does_not_ask_for_fills_chunks_up_even_if_it_cuts_a_dimension_unevenly() -> None:
    # 37 is prime: one level a chunk would leave no remainder, and chunks of a fifteenth of the target.
    chunks = choose(array(time=100, level=37, lat=10, lon=10), "temporal", 15 * 4 * 10_000)
    assert chunks == {"time": 100, "level": 13, "lat": 10, "lon": 10}


def test_the_largest_array_decides_first() -> None:
    large, small = array("z", time=1000, lat=100, lon=100), array("a", time=1000, station=10)
    chunks = choose_common([small, large], "spatial", MIB)
    assert chunks == choose(large, "spatial", MIB) | {"station": 10}
    assert chunks["time"] < choose(small, "spatial", MIB)["time"]


def test_maps_of_regions_are_cut_square() -> None:
    chunks = choose(array(lat=20000, lon=20000), "spatial", 16 * MIB)
    assert chunks == {"lat": 2000, "lon": 2000}


def test_many_dimensions_and_long_ones_are_chosen_in_a_moment() -> None:
    lengths = {f"d{number}": 50 for number in range(9)}
    chunks = choose(Shape("v", lengths | {"time": 10**6}, 4, "time", frozenset({"d7", "d8"}), {}), "balanced", 16 * MIB)
    assert 1 <= math.prod(chunks.values()) * 4 <= 16 * MIB


@given(
    several=st.lists(arrays(), min_size=1, max_size=4),
    target=TARGETS,
    reading=st.sampled_from(READINGS),
    data=st.data(),
)
def test_one_choice_for_all_arrays_fits_each_and_does_not_depend_on_their_order(
    several: list[Shape], target: int, reading: Reading, data: st.DataObject
) -> None:
    sizes: dict[str, int] = {}
    shapes = []
    for number, one in enumerate(several):
        sizes = dict(one.lengths) | sizes
        shapes.append(
            array(
                f"v{number}", one.itemsize, one.file_lengths.get("time", 0), **{dim: sizes[dim] for dim in one.lengths}
            )
        )
    chunks = choose_common(shapes, reading, target)
    assert chunks.keys() == {dim for one in shapes for dim in one.lengths}
    for one in shapes:
        assert nbytes_of(one, chunks) <= max(target, one.itemsize)
    assert choose_common(data.draw(st.permutations(shapes)), reading, target) == chunks
    if len(shapes) == 1:
        assert chunks == choose(shapes[0], reading, target)


@given(one=arrays(most=20_000), target=st.sampled_from([100, 4096, MIB]), reading=st.sampled_from(READINGS))
def test_shards_hold_whole_chunks_and_are_no_larger_than_memory_allows(
    one: Shape, target: int, reading: Reading
) -> None:
    chunks = choose(one, reading, target)
    shards = choose_shards([one], chunks)
    if chunk_count(one, Cut(chunks)) <= MANY_CHUNKS:
        assert shards == {}
    assert all(length > chunks[dim] and length % chunks[dim] == 0 for dim, length in shards.items())
    assert nbytes_of(one, chunks | shards) <= max(SHARD_BYTES, nbytes_of(one, chunks))


def test_shards_are_advised_where_chunks_are_many_and_take_values_from_no_more_files_than_needed() -> None:
    one = array(own=24, time=87600, lat=721, lon=1440)
    chunks = choose(one, "balanced", MIB)
    shards = choose_shards([one], chunks)
    assert "lon" in shards
    assert nbytes_of(one, chunks | shards) > SHARD_BYTES / 4
    hourly = choose_shards([one], {"time": 1, "lat": 721, "lon": 1440})
    assert hourly == {"time": 24}
