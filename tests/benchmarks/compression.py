"""Codecs on values as they occur: how fast, how small, and which ones the presets should be.

`python tests/benchmarks/compression.py` prints the table of docs/compression.md: codecs alone, on one core.

The rules. Each codec is compared with Zarr's own default (zstd at its level 3), set by set, and over all sets by the
geometric mean. `fast` takes the least time to encode and decode, and is no larger than that default over all sets.
`balanced`, which is what users get who ask for nothing, is the smallest of those that encode and decode as fast as the
default over all sets, and on no set lose more than a third of speed or size. `small` is the smallest of those that
encode at a quarter of the default's rate or faster over all sets.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs
import numcodecs.blosc
import numpy as np
import xarray as xr

from frazil.template.compression import PRESETS, CompressionChoice
from frazil_functions.compression import SHUFFLES, Compression
from harness import Bench, Row

type Values = np.ndarray[Any, np.dtype[Any]]

ZARR = "zstd:3"
"""What Zarr compresses with by default: zstd at level 0, which zstd takes for its own default, 3."""

SETTINGS = (
    "zstd:1",
    ZARR,
    "zstd:9",
    "gzip:5",
    "blosc:lz4:1:shuffle",
    "blosc:lz4:5:shuffle",
    "blosc:lz4:5:bitshuffle",
    "blosc:lz4hc:5:shuffle",
    "blosc:zstd:1:shuffle",
    "blosc:zstd:2:noshuffle",
    "blosc:zstd:2:shuffle",
    "blosc:zstd:2:bitshuffle",
    "blosc:zstd:3:shuffle",
    "blosc:zstd:5:shuffle",
    "blosc:zstd:5:bitshuffle",
    "blosc:zstd:7:shuffle",
)

NORTH_AMERICA = Path(__file__).parents[1] / "data" / "north-america"


@dataclass(frozen=True, slots=True)
class Measured:
    """One codec on one set: megabytes of values a second, and how many times smaller they become."""

    encode: float
    decode: float
    ratio: float

    @property
    def seconds(self) -> float:
        """What a megabyte takes both ways."""
        return 1 / self.encode + 1 / self.decode


def measure(bench: Bench) -> list[Row]:
    """One row for each preset: it keeps what its rule promises."""
    wanted = {name: str(numbers) for name, (numbers, _) in PRESETS.items()}
    table = measured((ZARR, *wanted.values()), sets(bench.size(720, 90)), bench.repeats)
    balanced = _mean(table, wanted["balanced"], _ratio)
    bounds: dict[str, tuple[str, Callable[[str], bool]]] = {
        "fast": (
            "at least twice as fast both ways, and no larger",
            lambda one: _mean(table, one, _seconds) <= 0.5 and _mean(table, one, _ratio) >= 1,
        ),
        "balanced": (
            "as fast both ways, a fifth smaller, and on no set a third worse",
            lambda one: _sound(table, one) and _mean(table, one, _ratio) >= 1.25,
        ),
        "small": (
            "smaller than balanced, encoded at a quarter of the rate or faster",
            lambda one: _mean(table, one, _ratio) > balanced and _mean(table, one, _encode) >= 0.25,
        ),
    }
    return [_row(name, text, *bounds[name], table) for name, text in wanted.items()]


def _row(
    name: str, text: str, target: str, kept: Callable[[str], bool], table: Mapping[str, Mapping[str, Measured]]
) -> Row:
    found, own = table[text].values(), table[ZARR].values()
    sizes = [b.ratio / a.ratio for a, b in zip(found, own, strict=True)]
    means = {what: _mean(table, text, which) for what, which in (("encoded", _encode), ("decoded", _decode))}
    return Row(
        number=f"`--compression {name}`, against Zarr's own default",
        target=target,
        measured=f"{1 / _mean(table, text, _ratio):.2f} of the size",
        met=kept(text),
        medians=", ".join(f"{what} at {value:.2f} of the rate" for what, value in means.items()),
        spread=f"{min(sizes):.2f} to {max(sizes):.2f} of the size",
        how=f"{text}, and zstd at its level 3; geometric means over {len(sizes)} sets of values "
        f"({', '.join(table[text])}), and the range of the sets; codecs alone, on one core, the best of the runs",
    )


def sets(rows: int) -> dict[str, Values]:
    """Values on `rows` latitudes and twice as many longitudes, as weather and climate have them; and real ones."""
    random = np.random.default_rng(0)
    time_, lat, lon = np.meshgrid(
        np.arange(4),
        np.linspace(-np.pi / 2, np.pi / 2, rows),
        np.linspace(0, 2 * np.pi, rows * 2, endpoint=False),
        indexing="ij",
        sparse=True,
    )
    waves = 5 * np.sin(3 * lon + time_ / 4) * np.cos(2 * lat) + 2 * np.sin(7 * lon + 5 * lat + time_ / 3)
    smooth = 288 + 30 * np.cos(lat) + waves
    small = smooth + random.normal(0, 0.05, smooth.shape)
    files = sorted(NORTH_AMERICA.glob("*.nc"))
    return {
        "air temperature of tests/data": np.concatenate([_values(path) for path in files]),
        "smooth float32": smooth.astype("f4"),
        "noisy float32": (smooth + random.normal(0, 1, smooth.shape)).astype("f4"),
        "float32 rounded to 0.1": small.round(1).astype("f4"),
        "packed int16": ((small - 288) / 0.002).round().astype("i2"),
    }


def _values(path: Path) -> Values:
    with xr.open_dataset(path, decode_cf=False) as dataset:
        return np.asarray(dataset["air_temperature"].values)


def measured(settings: tuple[str, ...], values: Mapping[str, Values], repeats: int) -> dict[str, dict[str, Measured]]:
    """Every codec on every set, by both."""
    numcodecs.blosc.use_threads = False  # as Zarr does
    return {
        text: {
            name: _measured(_codec(text, one.itemsize), np.ascontiguousarray(one), repeats)
            for name, one in values.items()
        }
        for text in settings
    }


def _codec(text: str, item: int) -> Any:
    asked = CompressionChoice.of(text).by_name["*"]
    assert isinstance(asked, Compression)
    match asked.codec:
        case "zstd":
            return numcodecs.Zstd(asked.level)
        case "gzip":
            return numcodecs.GZip(asked.level)
    return numcodecs.Blosc(
        asked.compressor, asked.level, ("noshuffle", *SHUFFLES[:2]).index(asked.shuffle), typesize=item
    )


def _measured(codec: Any, values: Values, repeats: int) -> Measured:
    encoded, out = codec.encode(values), np.empty_like(values)
    encode = min(_seconds_of(lambda: codec.encode(values)) for _ in range(repeats))
    decode = min(_seconds_of(lambda: codec.decode(encoded, out)) for _ in range(repeats))
    np.testing.assert_array_equal(out, values)
    return Measured(values.nbytes / 1e6 / encode, values.nbytes / 1e6 / decode, values.nbytes / len(encoded))


def _seconds_of(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return max(time.process_time() - began, 1e-9)


def _encode(one: Measured) -> float:
    return one.encode


def _decode(one: Measured) -> float:
    return one.decode


def _ratio(one: Measured) -> float:
    return one.ratio


def _seconds(one: Measured) -> float:
    return one.seconds


def _mean(table: Mapping[str, Mapping[str, Measured]], text: str, which: Callable[[Measured], float]) -> float:
    """One measure over all sets, in units of Zarr's own default."""
    return statistics.geometric_mean([which(one) / which(table[ZARR][name]) for name, one in table[text].items()])


