"""From what a user names (paths, globs, URLs, lists of them) to one list of files."""

import fnmatch
import glob
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import BaseError

from frazil_functions.errors import SourceError
from frazil_functions.reading.failures import source_error
from frazil_functions.reading.remote import check_url, is_remote, remote_fingerprint, split
from frazil_functions.text import words

_WILD: Final = "*?["
_LISTS: Final = (".txt", ".list")


def expand(sources: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    """Every file that the sources name, in their order, those of a glob sorted.

    A source is a path, a URL, a glob of either, or a text file (`.txt`, `.list`) with one of
    these on each line; empty lines and lines that begin with # do not count, and relative paths
    in it are relative to it. Local paths become absolute: functions may run elsewhere.

    Raises
    ------
    SourceError
        If a source names nothing, or the same file stands twice.
    """
    named = [sources] if isinstance(sources, str | Path) else list(sources)
    files = [file for source in named for file in _expand_one(str(source), Path.cwd())]
    if not files:
        raise SourceError("no source files were given")
    seen: set[str] = set()
    for file in files:
        one = file if is_remote(file) else str(Path(file).resolve())
        if one in seen:
            raise SourceError(f"{file} is given twice; name it once")
        seen.add(one)
    return tuple(files)


def _expand_one(source: str, below: Path) -> Sequence[str]:
    if is_remote(source):
        return _expand_url(source)
    path = str(below / Path(source).expanduser())
    if path.endswith(_LISTS) and not any(sign in source for sign in _WILD):
        return _expand_list(Path(path))
    if any(sign in source for sign in _WILD) and not Path(path).exists():
        found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not found:
            raise SourceError(f"no files match {source}")
        return [str(Path(file).absolute()) for file in found]
    if not Path(path).exists():
        raise SourceError(f"{source} does not exist")
    return [str(Path(path).absolute())]


def _expand_list(path: Path) -> Sequence[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as a list of files: {error}") from error
    named = [line for line in lines if line and not line.startswith("#")]
    if not named:
        raise SourceError(f"{path} lists no files")
    nested = next((line for line in named if line.endswith(_LISTS)), None)
    if nested is not None:
        raise SourceError(f"{path} names the list {nested}; a list names files alone, so name each list yourself")
    return [file for line in named for file in _expand_one(line, path.absolute().parent)]


def _expand_url(url: str) -> Sequence[str]:
    check_url(url)  # before anything else: no error may show what is secret in it
    if not any(sign in url for sign in _WILD):
        return [url]
    if url.lower().startswith(("http://", "https://")):
        raise SourceError(f"{url}: a web server does not list its files; name each, or give a text file of them")
    store, pattern = split(url)
    wild = [at for sign in _WILD if (at := pattern.find(sign)) >= 0]
    if not wild or remote_fingerprint(url):  # keys may contain the signs of a glob
        return [url]
    fixed = pattern[: min(wild)].rpartition("/")[0]
    try:
        paths = [meta["path"] for page in obstore.list(store, fixed or None) for meta in page]
    except (BaseError, OSError) as error:
        raise source_error(f"{url} cannot be listed: {words(error)}", error) from error
    found = sorted({match for path in paths if (match := _matching(path, pattern))})
    if not found:
        raise SourceError(f"no objects match {url}")
    root = url.removesuffix(pattern).rstrip("/")
    return [f"{root}/{path}" for path in found]


def _matching(path: str, pattern: str) -> str | None:
    """The part of a path that the pattern matches: itself, or a Zarr hierarchy that it lies in."""
    parts, wanted = path.split("/"), pattern.rstrip("/").split("/")
    whole = wanted[-1] == "**"
    heads = (parts[:length] for length in range(len(parts) if whole else 1, len(parts) + 1))
    return next(("/".join(head) for head in heads if _fits(head, wanted)), None)


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the pattern matches part by part; ** stands for any number of them, as on a disk."""
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_fits(parts[skipped:], wanted[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])
