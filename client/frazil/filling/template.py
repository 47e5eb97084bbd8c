"""A group over a full range of labels, made like a template and left empty."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import icechunk
import numpy as np
import xarray as xr

from frazil.advising.wish import auto_of
from frazil.execution.serial import SerialExecutor
from frazil.filling.made import Made, TemplateResult, made_of
from frazil.labels.offsets import offset_of
from frazil.labels.stepping import LabelRange
from frazil.lazy.planned import Dataset, given_sources, marked
from frazil.packing.lossy import stored_of
from frazil.packing.rounding import Keepbits, Pack, Rounding, check_rounding
from frazil.planning.inputs import expand
from frazil.planning.make import make_plan
from frazil.planning.options import Options
from frazil.planning.scan import Sources as ScannedSources
from frazil.planning.scan import Wanted, scan_sources
from frazil.planning.target import Target, plan_target
from frazil.report import Listener, Progress, silent, tell_plan
from frazil.running import run
from frazil.template.compression import CompressionChoice
from frazil_functions.errors import InvalidInputError, nearest
from frazil_functions.locations import Location
from frazil_functions.plan import Plan, PlanTarget
from frazil_functions.reading.encoding import is_time_unit
from frazil_functions.writing.surveying import Found

type Label = str | float | date | np.datetime64
"""A label: a date in ISO 8601 or an object that spells one, or a number."""


def create_template(  # noqa: PLR0913 - what a template is made of, each once
    template: str | Path | Dataset,
    repo: Target,
    *,
    global_start: Label,
    global_end: Label,
    freq: str | float | timedelta | np.timedelta64 | None = None,
    append_dim: str | None = None,
    mode: Literal["create", "overwrite"] = "create",
    group: str = "",
    branch: str = "main",
    chunks: Mapping[str, int] | str | None = None,
    shards: Mapping[str, int] | None = None,
    compression: str | Sequence[str] | Mapping[str, str] | None = None,
    pack: Pack = False,
    pack_range: Mapping[str, tuple[float, float]] | None = None,
    keepbits: Mapping[str, Keepbits] | None = None,
    variables: str | Sequence[str] | None = None,
    engine: str | None = None,
    replicas: Iterable[Target] = (),
    message: str | None = None,
    run_id: str | None = None,
    run_directory: str | Path | Location | None = None,
    listener: Listener = silent,
) -> TemplateResult:
    """Make a group over a full range of labels, and write no values: they come with `write_region`.

    What has the append dimension is made and left empty; it reads as missing until it is written. Everything else
    (other coordinates, static variables) is written from the template. One commit.

    Parameters
    ----------
    template
        A file, its URL, or an Xarray dataset, lazy or not, that has some of the labels.
    repo
        The repository, open, or where it is or is to be.
    global_start, global_end
        The first and the last label. A date is a moment, so that hourly labels to the end of a year end at 23:00.
    freq
        From one label to the next: a timedelta of any kind, one of Pandas' offsets W (seven days, from whatever day is
        the first), D, h, min, s, ms, us, MS, ME, QS, QE, YS, YE (of the latter four with a month, too: "YS-JUL"), with
        a whole number before it or without; or, for labels that are numbers, a number. By default that of the template,
        which must be the same all along it.
    append_dim
        The dimension; inferred where only one can be meant.
    mode
        "create" makes a group that does not exist yet, "overwrite" one in place of whatever is there.
    group, branch, chunks, shards, compression, variables, engine, replicas
        As for `frazil.plan`.
    pack, pack_range, keepbits
        As for `frazil.plan`; but there are no values to find a range or bits in, so both have to be given, unless the
        template's attributes say which values are valid.
    message, run_id, run_directory
        As for `frazil.run`.
    listener
        Told how far the work is.

    Returns
    -------
    TemplateResult
        The published snapshot, and as `made` which labels there are.

    Raises
    ------
    InvalidInputError
        If the labels cannot be told, do not fit the template's own or the type of its coordinate; or if a variable has
        no value that means missing.
    ConflictError, IncompleteRunError, BackendError
        As `frazil.run` does.

    Examples
    --------
    >>> import tempfile
    >>> import xarray, frazil
    >>> times = xarray.date_range("2000-01-01", periods=3, freq="6h", unit="ns")
    >>> day = xarray.Dataset({"tas": ("time", [280.0, 281.0, 282.0])}, {"time": times})
    >>> where = tempfile.mkdtemp() + "/archive"
    >>> made = frazil.create_template(day, where, global_start="2000-01-01", global_end="2000-12-31T18")
    >>> store = frazil.open_repository(where).readonly_session("main").store
    >>> archive = xarray.open_zarr(store, consolidated=False)
    >>> archive.sizes["time"], int(archive.tas.count())
    (1464, 0)
    """
    if mode not in ("create", "overwrite"):
        raise InvalidInputError(
            f"mode cannot be {mode!r}, for a template makes a group; {nearest(mode, ('create', 'overwrite'))}"
        )
    named = (variables,) if isinstance(variables, str) else variables
    wanted = Wanted(engine, append_dim, None if named is None else tuple(named))
    rounding = Rounding.of(pack, pack_range, "error", keepbits)
    check_rounding(mode, rounding)
    options = Options(
        chunks={} if isinstance(chunks, str) else dict(chunks or {}),
        auto=auto_of(chunks) if isinstance(chunks, str) else None,
        compression=CompressionChoice.of(compression),
        shards=dict(shards or {}),
        rounding=rounding,
        span=LabelRange(_told(global_start), _told(global_end), None if freq is None else _apart(freq)),
    )
    target = PlanTarget(None, group.strip("/"), branch, None, mode)
    with SerialExecutor() as executor:
        plan, made = _template_plan(template, repo, target, wanted, options, replicas, listener)
        result = run(
            plan,
            repo if isinstance(repo, icechunk.Repository) else None,
            source=template if isinstance(template, xr.Dataset | xr.DataArray) else None,
            executor=executor,
            message=message,
            run_id=run_id,
            run_directory=run_directory,
            listener=listener,
        )
    return TemplateResult.of(result, made)


def _template_plan(  # noqa: PLR0917 - what a plan is made of
    template: object,
    repo: Target,
    target: PlanTarget,
    wanted: Wanted,
    options: Options,
    replicas: Iterable[Target],
    listener: Listener,
) -> tuple[Plan, Made]:
    """The plan of a group that is made and left empty, and what it makes."""
    placed, _ = plan_target(repo, target, replicas)
    if isinstance(template, xr.Dataset | xr.DataArray):
        found, given = given_sources(template, wanted, None, target.mode)
        _check_told(found, wanted)
        plan, made = _made(found, placed, options)
        return tell_plan(marked(plan, given)), made
    if not isinstance(template, str | Path):
        raise InvalidInputError(
            f"a template cannot be a {type(template).__name__}; give a path, a URL, a Dataset or a DataArray"
        )
    files = expand(template)
    if len(files) > 1:
        raise InvalidInputError(f"a template is one file, and {template} names {len(files)}; name one of them")
    listener(Progress("plan"))
    with SerialExecutor() as executor:
        found = scan_sources(files, wanted, executor, listener)
    _check_told(found, wanted)
    plan, made = _made(found, placed, options)
    return tell_plan(plan), made


def _check_told(found: ScannedSources, wanted: Wanted) -> None:
    """Refuse a template that could be meant to go on along several dimensions.

    Raises
    ------
    InvalidInputError
        Naming them.
    """
    variables = found.files[0].variables
    labelled = [name for name, one in variables.items() if one.dims == (name,)]
    timed = [name for name in labelled if is_time_unit(variables[name].attributes.get("units"))]
    told = timed or labelled
    if wanted.append_dim is None and len(told) > 1:
        raise InvalidInputError(
            f"{found.files[0].url} has labels along {', '.join(map(repr, told))}, and nothing says which of them are "
            "to go on; name the dimension (--append-dim)"
        )


def _made(found: ScannedSources, target: PlanTarget, options: Options) -> tuple[Plan, Made]:
    """The plan, with what it stores with loss, and what it makes."""
    plan = make_plan(found, target, options)
    if options.rounding:
        stored = stored_of(plan, found.files, options.rounding, _nothing_to_survey)
        plan = make_plan(found, target, replace(options, stored=stored))
    assert options.span is not None
    return plan, made_of(found, plan, options.span)


def _nothing_to_survey(_: Plan, names: Collection[str], sampled: Collection[str]) -> Mapping[str, Found]:
    """Refuse to look at values that are still to come."""
    ranged = [name for name in names if name not in sampled]
    what = (
        f"the range of {ranged[0]!r} (--pack-range {ranged[0]}=LOW:HIGH)"
        if ranged
        else f"the bits of {next(iter(sampled))!r}"
    )
    raise InvalidInputError(
        f"a template has no values in which {what} could be found; say it, as it is to be for all that will be written"
    )


def _apart(freq: str | float | timedelta | np.timedelta64) -> str:
    """A frequency as text."""
    return offset_of(freq) if isinstance(freq, timedelta | np.timedelta64) else _told(freq)


def _told(label: object) -> str:
    """A label as text."""
    return label.strip() if isinstance(label, str) else str(label)
