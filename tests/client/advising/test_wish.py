"""What stands in place of lengths is read strictly."""

import pytest

from frazil import InvalidInputError
from frazil.advising.wish import Auto, auto_of, reading_of, size_of


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("auto:temporal", Auto("temporal", 16 << 20)),
        ("auto:spatial:64MiB", Auto("spatial", 64 << 20)),
        (" auto : balanced : 2 GB", Auto("balanced", 2 * 10**9)),
    ],
)
def test_a_wish_is_a_reading_and_a_size(text: str, wanted: Auto) -> None:
    assert auto_of(text) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("auto:tempral", "chunks cannot be for 'tempral' reading; did you mean 'temporal'?"),
        ("auto", "chunks cannot be 'auto'; give lengths, as in time=24, or auto:READING"),
        ("automatic:temporal", "chunks cannot be 'automatic:temporal'"),
        ("auto:", "chunks cannot be 'auto:'"),
        ("auto:temporal:", "chunks '' is no size; use a number and a unit, as in 16MiB"),
        ("auto:temporal:big", "chunks 'big' is no size"),
        ("auto:temporal:0", "chunks '0' is no size that a chunk can have"),
        ("auto:temporal:-1MiB", "chunks '-1MiB' is no size"),
        ("auto:temporal:16MiB:x", "chunks '16MiB:x' is no size"),
    ],
)
def test_another_wish_is_refused_with_what_is_wrong_about_it(text: str, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        auto_of(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("16MiB", 16 << 20), ("16 mib", 16 << 20), (4096, 4096), ("1.5kB", 1500), ("2GB", 2 * 10**9), ("7", 7), ("7B", 7)],
)
def test_sizes_are_numbers_with_a_unit(text: str | int, nbytes: int) -> None:
    assert size_of(text) == nbytes


@pytest.mark.parametrize(
    "text", ["", "MiB", "16 M", "nan", "inf", "0", "0.5B", 0, -3, True, "1" * 30, "9999999TiB", "\u0661MiB"]
)
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(InvalidInputError, match=r"target_size .* is no size"):
        size_of(text)


def test_a_reading_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidInputError, match=r"--reading cannot be for 'spacial' reading; did you mean 'spatial'\?"):
        reading_of("spacial", "--reading")
