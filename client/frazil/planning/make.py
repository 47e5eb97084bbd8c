"""Making the plan: hold the files against each other, order them by their labels, cut, prove."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import pairwise
from typing import get_args

import numpy as np
import xarray as xr

from frazil.planning.append import OnOverlap, behind, extended
from frazil.planning.compare import Accept, compare
from frazil.planning.cut import REGION_BYTES, TASK_BYTES, cut, group
from frazil.planning.existing import Existing
from frazil.planning.labels import Axis, FileLabels, Gaps, check_labels, join
from frazil.planning.scan import Sources
from frazil.template.build import Recoding, build
from frazil.template.chunking import ChunkChoice
from frazil_functions import __version__
from frazil_functions.errors import InvalidInputError, LabelError, nearest
from frazil_functions.plan import Plan, PlanTarget
from frazil_functions.reading.encoding import PACKING, Attributes, bounded_attributes, has_fill, is_time_unit, recode
from frazil_functions.reading.scanning import FileMetadata, Labels
from frazil_functions.tasks import FileSource
from frazil_functions.template import DatasetTemplate


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose about a plan.

    Attributes
    ----------
    chunks, shards
        Lengths along dimensions, in elements; -1 for all of a dimension.
    gaps
        What becomes of labels that no file has: an error, a place that stays fill, or nothing.
    accept
        Differences between files that are accepted; see `frazil.planning.compare.Accept`.
    on_overlap
        What becomes of files that an append finds written already: an error, or nothing.
    workers
        How many functions can run at once.
    region_bytes, task_bytes
        How many bytes of values a region holds at most (unless a write unit is larger), and a task
        at least.
    """

    chunks: Mapping[str, int] = field(default_factory=dict)
    shards: Mapping[str, int] = field(default_factory=dict)
    gaps: Gaps = "error"
    accept: frozenset[Accept] = frozenset()
    on_overlap: OnOverlap = "error"
    workers: int = 1
    region_bytes: int = REGION_BYTES
    task_bytes: int = TASK_BYTES

    def __post_init__(self) -> None:
        for what, words, known in (
            ("gaps", {self.gaps}, get_args(Gaps.__value__)),
            ("accept", self.accept, get_args(Accept.__value__)),
            ("on_overlap", {self.on_overlap}, get_args(OnOverlap.__value__)),
        ):
            for word in sorted(words - set(known)):
                raise InvalidInputError(f"{what} cannot be {word!r}; {nearest(word, known)}")
        if self.workers < 1:
            raise InvalidInputError(f"workers of {self.workers} write nothing; use at least 1")


def make_plan(sources: Sources, target: PlanTarget, options: Options, existing: Existing | None = None) -> Plan:
    """The plan that writes the sources, proven; behind what exists already, if that is given.

    The first file that was named gives attributes and encodings; the order along the append
    dimension is that of the labels.

    Raises
    ------
    InvalidInputError
        If files do not go together, labels do not fit, or chunks do not.
    """
    if existing is not None:
        sources = behind(existing, sources, options.on_overlap)
    files, append_dim = sources.files, sources.append_dim
    first = files[0]
    _check_all_labels(sources)
    recodes = [
        compare(first, file, append_dim, sources.labels, options.accept) if file is not first else frozenset()
        for file in files
    ]
    recoding = _recoding(files, recodes, sources.append_dim)
    axis = _axis(sources, recodes, recoding, options)
    if existing is not None:
        template = extended(existing, sources, axis, recoding)
    else:
        # Labels give a dimension its length; one without any is as long as all files together.
        whole = replace(first, sizes=first.sizes | ({append_dim: axis.spans[-1][1]} if append_dim is not None else {}))
        chosen = ChunkChoice(options.chunks, options.shards)
        template = build(whole, _template_labels(sources, axis), append_dim, chosen, recoding)
    if axis.filled:
        _check_fill(template)
    ordered = tuple(
        FileSource(
            url=files[at].url,
            engine=files[at].engine,
            start=start,
            stop=stop,
            fingerprint=files[at].fingerprint,
            recode=tuple(sorted(recodes[at] | recoding.attributes.keys())),
        )
        for at, (start, stop) in zip(axis.order, axis.spans, strict=True)
        if existing is None or files[at] is not first
    )
    spans = [(source.start, source.stop) for source in ordered]
    regions = cut(template, options.region_bytes) if ordered else []
    plan = Plan(
        target=target,
        template=template,
        sources=ordered,
        tasks=group(template, regions, spans, options.workers, options.task_bytes) if regions else (),
        filled=axis.filled,
        versions={"frazil": __version__, "icechunk": version("icechunk")},
    )
    plan.prove()
    return plan