def _sound(table: Mapping[str, Mapping[str, Measured]], text: str) -> bool:
    """Whether nobody has much to regret who gets it without asking."""
    return all(_mean(table, text, which) >= 1 for which in (_encode, _decode)) and all(
        which(one) >= which(table[ZARR][name]) / 1.5
        for name, one in table[text].items()
        for which in (_encode, _decode, _ratio)
    )


def chosen(table: Mapping[str, Mapping[str, Measured]]) -> dict[str, str]:
    """What the rules make of the measurements."""
    smaller = [one for one in table if _mean(table, one, _ratio) >= 1]
    sound = [one for one in table if _sound(table, one)]
    patient = [one for one in table if _mean(table, one, _encode) >= 0.25]
    return {
        "fast": min(smaller, key=lambda one: _mean(table, one, _seconds)),
        "balanced": max(sound, key=lambda one: _mean(table, one, _ratio)),
        "small": max(patient, key=lambda one: _mean(table, one, _ratio)),
    }


def main() -> None:
    """Print the table, and what follows from it."""
    table = measured(SETTINGS, sets(720), 5)
    names = list(table[ZARR])
    print(f"| codec | {' | '.join(names)} | over all |")
    print("|---" * (len(names) + 2) + "|")
    picked = {text: name for name, text in chosen(table).items()}
    for text, row in table.items():
        cells = [f"{one.encode:.0f} / {one.decode:.0f} / {one.ratio:.2f}" for one in row.values()]
        over = " / ".join(f"{_mean(table, text, which):.2f}" for which in (_encode, _decode, _ratio))
        label = f"**`{text}`** ({picked[text]})" if text in picked else f"`{text}`"
        print(f"| {label} | {' | '.join(cells)} | {over} |")


if __name__ == "__main__":
    sys.exit(main())
