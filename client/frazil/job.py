"""The main job: plan what files become, and run it; `frazil.running` tells what a run does."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, SupportsIndex, TypedDict, Unpack, get_args

import icechunk
import xarray as xr

from frazil.advising.wish import auto_of
from frazil.costing.estimate import estimate_plan
from frazil.costing.memory import check_memory
from frazil.costing.prices import load_prices
from frazil.costing.telling import brief
from frazil.execute import Retry
from frazil.execution.executor import Executor
from frazil.labels.compare import Accept
from frazil.labels.join import Gaps
from frazil.lazy.given import Given, GivenCarrier
from frazil.lazy.planned import Dataset, bounded, check_whole, given_sources, marked
from frazil.packing.lossy import Survey, stored_of
from frazil.packing.rounding import Keepbits, Overflow, Pack, Rounding, check_rounding
from frazil.packing.survey import survey_plan
from frazil.planning.following import check_kept
from frazil.planning.inputs import expand
from frazil.planning.make import make_plan
from frazil.planning.options import Fallback, OnAttrs, OnOverlap, Options, Span, Virtual
from frazil.planning.scan import Wanted, scan_sources
from frazil.planning.target import Target, plan_target
from frazil.report import Listener, Progress, Result, silent, tell_plan
from frazil.running import run, using
from frazil.template.compression import CompressionChoice
from frazil_functions.authorising import Named, accesses_of, naming_containers
from frazil_functions.containers import Container, distinct
from frazil_functions.errors import InvalidInputError, nearest
from frazil_functions.locations import Location
from frazil_functions.missing import CheckedVariables, MissingCheck
from frazil_functions.plan import Mode, Plan, PlanTarget
from frazil_functions.records import Verify
from frazil_functions.runs.start import runs_of
from frazil_functions.runs.status import unfinished_in
from frazil_functions.writing.surveying import Found

logger = logging.getLogger(__name__)

type Sources = str | Path | Iterable[str | Path] | Dataset
"""Files: a path, a URL, a glob of either, a text file of them, or several of these; or a dataset, lazy or not."""


def plan(  # noqa: PLR0913 - the options of a job, each once
    sources: Sources,
    repo: Target,
    *,
    mode: Mode = "create",
    group: str = "",
    branch: str = "main",
    chunks: Mapping[str, int] | str | None = None,
    shards: Mapping[str, int] | None = None,
    compression: str | Sequence[str] | Mapping[str, str] | None = None,
    append_dim: str | None = None,
    variables: str | Sequence[str] | None = None,
    engine: str | None = None,
    gaps: Gaps = "error",
    accept: Accept | Iterable[Accept] = (),
    on_overlap: OnOverlap = "error",
    region: Mapping[str, slice | Span] | Literal["auto"] = "auto",
    reorder: bool = False,
    on_attrs: OnAttrs | None = None,
    pack: Pack = False,
    pack_range: Mapping[str, tuple[float, float]] | None = None,
    pack_overflow: Overflow = "error",
    keepbits: Mapping[str, Keepbits] | None = None,
    virtual: bool = False,
    load: str | Sequence[str] | None = None,
    fallback: Fallback = "refuse",
    containers: Named | Iterable[Named] = (),
    replicas: Iterable[Target] = (),
    workers: int | None = None,
    executor: Executor | None = None,
    listener: Listener = silent,
) -> Plan:
    """Plan to write files as one group of a repository. Writes nothing.

    Parameters
    ----------
    sources
        Files: a path, a URL, a glob of either, a text file of them, or several of these. Or an Xarray Dataset or
        DataArray, of which what lies in files or behind dask is computed by functions, slice by slice.
    repo
        An open repository, or where one is or is to be: a local path, s3://, gs:// or az://.
    mode
        "create" makes a group that does not exist yet, "overwrite" one in place of whatever is there. The others write
        into one that exists: "append" adds behind what it holds along one dimension, "region" replaces values in a
        part of it, "modify" replaces variables as a whole and adds others, "add" writes only those that it lacks.
    group
        The group that is written; the root by default.
    branch
        The branch to publish on.
    chunks, shards
        Lengths along dimensions, in elements; -1 for all of a dimension. What is not named gets
        chunks of about 16 MiB, and no shards. Chunks may be "auto:temporal", "auto:spatial" or "auto:balanced", with
        a size as in "auto:temporal:64MiB" or without: `frazil.analyze` shows which these are.
    compression
        How chunks of new arrays are compressed: "fast", "balanced" (the default) or "small", or a codec with its level:
        "zstd:3", "gzip:5", "blosc:lz4:5:bitshuffle", "none"; of one variable as in "tas=zstd:3". Or several of these,
        or a mapping of variables to such, "*" for the others. Labels and coordinates keep Zarr's own default unless
        they are named.
    append_dim
        The dimension that the files follow each other on; inferred where only one can be meant.
    variables
        Which variables to write, with the coordinates that they need; all by default.
    engine
        The Xarray engine that opens the files; told by their first bytes by default.
    gaps
        "error" refuses labels that are missing between files, "fill" keeps a place for them that
        reads as missing, "keep" leaves the axis uneven.
    accept
        Differences between files that are fine: "units" of time, "drift" of labels by less than a
        thousandth of their spacing, files without labels in the given "order".
    on_overlap
        What becomes of files whose labels are in the group already, where they are appended: "error" refuses them,
        "skip" leaves out those of which every label is there, so that the same call can be made again and again as
        files come, "replace" writes from the first of their labels on anew.
    region
        With mode "region", the part of each dimension that the files are written to: a slice, (start, stop), or "auto"
        for where their labels lie in the group, which is the default.
    reorder
        Whether labels that stand in another order than the target's (flipped, permuted, around the globe from another
        start) are placed one by one; they are refused by default.
    on_attrs
        What becomes of attributes that differ from the group's: "error" (the default of "region"), "keep" (that of
        "append" and "add"), or "update" (that of "modify").
    pack
        Floating-point variables that are stored as whole numbers with a scale and an offset: True for all that can be
        (as int16), a type, or a mapping of variables to types (int8, int16, int32 and those without a sign).
    pack_range
        The least and the largest value of variables that are packed; by default what `valid_min`, `valid_max` or
        `valid_range` say, and else what functions find, which look at all values before anything is written.
    pack_overflow
        What becomes of values out of that range: "error" refuses them, "clip" stores the end of the range.
    keepbits
        Floating-point variables that are rounded to so many bits of their mantissa, by name; "auto" for those bits
        that hold 99 % of the information, as functions find it.
    virtual
        Whether to write references into the files in place of their values.
    load
        Variables whose values are copied all the same.
    fallback
        What becomes of files that are stored otherwise than the array is: "refuse" them, or copy their values
        ("native").
    containers
        The places that references may lead into, as `frazil.open_repository` takes them: a prefix ("s3://raw/",
        "file:///data/"), with options or without, or several. Each file that is referred to lies in one of them, or in
        one that the repository declares. Without `virtual`, those of an archive that has references already.
    replicas
        Other repositories that get the same, each on the same branch; they are published first.
    workers
        How many functions can run at once; by default, as many as the executor can.
    executor
        What reads the metadata of many files.
    listener
        Told how far the work is.

    Returns
    -------
    Plan
        Every region, proven disjoint, aligned and complete.

    Raises
    ------
    InvalidInputError
        If anything about the files, the labels, the chunks or the target does not fit, or functions have less memory
        than a region needs.
    BackendError
        If the repository cannot be reached.
    """
    if mode not in get_args(Mode.__value__):
        raise InvalidInputError(f"mode cannot be {mode!r}; {nearest(mode, get_args(Mode.__value__))}")
    _check_options(mode, region=region, on_overlap=on_overlap, on_attrs=on_attrs, cut=bool(chunks or shards))
    rounding = Rounding.of(pack, pack_range, pack_overflow, keepbits)
    check_rounding(mode, rounding)
    chosen = _compression(mode, compression)
    auto = auto_of(chunks) if isinstance(chunks, str) else None
    refers = Virtual.of(virtual, several(load or ()), fallback, rounding)
    asked = PlanTarget(None, group.strip("/"), branch, None, mode, containers=containers_of(containers))
    files = _referred(sources) if refers is not None else ()
    target, existing = plan_target(repo, asked, replicas, files)
    wanted = Wanted(engine, append_dim, None if variables is None else several(variables), layouts=refers is not None)
    urls = files
    if not urls and not isinstance(sources, xr.Dataset | xr.DataArray | xr.DataTree):
        urls = expand(named_files(sources))
    with using(executor) as calls:
        grown, given = existing if mode == "append" else None, None
        if isinstance(sources, xr.Dataset | xr.DataArray | xr.DataTree):
            found, given = given_sources(sources, wanted, existing, mode)
        else:
            found = scan_sources(urls, wanted, calls, listener, grown)
        options = Options(
            chunks={} if isinstance(chunks, str) else dict(chunks or {}),
            shards=dict(shards or {}),
            compression=chosen,
            auto=auto,
            gaps=gaps,
            accept=frozenset(several(accept)),
            on_overlap=on_overlap,
            region=spans(region),
            reorder=reorder,
            on_attrs=on_attrs,
            rounding=rounding,
            virtual=refers,
            workers=calls.workers if workers is None else workers,
        )
        listener(Progress("plan"))
        if existing is not None:
            with naming_containers("the group"):
                existing = existing.digested(found.append_dim or "")
        options = options if given is None else bounded(options, given)
        made = make_plan(found, target, options, existing)
        if existing is not None:
            for one in (existing, *existing.replicas):
                check_kept(made, one)
        limits = calls.limits()
        check_memory(made, limits)
        if options.rounding:
            survey = _surveying(calls, listener, given)
            options = replace(options, stored=stored_of(made, found.files, options.rounding, survey))
            made = make_plan(found, target, options, existing)
        made = made if given is None else marked(check_whole(made), given)
        expected = estimate_plan(made, limits, workers=options.workers)
    for warning in expected.warnings:
        logger.warning("%s", warning)
    return tell_plan(replace(made, expected=brief(expected)))


def _surveying(calls: Executor, listener: Listener, given: Given | None) -> Survey:
    """What looks at the values of a plan's arrays."""

    def survey(plan: Plan, names: Collection[str], sampled: Collection[str]) -> Mapping[str, Found]:
        carrier = None if given is None else GivenCarrier(given, marked(plan, given))
        return survey_plan(plan, names, sampled, calls, listener, carrier)

    return survey


