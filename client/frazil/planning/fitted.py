"""Fitted: the sources as they lie in the target, and the target as it will be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from frazil.labels.join import Axis
from frazil.labels.place import Pieces
from frazil.template.build import Recoding
from frazil_functions.reading.encoding import rounds
from frazil_functions.reading.scanning import FileMetadata
from frazil_functions.tasks import FileSource
from frazil_functions.template import ArrayTemplate, DatasetTemplate


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a mode makes of the sources.

    Attributes
    ----------
    template
        The group as it will be.
    sources
        The files, in the order of their labels.
    filled
        How many labels no file has.
    """

    template: DatasetTemplate
    sources: tuple[FileSource, ...]
    filled: int = 0


def sources_at(
    files: Sequence[FileMetadata],
    axis: Axis,
    recodes: Sequence[frozenset[str]],
    recoding: Recoding,
    *,
    places: Sequence[Pieces] = (),
    shift: int = 0,
) -> tuple[FileSource, ...]:
    """The files in the order of their labels, each with its place.

    Parameters
    ----------
    files
        In the order that the axis counts them.
    axis
        Where they lie along the append dimension.
    recodes, recoding
        What has to be turned into what the target stores.
    places
        Where labels of other dimensions lie, for each file; as they do in the target by default.
    shift
        Where the axis begins in the target.
    """
    return tuple(
        FileSource(
            url=files[at].url,
            engine=files[at].engine,
            start=start + shift,
            stop=stop + shift,
            fingerprint=files[at].fingerprint,
            recode=tuple(sorted(recodes[at] | recoding.attributes.keys())),
            places=dict(places[at]) if places else {},
        )
        for at, (start, stop) in zip(axis.order, axis.spans, strict=True)
    )


def read_as_placed(arrays: Mapping[str, ArrayTemplate], first: FileSource) -> dict[str, ArrayTemplate]:
    """Arrays of which functions write what is written once where it stands or is stored otherwise in the first file.

    The client reads it as it stands.
    """
    return {
        name: replace(one, role="data")
        if one.role == "static" and (first.places.keys() & set(one.dims) or rounds(one.dtype, one.attributes))
        else one
        for name, one in arrays.items()
    }
