"""Making the plan: fit the files into the target, cut, prove."""

from dataclasses import replace
from importlib.metadata import version

from frazil.planning.append import fit_behind
from frazil.planning.cut import cut, group
from frazil.planning.existing import Existing, check_suited
from frazil.planning.fitted import Fitted
from frazil.planning.fresh import fit_new
from frazil.planning.into import fit_region, fit_variables
from frazil.planning.options import Options
from frazil.planning.refer import refer
from frazil.planning.scan import Sources
from frazil.planning.spanning import fit_empty
from frazil.template.compression import compressed
from frazil_functions import __version__
from frazil_functions.errors import InvalidInputError
from frazil_functions.footprint import referring
from frazil_functions.plan import Mode, Plan, PlanTarget, TaskPlan
from frazil_functions.reading.encoding import has_fill, rounds
from frazil_functions.reading.rounding import Packing
from frazil_functions.regions import Region
from frazil_functions.tasks import FileSource
from frazil_functions.template import DatasetTemplate

__all__ = ["Options", "make_plan"]


def make_plan(sources: Sources, target: PlanTarget, options: Options, existing: Existing | None = None) -> Plan:
    """The plan that writes the sources, proven.

    Parameters
    ----------
    sources
        What the files say of themselves.
    target
        Where they are written, and in which mode.
    options
        What was chosen.
    existing
        The group, where the mode writes into one that exists.

    Raises
    ------
    InvalidInputError
        If files do not go together or into the group, labels do not fit, or chunks do not.
    """
    fitted = _fit(sources, target, options, existing)
    template = compressed(fitted.template, options.compression)
    if options.virtual is not None:
        fitted = refer(replace(fitted, template=template), sources, options, existing)
        template = fitted.template
    if options.rounding.overflow == "clip":
        fitted = replace(fitted, sources=tuple(_clipped(source, template) for source in fitted.sources))
    if fitted.filled:
        _check_fill(template)
    spans = [(source.start, source.stop) for source in fitted.sources]
    refers = referring(template, fitted.sources)
    regions = cut(template, options.region_bytes, refers) if fitted.sources else []
    plan = Plan(
        target=target,
        template=template,
        sources=fitted.sources,
        tasks=_grouped(template, regions, spans, options, refers),
        filled=fitted.filled,
        versions={"frazil": __version__, "icechunk": version("icechunk")},
    )
    plan.prove()
    return plan


def _clipped(source: FileSource, template: DatasetTemplate) -> FileSource:
    """A source of which values out of range become the ends of that, where they are packed."""
    arrays = (template.arrays[name] for name in source.recode if name in template.arrays)
    written = [one for one in arrays if one.role == "data" and rounds(one.dtype, one.attributes)]
    return replace(source, clip=tuple(one.name for one in written if Packing.of(one.dtype, one.attributes) is not None))


def _grouped(
    template: DatasetTemplate,
    regions: list[Region],
    spans: list[tuple[int, int]],
    options: Options,
    refers: frozenset[str],
) -> tuple[TaskPlan, ...]:
    if not regions:
        return ()
    return group(template, regions, spans, options.workers, options.task_bytes, options.most_bytes, referring=refers)


def _fit(sources: Sources, target: PlanTarget, options: Options, existing: Existing | None) -> Fitted:
    if existing is None:
        return fit_new(sources, options) if options.span is None else fit_empty(sources, options, options.span)
    fitted = _fit_into(existing, sources, options, target.mode)
    for one in (existing, *existing.replicas):
        check_suited(one, fitted.template)
    return fitted


def _fit_into(existing: Existing, sources: Sources, options: Options, mode: Mode) -> Fitted:
    match mode:
        case "append":
            return fit_behind(existing, sources, options)
        case "region":
            return fit_region(existing, sources, options)
        case "add" | "modify":
            return fit_variables(existing, sources, options, mode)
        case _:
            raise InvalidInputError(f"{mode!r} makes a group, and writes into none that exists")


def _check_fill(template: DatasetTemplate) -> None:
    """Refuse to leave a place empty in an array where emptiness would read as a value."""
    for array in template.arrays.values():
        if array.role == "data" and template.append_dim in array.dims and not has_fill(array.dtype, array.attributes):
            raise InvalidInputError(
                f"{array.name!r} ({array.dtype}) has no fill value, so what is missing from it would read as zeros. "
                "Leave it out (--variables), or use --gaps keep."
            )