class PlanOptions(TypedDict, total=False):
    """The options of `plan` by their names, for what plans as a part of more; `plan` says what they mean."""

    mode: Mode
    group: str
    branch: str
    chunks: Mapping[str, int] | str | None
    shards: Mapping[str, int] | None
    compression: str | Sequence[str] | Mapping[str, str] | None
    append_dim: str | None
    variables: str | Sequence[str] | None
    engine: str | None
    gaps: Gaps
    accept: Accept | Iterable[Accept]
    on_overlap: OnOverlap
    region: Mapping[str, slice | Span] | Literal["auto"]
    reorder: bool
    on_attrs: OnAttrs | None
    pack: Pack
    pack_range: Mapping[str, tuple[float, float]] | None
    pack_overflow: Overflow
    keepbits: Mapping[str, Keepbits] | None
    virtual: bool
    load: str | Sequence[str] | None
    fallback: Fallback
    containers: Named | Iterable[Named]
    replicas: Iterable[Target]
    workers: int | None


def convert(  # noqa: PLR0913 - as above
    sources: Sources,
    repo: Target,
    *,
    executor: Executor | None = None,
    verify: Verify = "sample",
    message: str | None = None,
    retries_on_missing: int = 0,
    missing_check_vars: CheckedVariables = "all",
    retry: Retry | None = None,
    function_logs: bool = False,
    run_id: str | None = None,
    run_directory: str | Path | Location | None = None,
    prices: str | Path | None = None,
    resume: bool = False,
    listener: Listener = silent,
    **options: Unpack[PlanOptions],
) -> Result:
    """Plan and run: files in, one commit out.

    Parameters
    ----------
    sources, repo
        As for `plan`.
    executor, verify, message, retries_on_missing, missing_check_vars, retry, function_logs, run_id, run_directory,
    prices, listener
        As for `run`.
    resume
        Whether to go on with a run of the same plan that has not ended, if there is one.
    **options
        The options of a plan (mode, group, chunks and the others), as `help(frazil.plan)` describes them.

    Raises
    ------
    InvalidInputError, ConflictError, IncompleteRunError, BackendError
        As `plan` and `run` do.
    """
    MissingCheck.of(retries_on_missing, missing_check_vars)  # before anything is read, as the next
    load_prices(prices)
    with using(executor) as calls:
        calls.warm()
        made = plan(sources, repo, executor=calls, listener=listener, **options)
        opened = repo if isinstance(repo, icechunk.Repository) else None
        if run_directory is None and run_id is None:
            run_id = _unfinished(made, offered=not resume)
        return run(
            made,
            opened,
            source=sources if isinstance(sources, xr.Dataset | xr.DataArray | xr.DataTree) else None,
            executor=calls,
            verify=verify,
            message=message,
            retries_on_missing=retries_on_missing,
            missing_check_vars=missing_check_vars,
            retry=retry,
            function_logs=function_logs,
            run_id=run_id,
            run_directory=run_directory,
            prices=prices,
            listener=listener,
        )


