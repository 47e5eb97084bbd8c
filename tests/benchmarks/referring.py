"""References instead of bytes: a million of them against VirtualiZarr alone."""

import json
import shutil
import sys
import time
from pathlib import Path

import h5py
import numpy as np

from harness import Bench, Measures, Row, alternate, child, peak_mb, ratios

ROWS, SIDE = 1000, 16
"""Time steps of a file, each a chunk; and the length of both other dimensions."""


def measure(bench: Bench) -> list[Row]:
    """A row for the time, one for the client's memory, one for what is appended next."""
    count = bench.size(1000, 4)
    folder = bench.directory / "files"
    write(folder, count)
    sides = alternate(
        {
            "frazil": lambda: child("referring", "frazil", folder, bench.directory / "frazil"),
            "virtualizarr": lambda: child("referring", "virtualizarr", folder, bench.directory / "virtualizarr"),
        },
        bench.repeats,
    )
    appended = [child("referring", "append", folder, bench.directory / "frazil") for _ in range(bench.repeats)]
    ratio, spread = ratios(sides["frazil"], sides["virtualizarr"], "whole")
    cpu, _ = ratios(sides["frazil"], sides["virtualizarr"], "cpu")
    peaks, commits = sides["frazil"].all("peak_mb"), [one["commit"] for one in appended]
    peak, commit = sorted(peaks)[len(peaks) // 2], sorted(commits)[len(commits) // 2]
    ours, theirs = sides["frazil"].median("whole"), sides["virtualizarr"].median("whole")
    return [
        Row(
            number=f"{count * ROWS:,} references in one run: time",
            target="at most 1.5 times VirtualiZarr and one commit",
            measured=f"{ratio:.2f}",
            met=ratio <= 1.5,
            medians=f"frazil {ours:.1f} s, virtualizarr {theirs:.1f} s; ratio of processor time {cpu:.2f}",
            spread=spread,
            how=f"whole processes, imports and all; {count:,} NetCDF-4 files of {ROWS:,} deflated chunks each on a "
            "local disk; `frazil.convert(..., virtual=True)` on Lithops' localhost with two workers, verified by a "
            "sample; VirtualiZarr: `open_virtual_dataset` with its HDFParser for each, `xarray.concat`, "
            "`to_icechunk`, commit",
        ),
        Row(
            number=f"{count * ROWS:,} references in one run: memory of the client",
            target="under 1 GB",
            measured=f"{peak:.0f} MB",
            met=peak < 1000,
            medians=f"virtualizarr {sides['virtualizarr'].median('peak_mb'):.0f} MB",
            spread=f"{min(peaks):.0f} to {max(peaks):.0f} MB",
            how="the peak of the client's process, imports included, in the same runs",
        ),
        Row(
            number=f"one reference appended to {count * ROWS:,}",
            target="under 0.1 s to commit",
            measured=f"{commit:.3f} s",
            met=commit < 0.1,
            medians=f"the whole append {sorted(one['seconds'] for one in appended)[len(appended) // 2]:.2f} s",
            spread=f"{min(commits):.3f} to {max(commits):.3f} s",
            how="the array made one chunk longer and the reference set in plain icechunk, on a branch of its own; the "
            "time of the commit alone. The whole append: `frazil.append(..., virtual=True)` of a file with one chunk",
        ),
    ]


def write(folder: Path, count: int) -> None:
    """Files that follow each other; one is written and the others are copies with other times."""
    folder.mkdir()
    first = folder / "000000.nc"
    values = np.random.default_rng(0).integers(0, 50, (ROWS, SIDE, SIDE)).astype("f4")
    _write(first, 0, values)
    _write(folder.parent / "one-more.nc", count * ROWS, values[:1])
    for number in range(1, count):
        path = folder / f"{number:06}.nc"
        shutil.copyfile(first, path)
        with h5py.File(path, "r+") as file:
            file["time"][:] = np.arange(number * ROWS, (number + 1) * ROWS)


def _write(path: Path, start: int, values: np.ndarray) -> None:
    import xarray as xr  # noqa: PLC0415  not in the processes that are measured

    dims = ("time", "lat", "lon")
    units = {"units": "hours since 2000-01-01"}
    labels = {"time": ("time", np.arange(start, start + len(values)), units)}
    labels |= {dim: (dim, np.arange(SIDE, dtype="f8")) for dim in dims[1:]}
    encoding = {"t2m": {"chunksizes": (1, SIDE, SIDE), "zlib": True, "complevel": 1, "shuffle": True}}
    xr.Dataset({"t2m": (dims, values)}, labels).to_netcdf(path, engine="netcdf4", encoding=encoding)


def frazil_side(folder: str, target: str) -> Measures:
    """One run."""
    import frazil  # noqa: PLC0415  in the process that is measured alone

    shutil.rmtree(target, ignore_errors=True)
    shutil.rmtree(f"{target}.frazil", ignore_errors=True)
    with frazil.LithopsExecutor(workers=2) as executor:
        frazil.convert(
            f"{folder}/*.nc",
            target,
            virtual=True,
            containers=[f"file://{folder}/"],
            executor=executor,
            append_dim="time",
        )
    return {"peak_mb": peak_mb()}


def virtualizarr_side(folder: str, target: str) -> Measures:
    """What a program that is as short as can be does."""
    import icechunk  # noqa: PLC0415  as above
    import virtualizarr  # noqa: PLC0415
    import xarray as xr  # noqa: PLC0415
    from obspec_utils.registry import ObjectStoreRegistry  # noqa: PLC0415
    from obstore.store import LocalStore  # noqa: PLC0415
    from virtualizarr.parsers import HDFParser  # noqa: PLC0415

    shutil.rmtree(target, ignore_errors=True)
    registry, parser = ObjectStoreRegistry({"file://": LocalStore()}), HDFParser()
    names = sorted(Path(folder).glob("*.nc"))
    opened = [virtualizarr.open_virtual_dataset(f"file://{path}", registry=registry, parser=parser) for path in names]
    whole = xr.concat(
        opened,
        dim="time",
        coords="minimal",
        data_vars="minimal",
        compat="override",
        combine_attrs="override",
        join="override",
    )
    config = icechunk.RepositoryConfig.default()
    prefix = f"file://{folder}/"
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, icechunk.local_filesystem_store(folder)))
    repo = icechunk.Repository.create(
        icechunk.local_filesystem_storage(target),
        config=config,
        authorize_virtual_chunk_access={prefix: icechunk.credentials.LocalFileSystemAccess},
    )
    session = repo.writable_session("main")
    whole.vz.to_icechunk(session.store)
    session.commit("references")
    return {"peak_mb": peak_mb()}


