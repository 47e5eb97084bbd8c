"""The axis of all files: the labels along which they follow each other, as the target stores them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import xarray as xr

from frazil.labels.compare import Accept
from frazil.labels.join import Axis, FileLabels, Gaps, check_labels, join
from frazil.planning.scan import Sources
from frazil.template.build import Recoding
from frazil_functions.errors import LabelError
from frazil_functions.reading.encoding import PACKING, recode
from frazil_functions.reading.scanning import FileMetadata, Labels, VariableMetadata


def check_all_labels(sources: Sources) -> None:
    """Refuse labels that are missing, in any file.

    Raises
    ------
    LabelError
        Naming the file and the dimension.
    """
    seen: set[tuple[str, str]] = set()
    for file in sources.files:
        for name, variable in file.variables.items():
            told = variable.digest or "", str([variable.attributes.get(key) for key in PACKING])
            if variable.digest in sources.labels and told not in seen:
                seen.add(told)
                check_labels(name, file.url, sources.labels[variable.digest].values(), variable.attributes)


def axis_of(
    sources: Sources,
    recodes: Sequence[frozenset[str]],
    recoding: Recoding,
    gaps: Gaps,
    accept: frozenset[Accept],
    like: VariableMetadata | None = None,
) -> Axis:
    """Where each file lies along the append dimension, by its labels as the target stores them.

    Parameters
    ----------
    sources
        The files.
    recodes, recoding
        What each of them stores in another way than the target, and what the target stores in another way than the
        first of them.
    gaps, accept
        As in `frazil.planning.options.Options`.
    like
        The coordinate that the target stores them as, if it is not the first file's.

    Raises
    ------
    LabelError
        If labels repeat, overlap, are missing or leave a gap that is not accepted.
    """
    dim, files = sources.append_dim, sources.files
    if dim is None:
        return Axis(np.array([]), (0,), ((0, 0),))
    label = files[0].variables.get(dim) if like is None else like
    if label is None or dim not in files[0].variables:
        return _unlabelled(dim, files, accept)
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
    axis = join(dim, found, attributes, gaps)
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


def labels_of(sources: Sources, axis: Axis) -> dict[str, Labels]:
    """The labels of every dimension that has some, by dimension."""
    found = {}
    for name, variable in sources.files[0].variables.items():
        if variable.dims == (name,) and variable.digest is not None:
            joined = name == sources.append_dim
            found[name] = Labels.of(axis.values) if joined else sources.labels[variable.digest]
    return found