def named_files(sources: object) -> list[str | Path]:
    """Sources that are named.

    Raises
    ------
    InvalidInputError
        If something else is given.
    """
    several = [sources] if isinstance(sources, str | Path) else sources
    if not isinstance(several, Iterable) or isinstance(several, Mapping) or hasattr(several, "__array__"):
        raise InvalidInputError(
            f"sources cannot be a {type(sources).__name__}; give paths, a Dataset, a DataArray or a DataTree"
        )
    found: list[str | Path] = []
    for one in several:
        if isinstance(one, xr.Dataset | xr.DataArray):
            raise InvalidInputError(
                "sources are several datasets; put them together first (xarray.concat, xarray.merge), or write them "
                "one by one (mode='append')"
            )
        if not isinstance(one, str | Path):
            raise InvalidInputError(
                f"sources hold a {type(one).__name__}; give paths, a Dataset, a DataArray or a DataTree"
            )
        found.append(one)
    return found


def _referred(sources: Sources) -> tuple[str, ...]:
    """The files that references are to lead into."""
    if isinstance(sources, xr.Dataset | xr.DataArray | xr.DataTree):
        raise InvalidInputError(
            f"virtual writes references into files, and the source is a {type(sources).__name__}; name the files, or "
            "leave out virtual"
        )
    return tuple(expand(named_files(sources)))