def append_side(folder: str, target: str) -> Measures:
    """One chunk more: in plain icechunk, and with all that a run does."""
    import icechunk  # noqa: PLC0415  as above
    import zarr  # noqa: PLC0415

    import frazil  # noqa: PLC0415

    file = Path(folder).with_name("one-more.nc")
    repo = frazil.open_repository(target, create=False)
    branch = f"bench-{time.time_ns()}"
    repo.create_branch(branch, repo.lookup_branch("main"))
    session = repo.writable_session(branch)
    array = zarr.open_array(session.store, path="t2m", mode="r+")
    steps = array.shape[0]
    array.resize((steps + 1, *array.shape[1:]))
    session.store.set_virtual_ref(
        f"t2m/c/{steps}/0/0", f"file://{folder}/000000.nc", offset=0, length=100, validate_container=False
    )
    began = time.perf_counter()
    session.commit("one more")
    commit = time.perf_counter() - began
    repo.delete_branch(branch)
    # The whole append goes to a copy of the branch's tip that is thrown away, so that each turn appends to as many.
    base = repo.lookup_branch("main")
    began = time.perf_counter()
    with frazil.SerialExecutor() as executor:
        frazil.append(
            str(file),
            target,
            virtual=True,
            containers=[f"file://{file.parent}/"],
            executor=executor,
        )
    seconds = time.perf_counter() - began
    repo.reset_branch("main", base)
    assert isinstance(repo, icechunk.Repository)
    return {"commit": commit, "seconds": seconds}


if __name__ == "__main__":
    side = {"frazil": frazil_side, "virtualizarr": virtualizarr_side, "append": append_side}[sys.argv[1]]
    print(json.dumps(side(*sys.argv[2:])))
