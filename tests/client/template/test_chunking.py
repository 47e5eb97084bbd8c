"""Chunks and shards: what was asked for stands, the rest gets a sound default."""

import math
from collections.abc import Mapping

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from frazil import InvalidInputError
from frazil.template.chunking import (
    TARGET_BYTES,
    ChunkChoice,
    check_choice,
    chunk_shape,
    fit_shards,
    label_chunk,
    shard_shape,
)
from frazil_functions.template import itemsize_of

DIMS = ("time", "lat", "lon")
SIZES = {"time": 10, "lat": 4, "lon": 6}


@pytest.mark.parametrize(
    ("shape", "chunks", "wanted"),
    [
        ((1000, 721, 1440), {}, (4, 721, 1440)),
        ((1000, 721, 1440), {"time": 24}, (24, 361, 360)),
        ((1000, 721, 1440), {"time": -1}, (1000, 46, 90)),
        ((1000, 721, 1440), {"lat": 100}, (29, 100, 1440)),
        ((1000, 721, 1440), {"lat": -1, "lon": -1}, (4, 721, 1440)),
        ((10, 20000, 20000), {}, (1, 1250, 2500)),
        ((10, 4, 6), {}, (10, 4, 6)),
        ((10, 4, 6), {"time": 3, "lat": 2, "lon": 5}, (3, 2, 5)),
        ((0, 4, 6), {}, (1, 4, 6)),
        ((10, 0, 6), {}, (10, 1, 6)),
        ((0, 4, 6), {"time": -1}, (1, 4, 6)),
    ],
)
def test_chunks_fit_the_target_unless_they_were_chosen(
    shape: tuple[int, ...], chunks: dict[str, int], wanted: tuple[int, ...]
) -> None:
    assert chunk_shape(DIMS, shape, 4, chunks, "time") == wanted


def test_scalars_have_empty_chunks() -> None:
    assert chunk_shape((), (), 8, {"time": 3}, "time") == ()


def test_chunks_of_dimensions_that_an_array_lacks_do_not_matter_to_it() -> None:
    assert chunk_shape(("lat",), (4,), 4, {"time": 2}, "time") == (4,)


@given(
    shape=st.tuples(*[st.integers(0, 100_000)] * 3),
    itemsize=st.sampled_from([1, 2, 4, 8, 16, 100]),
    append_dim=st.sampled_from(["time", "lat", None]),
)
def test_default_chunks_are_at_most_the_target_and_within_the_array(
    shape: tuple[int, ...], itemsize: int, append_dim: str | None
) -> None:
    chunks = chunk_shape(DIMS, shape, itemsize, {}, append_dim)
    assert math.prod(chunks) * itemsize <= TARGET_BYTES
    assert all(1 <= chunk <= max(1, length) for chunk, length in zip(chunks, shape, strict=True))


@given(
    shape=st.tuples(*[st.integers(1, 3000)] * 3),
    chosen=st.dictionaries(st.sampled_from(DIMS), st.integers(1, 3000)),
)
def test_what_was_chosen_stands(shape: tuple[int, ...], chosen: dict[str, int]) -> None:
    chunks = dict(zip(DIMS, chunk_shape(DIMS, shape, 4, chosen, "time"), strict=True))
    assert {dim: chunks[dim] for dim in chosen} == chosen


@pytest.mark.parametrize(
    ("shards", "wanted"),
    [
        ({}, None),
        ({"other": 5}, None),
        ({"time": 6}, (6, 2, 6)),
        ({"time": 6, "lat": 4}, (6, 4, 6)),
        ({"time": -1}, (12, 2, 6)),
        ({"lon": -1}, (3, 2, 6)),
        ({"time": 30}, (30, 2, 6)),
    ],
)
def test_shards_are_whole_chunks(shards: Mapping[str, int], wanted: tuple[int, ...] | None) -> None:
    assert shard_shape("tas", DIMS, (10, 4, 6), (3, 2, 6), shards) == wanted


@pytest.mark.parametrize(("length", "use"), [(4, 3), (7, 6), (2, 3)])
def test_shards_that_split_chunks_are_refused_with_a_length_that_does_not(length: int, use: int) -> None:
    with pytest.raises(InvalidInputError, match=f"shards of {length} along 'time' .* chunks of 3 .'tas'.; use {use}"):
        shard_shape("tas", DIMS, (10, 4, 6), (3, 2, 6), {"time": length})


def test_a_choice_that_fits_is_accepted() -> None:
    check_choice(ChunkChoice({"time": 10, "lat": -1}, {"time": 20}), SIZES)


def test_whole_numbers_of_any_kind_become_pythons_own() -> None:
    made = check_choice(ChunkChoice({"time": np.int64(2)}, {"time": np.uint8(4)}), SIZES)  # type: ignore[dict-item]
    assert made == ChunkChoice({"time": 2}, {"time": 4})
    assert {type(length) for part in (made.chunks, made.shards) for length in part.values()} == {int}


@pytest.mark.parametrize(
    ("chunks", "shards", "says"),
    [
        ({"time": 11}, {}, r"chunks of 11 along 'time' do not fit: it has 10\. Use at most that, or -1"),
        ({"time": 0}, {}, "chunks of 0 along 'time' are impossible; use at least 1, or -1 for all of it"),
        ({}, {"lat": -3}, "shards of -3 along 'lat' are impossible"),
        ({"lattitude": 1}, {}, "chunks name the dimension 'lattitude', which no variable has"),
        ({}, {"latt": 1}, r"shards name the dimension 'latt', which no variable has; did you mean 'lat'\?"),
        ({"time": "24"}, {}, "chunks of '24' along 'time' are no whole number"),
        ({"time": True}, {}, "chunks of True along 'time' are no whole number"),
        ({}, {"time": True}, "shards of True along 'time' are no whole number"),
        ({"time": np.True_}, {}, "chunks of np.True_ along 'time' are no whole number"),
        ({"time": 2.0}, {}, "chunks of 2.0 along 'time' are no whole number"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused(chunks: dict[str, int], shards: dict[str, int], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        check_choice(ChunkChoice(chunks, shards), SIZES)


def test_labels_have_room_for_appends_in_one_chunk() -> None:
    assert [label_chunk(length) for length in (1, 1024, 5000, 10**9)] == [1024, 1024, 5000, 131072]


def test_strings_of_any_length_count_as_sixteen_bytes() -> None:
    assert [itemsize_of(dtype) for dtype in ("string", "<f4", "|S5")] == [16, 4, 5]


def test_chunks_that_nobody_chose_divide_the_shards_that_somebody_did() -> None:
    choice = ChunkChoice({"lat": 5}, {"time": 12, "lat": 10})
    assert fit_shards(("time", "lat", "lon"), (10, 5, 7), choice) == (6, 5, 7)
    assert fit_shards(("time",), (10,), ChunkChoice({}, {"time": -1})) == (10,)