def containers_of(given: Named | Iterable[Named]) -> tuple[Container, ...]:
    """The containers of a plan, which holds no credentials."""
    found = accesses_of(given)
    if any(one.credentials is not None for one in found.values()):
        raise InvalidInputError(
            "containers are given with credentials, which are no part of a plan: functions have those of their "
            "environment. Give the prefixes alone"
        )
    return distinct(one.container for one in found.values())


def _check_options(
    mode: Mode,
    *,
    region: Mapping[str, slice | Span] | Literal["auto"],
    on_overlap: OnOverlap,
    on_attrs: OnAttrs | None,
    cut: bool,
) -> None:
    """Refuse options that mean nothing in a mode."""
    if cut and mode in {"append", "region"}:
        what = "an append" if mode == "append" else "a region"
        raise InvalidInputError(f"{what} keeps the chunks and shards that the group has; leave out chunks and shards")
    for name, given, modes in (
        ("region", region != "auto", ("region",)),
        ("on_overlap", on_overlap != "error", ("append",)),
        ("on_attrs", on_attrs is not None, ("append", "region", "modify", "add")),
    ):
        if given and mode not in modes:
            raise InvalidInputError(
                f"{name} means something with mode {' or '.join(map(repr, modes))} alone, not {mode!r}"
            )


def _compression(mode: Mode, asked: str | Sequence[str] | Mapping[str, str] | None) -> CompressionChoice:
    """What was asked for, refused where no array is made."""
    if asked is not None and mode in {"append", "region"}:
        what = "an append" if mode == "append" else "a region"
        raise InvalidInputError(f"{what} keeps the compression that arrays have; leave out compression")
    return CompressionChoice.of(asked)


def spans(region: Mapping[str, slice | Span] | Literal["auto"]) -> dict[str, Span]:
    """A region as half-open ranges; dimensions that lie where their labels do are left out."""
    if region == "auto":
        return {}
    if not isinstance(region, Mapping):
        raise InvalidInputError(f"region is {region!r}; use 'auto', or a mapping of dimensions to slices")
    return {dim: _span(dim, span) for dim, span in region.items() if span != "auto"}


def _span(dim: str, span: object) -> Span:
    """A slice, or two numbers, as a half-open range."""
    straight = isinstance(span, slice) and span.step in {None, 1}
    ends = [span.start, span.stop] if straight and isinstance(span, slice) else span
    if isinstance(ends, Sequence) and len(ends) == 2:  # noqa: PLR2004 - where it starts and stops
        start, stop = (int(one) if _is_whole(one) else None for one in ends)
        if start is not None and stop is not None and 0 <= start < stop:
            return start, stop
    raise InvalidInputError(
        f"the region of {dim!r} is {span!r}; use slice(START, STOP) with 0 <= START < STOP, or 'auto'"
    )


def _is_whole(one: object) -> bool:
    """Whether it is a whole number, NumPy's ones among them."""
    return isinstance(one, SupportsIndex) and not isinstance(one, bool)


def _unfinished(plan: Plan, *, offered: bool) -> str | None:
    """The run to go on with: the latest of the same work that has not ended; only spoken of if it is offered."""
    if plan.target.location is None:
        return None
    found = unfinished_in(runs_of(plan.target.location), plan.work_hash)
    if not found and not offered:
        logger.warning("no run of this plan is unfinished; this starts one")
    if found and offered:
        one = found[0]
        logger.warning(
            "run %s of the same plan has not ended (%d of %d regions are written). This starts another one; to go on "
            "with that one, use --resume (resume=True)",
            one.run_id,
            one.done,
            one.regions,
        )
    return found[0].run_id if found and not offered else None


def several[N: str](names: N | Iterable[N]) -> tuple[N, ...]:
    """Names, of which a single one may stand for itself."""
    return (names,) if isinstance(names, str) else tuple(names)
