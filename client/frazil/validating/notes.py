"""Notes: what a reader of the outcome should know, and that is no fault."""

from collections.abc import Iterator
from typing import Final

from frazil.validating.checksums import unchecked
from frazil.validating.coordinates import unit_notes
from frazil.validating.tree import Tree
from frazil_functions.validating.comparing import implausible
from frazil_functions.validating.values import dtype_of

_NAMED: Final = 5


def notes_of(tree: Tree, label_bytes: int, *, altered: bool) -> tuple[str, ...]:
    """What is to be noted of a tree.

    Parameters
    ----------
    tree
        What was looked at.
    label_bytes
        The largest coordinate whose labels were looked at.
    altered
        Whether every chunk was decoded to find out whether any was altered.
    """
    notes = [*tree.notes, *_nameless(tree), *_long(tree, label_bytes), *_unlikely(tree)]
    for member in tree.members.values():
        notes += unit_notes(member)
    return (*notes, *_unchecked(tree)) if altered else tuple(notes)


def _nameless(tree: Tree) -> Iterator[str]:
    for member in tree.members.values():
        if member.array.ndim and member.names is None:
            yield f"{member.path!r} does not name its dimensions, so Xarray cannot open its group"


def _long(tree: Tree, label_bytes: int) -> Iterator[str]:
    for member in tree.members.values():
        if member.is_label and member.array.nbytes > label_bytes:
            yield f"the labels {member.path!r} are too many to be looked at; their chunks were checked"


def _unlikely(tree: Tree) -> Iterator[str]:
    for member in tree.members.values():
        for name in implausible(dtype_of(member.array), member.attributes):
            yield (
                f"{member.path!r} says {name} = {member.attributes[name]!r}, which cannot be for "
                f"{member.array.dtype}; it was ignored"
            )


def _unchecked(tree: Tree) -> Iterator[str]:
    found = unchecked(tree.members.values())
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        yield (
            f"the chunks of {', '.join(map(repr, found[:_NAMED]))}{more} hold no checksum, so bytes that were altered "
            "in place may decode to other values; comparing with files (--against) tells"
        )