def _check_all_labels(sources: Sources) -> None:
    seen: set[tuple[str, str]] = set()
    for file in sources.files:
        for name, variable in file.variables.items():
            told = variable.digest or "", str([variable.attributes.get(key) for key in PACKING])
            if variable.digest in sources.labels and told not in seen:
                seen.add(told)
                check_labels(name, file.url, sources.labels[variable.digest].values(), variable.attributes)


def _axis(sources: Sources, recodes: Sequence[frozenset[str]], recoding: Recoding, options: Options) -> Axis:
    """Where each file lies along the append dimension, by its labels as the target stores them."""
    dim, files = sources.append_dim, sources.files
    if dim is None:
        return Axis(np.array([]), (0,), ((0, 0),))
    label = files[0].variables.get(dim)
    if label is None:
        return _unlabelled(dim, files, options.accept)
    dtype, attributes = recoding.dtypes.get(dim, label.dtype), recoding.attributes.get(dim, label.attributes)
    found = []
    for file, own in zip(files, recodes, strict=True):
        theirs = file.variables[dim]
        assert theirs.digest is not None
        values = sources.labels[theirs.digest].values()
        if dim in own or dim in recoding.attributes:
            values = recode(dim, xr.Variable((dim,), values, theirs.attributes), attributes, dtype)
        check_labels(dim, file.url, values, attributes)
        found.append(FileLabels(file.url, values))
    empty = next((file.url for file in found if not len(file.values)), None)
    if empty is not None and len(found) > 1:
        raise LabelError(f"{empty} has no labels along {dim!r}; leave it out")
    axis = join(dim, found, attributes, options.gaps)
    check_labels(dim, "the axis of all files", axis.values, attributes)
    return axis


def _unlabelled(dim: str, files: Sequence[FileMetadata], accept: frozenset[Accept]) -> Axis:
    if len(files) > 1 and "order" not in accept:
        raise LabelError(
            f"{dim!r} has no coordinate in {files[0].url}, so nothing says where each file belongs. --accept order "
            "takes the files in the order in which they were named."
        )
    edges = np.cumsum([0, *(file.sizes[dim] for file in files)])
    spans = tuple((int(start), int(stop)) for start, stop in pairwise(edges))
    return Axis(np.arange(spans[-1][1]), tuple(range(len(files))), spans)


def _template_labels(sources: Sources, axis: Axis) -> dict[str, Labels]:
    found = {}
    for name, variable in sources.files[0].variables.items():
        if variable.dims == (name,) and variable.digest is not None:
            joined = name == sources.append_dim
            found[name] = Labels.of(axis.values) if joined else sources.labels[variable.digest]
    return found


def _recoding(files: Sequence[FileMetadata], recodes: Sequence[frozenset[str]], append_dim: str | None) -> Recoding:
    """What the target must store in another way than the first file does.

    Where scale or offset differ between files, no packing holds the values of all, so they are
    stored unpacked. Strings of fixed length get the length of the longest.
    """
    first = files[0]
    dtypes: dict[str, str] = {}
    attributes: dict[str, Attributes] = {}
    own = {name: variable.attributes for name, variable in first.variables.items()}
    for name in frozenset[str]().union(*recodes):
        wanted = bounded_attributes(name, own)
        variables = [file.variables[name] for file in files]
        scales = {str([one.attributes.get(key) for key in ("scale_factor", "add_offset")]) for one in variables}
        if len(scales) > 1:
            kinds = [np.dtype(one.decoded or one.dtype) for one in variables]
            # Single precision has no digits for times, nor for labels that a scale in doubles was chosen for.
            least = np.float64 if name == append_dim or is_time_unit(wanted.get("units")) else np.float32
            dtypes[name] = np.result_type(*kinds, least).newbyteorder("<").str
            wanted = {key: value for key, value in wanted.items() if key not in PACKING}
        if wanted != own[name]:
            attributes[name] = wanted
    for name, variable in first.variables.items():
        if variable.dtype.startswith("|S"):
            longest = max(np.dtype(file.variables[name].dtype).itemsize for file in files)
            dtypes.setdefault(name, f"|S{longest}")
    return Recoding(dtypes, attributes)


def _check_fill(template: DatasetTemplate) -> None:
    """Refuse to leave a place empty in an array where emptiness would read as a value."""
    for array in template.arrays.values():
        if array.role == "data" and template.append_dim in array.dims and not has_fill(array.dtype, array.attributes):
            raise InvalidInputError(
                f"{array.name!r} ({array.dtype}) has no fill value, so what is missing from it would read as zeros. "
                "Leave it out (--variables), or use --gaps keep."
            )
