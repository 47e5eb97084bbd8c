"""Compression as users write it becomes one codec and its settings, or is refused with the cure."""

from typing import Any

import pytest

import frazil
from frazil.template.compression import PRESETS, CompressionChoice, compressed
from frazil_functions.compression import BLOSC_MOST_BYTES, Compression
from frazil_functions.template import ArrayTemplate, DatasetTemplate

MEANT = {
    "zstd:3": Compression("zstd", 3),
    "zstd": Compression("zstd", 3),
    "gzip:5": Compression("gzip", 5),
    "gzip": Compression("gzip", 5),
    "none": Compression("none"),
    "blosc:zstd:3": Compression("blosc", 3, "zstd", "shuffle"),
    "blosc:lz4": Compression("blosc", 5, "lz4", "shuffle"),
    "blosc:lz4hc:9:noshuffle": Compression("blosc", 9, "lz4hc", "noshuffle"),
    "blosc:lz4:5:bitshuffle": Compression("blosc", 5, "lz4", "bitshuffle"),
    "small": "small",
}

WRONG = {
    "zsdt:3": ("there is no codec 'zsdt'", "did you mean 'zstd'?"),
    "blossc:zstd:3": ("there is no codec 'blossc'", "did you mean 'blosc'?"),
    "balancd": ("there is no codec 'balancd'", "did you mean 'balanced'?"),
    "bzip2": ("there is no codec 'bzip2'", "did you mean 'gzip'?"),
    "lz4:5": ("there is no codec 'lz4'", "did you mean 'blosc:lz4'?"),
    "": ("there is no codec ''", "'zstd'"),
    "blosc": ("does not say with what Blosc compresses", "lz4"),
    "blosc:3": ("no compressor of Blosc '3'", "'zstd'"),
    "blosc:lz5:3": ("no compressor of Blosc 'lz5'", "did you mean 'lz4'?"),
    "blosc:snappy:3": ("no compressor of Blosc 'snappy'", "'lz4'"),
    "blosc:lz4:5:bitshufle": ("no shuffle of Blosc 'bitshufle'", "did you mean 'bitshuffle'?"),
    "blosc:lz4:bitshuffle": ("'bitshuffle' is no level", "blosc:COMPRESSOR:LEVEL:SHUFFLE"),
    "blosc:lz4:10": ("blosc has no level 10", "1 to 9"),
    "blosc:lz4:0": ("blosc has no level 0", "1 to 9", "'none'"),
    "zstd:0": ("zstd has no level 0", "1 to 22"),
    "zstd:-1": ("zstd has no level -1", "1 to 22"),
    "zstd:23": ("zstd has no level 23", "1 to 22"),
    "gzip:10": ("gzip has no level 10", "1 to 9"),
    "zstd:three": ("'three' is no level", "zstd:LEVEL"),
    "zstd:3.5": ("'3.5' is no level",),
    "zstd:": ("'' is no level",),
    "zstd:3:shuffle": ("too much", "zstd:LEVEL"),
    "none:1": ("too much", "write none"),
    "fast:1": ("there is no codec 'fast'",),
    "zstd:1,gzip:1": ("all variables is given twice", "'zstd:1'", "'gzip:1'"),
    "a=zstd:1,a=gzip:1": ("'a' is given twice",),
    "a=zsdt": ("compression of 'a'", "did you mean 'zstd'?"),
}


@pytest.mark.parametrize("text", MEANT)
def test_a_codec_is_what_its_text_says(text: str) -> None:
    assert CompressionChoice.of(text).by_name == {"*": MEANT[text]}
    assert CompressionChoice.of(str(MEANT[text])).by_name == {"*": MEANT[text]}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_codec_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(frazil.InvalidInputError) as caught:
        CompressionChoice.of(text)
    assert "compression" in str(caught.value)
    for part in WRONG[text]:
        assert part in str(caught.value)


@pytest.mark.parametrize("asked", [3, b"zstd:3", ["zstd:3", 3], {"a": 3}, {"a": None}, {3: "zstd"}])
def test_what_is_no_text_is_refused(asked: Any) -> None:
    with pytest.raises(frazil.InvalidInputError, match="give text, as in 'zstd:3'"):
        CompressionChoice.of(asked)


def test_a_text_and_a_mapping_mean_the_same() -> None:
    text = CompressionChoice.of("small, tas=blosc:lz4:5, a=b=none")
    assert text == CompressionChoice.of(["small, tas=blosc:lz4:5", "a=b=none"])
    assert text == CompressionChoice.of({"*": "small", "tas": "blosc:lz4:5", "a=b": "none"})


def array(name: str, dtype: str = "<f4", **options: Any) -> ArrayTemplate:
    shape = options.pop("chunks", (4,))
    return ArrayTemplate(name, ("x",), shape, dtype, shape, None, options.pop("attributes", {}), "data", **options)


def given(asked: str | None, *arrays: ArrayTemplate) -> dict[str, Compression | None]:
    template = DatasetTemplate({"x": 4}, None, {}, {one.name: one for one in arrays}, {})
    made = compressed(template, CompressionChoice.of(asked))
    return {name: one.compression for name, one in made.arrays.items()}


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_a_preset_shuffles_numbers_of_several_bytes_alone(preset: str | None) -> None:
    dtypes = ["<f4", "<f8", "<i2", "<u8", "<c8", "|u1", "|b1", "|S7", "string"]
    found = given(preset, *(array(dtype, dtype) for dtype in dtypes))
    numbers, others = PRESETS[preset or "balanced"]
    assert found == dict.fromkeys(dtypes[:5], numbers) | dict.fromkeys(dtypes[5:], others)
    assert (numbers.codec, others.codec) == ("blosc", "zstd")


def test_a_chunk_that_is_too_large_for_blosc_gets_another_codec_unless_blosc_was_asked_for() -> None:
    most = BLOSC_MOST_BYTES // 8
    assert str(given(None, array("a", "<f8", chunks=(most,)))["a"]) == "blosc:zstd:2:shuffle"
    assert str(given(None, array("a", "<f8", chunks=(most + 1,)))["a"]) == "zstd:3"
    assert str(given("blosc:lz4:5", array("a", "<f8", chunks=(most + 1,)))["a"]) == "blosc:lz4:5:shuffle"


def test_coordinates_keep_zarr_s_default_unless_they_are_named() -> None:
    arrays = array("tas", attributes={"coordinates": "height"}), array("height")
    assert given("none", *arrays) == {"tas": Compression("none"), "height": None}
    assert given("height=gzip:1,tas=none", *arrays) == {"tas": Compression("none"), "height": Compression("gzip", 1)}


def test_a_variable_that_is_not_made_is_refused_by_name() -> None:
    there = array("old", before=(4,))
    assert given("none", array("tas"), there) == {"tas": Compression("none"), "old": None}
    with pytest.raises(frazil.InvalidInputError, match="'tass', which is not written; did you mean 'tas'"):
        given("tass=none", array("tas"))
    with pytest.raises(frazil.InvalidInputError, match="'old', which is there already and keeps its own"):
        given("old=none", array("tas"), there)
    with pytest.raises(frazil.InvalidInputError, match="no variable is new"):
        given("none", there)
    assert given(None, there) == {"old": None}
