"""A new group: the first file says what it is like, and all of them how long."""

from dataclasses import replace

from frazil.labels.compare import compare
from frazil.labels.place import Pieces, aligned
from frazil.planning.axis import axis_of, check_all_labels, labels_of
from frazil.planning.fitted import Fitted, read_as_placed, sources_at
from frazil.planning.options import Options
from frazil.planning.recoding import recoding_of, stored_so, unclaimed
from frazil.planning.scan import Sources
from frazil.template.build import build
from frazil.template.chunking import ChunkChoice


def fit_new(sources: Sources, options: Options) -> Fitted:
    """The sources as a group of their own.

    The first file that was named gives attributes and encodings; the order along the append dimension is that
    of the labels.

    Raises
    ------
    InvalidInputError
        If files do not go together, labels do not fit, or chunks do not.
    """
    sources = replace(sources, files=unclaimed(sources.files))
    check_all_labels(sources)
    first, dim = sources.files[0], sources.append_dim
    files, places = [first], list[Pieces]([{}])
    for file in sources.files[1:]:
        turned, pieces = (
            aligned(first, file, sources.labels, dim, options.accept, reorder=True) if options.reorder else (file, {})
        )
        files.append(turned)
        places.append(pieces)
    recodes = [
        compare(first, file, dim, sources.labels, options.accept) if file is not first else frozenset()
        for file in files
    ]
    recoding = stored_so(recoding_of(files, recodes, dim), options.stored)
    axis = axis_of(sources, recodes, recoding, options.gaps, options.accept)
    # Labels give a dimension its length; one without any is as long as all files together.
    whole = replace(first, sizes=first.sizes | ({dim: axis.spans[-1][1]} if dim is not None else {}))
    chosen = ChunkChoice(options.chunks, options.shards, options.auto)
    template = build(whole, labels_of(sources, axis), dim, chosen, recoding)
    placed = sources_at(files, axis, recodes, recoding, places=places)
    return Fitted(replace(template, arrays=read_as_placed(template.arrays, placed[0])), placed, axis.filled)
