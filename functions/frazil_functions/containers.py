"""Containers: the places that references lead into, declared in a repository and authorised by who opens it.

How they are spelled, and which URLs lie in them. What Icechunk makes of them, `authorising` and `declaring` know.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

from frazil_functions.errors import InvalidInputError, nearest

SCHEMES: Final = ("s3", "gs", "https", "http", "file")
"""What storage goes by that references lead into."""

_OPTIONS: Final = {"s3": ("region", "endpoint_url", "anonymous"), "gs": ("anonymous",)}
_SECRETS: Final = re.compile(r"key|secret|token|password|credential|authorization", re.IGNORECASE)
_PLAIN: Final = re.compile(r"[!$&'()*+,./:;=@_~\[\]|\\A-Za-z0-9-]*")
"""What Icechunk leaves as it is in a URL. It matches the encoded URL when a reference is written and the decoded one
when it is read, so a prefix that differs between the two covers nothing."""
_WORDS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Container:
    """A place that holds the files which references lead into: Icechunk's virtual chunk container, without any secret.

    Attributes
    ----------
    prefix
        What the URLs of its files begin with; it ends with a slash: "s3://raw/", "file:///data/", "https://host/data/".
    region, endpoint_url
        Of S3 storage; None for what the environment says when the container is declared.
    anonymous
        Whether it is read without credentials. Else they are those of the environment, wherever it is read.

    Raises
    ------
    InvalidInputError
        If nothing can lie there, it is too wide, or it holds a secret.
    """

    prefix: str
    region: str | None = None
    endpoint_url: str | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        scheme = _check_prefix(self.prefix)
        options = {"region": self.region, "endpoint_url": self.endpoint_url, "anonymous": self.anonymous}
        for name, value in options.items():
            if value and name not in _OPTIONS.get(scheme, ()):
                raise InvalidInputError(f"the container {self.prefix} has {name}, which {scheme}:// does not know")
        if self.endpoint_url is not None:
            _check_endpoint(self.prefix, self.endpoint_url)

    def __str__(self) -> str:
        return self.prefix

    @property
    def scheme(self) -> str:
        """What its storage goes by."""
        return self.prefix.partition("://")[0]

    @property
    def spelled(self) -> str:
        """The text that `parse` makes it of."""
        said = [f"{name}={value}" for name in ("region", "endpoint_url") if (value := getattr(self, name))]
        said += ["anonymous=true"] if self.anonymous else []
        return self.prefix + (f"={','.join(said)}" if said else "")

    def covers(self, url: str) -> bool:
        """Whether a file lies in it."""
        inside = url.startswith(self.prefix) and len(url) > len(self.prefix)
        return inside and ".." not in map(unquote, url.split("/"))

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> Self:
        """The container that a text names.

        Parameters
        ----------
        text
            A prefix (s3://, gs://, https:// or file://, or a local directory), alone or with options behind "=", as in
            "s3://raw/=region=eu-west-1,anonymous=true".

        Raises
        ------
        InvalidInputError
            Saying how it is written right.

        Examples
        --------
        >>> Container.parse("s3://raw/=region=eu-west-1")
        Container(prefix='s3://raw/', region='eu-west-1', endpoint_url=None, anonymous=False)
        """
        said = os.fspath(text)
        prefix, separator, options = said.partition("/=")
        prefix += "/" if separator else ""
        if "://" not in prefix:
            prefix = _of_directory(prefix)
        elif prefix.lower().startswith("file://"):
            prefix = _of_file_url(prefix)
        scheme = _check_prefix(prefix)
        found = _options(prefix, options) if separator else {}
        for name in found:
            if name not in _OPTIONS.get(scheme, ()):
                known = _OPTIONS.get(scheme)
                cure = nearest(name, known) if known else f"leave out what follows {prefix}"
                raise InvalidInputError(f"the container {prefix} has no option {name!r}; {cure}")
        anonymous = found.get("anonymous", "false")
        if anonymous not in _WORDS:
            raise InvalidInputError(f"the container {prefix} has anonymous={anonymous!r}; write anonymous=true")
        return cls(prefix, found.get("region"), found.get("endpoint_url"), _WORDS[anonymous])


def container_of(url: str, containers: Iterable[Container]) -> Container | None:
    """The container that a file lies in; the longest prefix of several, as Icechunk takes it; None of none."""
    return max((one for one in containers if one.covers(url)), key=lambda one: len(one.prefix), default=None)


def distinct(containers: Iterable[Container]) -> tuple[Container, ...]:
    """Containers, each once and in the order of their prefixes.

    Raises
    ------
    InvalidInputError
        If one prefix is given with different options.
    """
    found: dict[str, Container] = {}
    for one in containers:
        if found.setdefault(one.prefix, one) != one:
            raise InvalidInputError(f"the container {one} is given twice, with different options; give it once")
    return tuple(found[prefix] for prefix in sorted(found))


def enclosing(url: str) -> str | None:
    """The narrowest prefix that a container of a file can have; None if there is none."""
    while "/" in url.partition("://")[2]:
        url = url.rstrip("/").rpartition("/")[0] + "/"
        try:
            _check_prefix(url)
        except InvalidInputError:
            continue
        return url
    return None


def _check_prefix(prefix: str) -> str:
    """Refuse what cannot be a prefix; returns its scheme."""
    scheme, separator, rest = prefix.partition("://")
    if not separator or scheme not in SCHEMES:
        cure = nearest(scheme, SCHEMES) if separator else "begin it with s3://, gs://, https:// or file://"
        raise InvalidInputError(f"the container {_shown(prefix)} is of no storage that references lead into; {cure}")
    host = rest.partition("/")[0]
    if "@" in host:
        raise InvalidInputError(
            f"the container {_shown(prefix)} has a user or a password in it, which would be kept in the repository for "
            "everybody to read; leave them out"
        )
    if "?" in prefix or "#" in prefix:
        raise InvalidInputError(f"the container {_shown(prefix)} has a query or a fragment; leave out what follows it")
    if scheme == "file" and host:
        raise InvalidInputError(f"the container {prefix} is of another host; write file:///{rest}")
    if scheme != "file" and not host:
        raise InvalidInputError(f"the container {prefix} names no bucket or host; write {scheme}://NAME/")
    if host != host.lower():
        raise InvalidInputError(f"the container {prefix} has capital letters in {host!r}; write {host.lower()!r}")
    if not prefix.endswith("/"):
        raise InvalidInputError(f"the container {prefix} does not end with a slash; write {prefix}/")
    path = rest.removeprefix(host)
    if scheme == "file" and not path.strip("/"):
        raise InvalidInputError(
            "the container file:/// is all of the disk, and a reference could then read any file on it; name the "
            "directory that holds the files, as in file:///data/raw/"
        )
    _check_path(prefix, path)
    return scheme


def _check_path(prefix: str, path: str) -> None:
    names = path.strip("/").split("/")
    if {".", ".."} & set(map(unquote, names)):
        raise InvalidInputError(f"the container {prefix} has '.' or '..' in it; write out where it leads")
    if "//" in path:
        raise InvalidInputError(f"the container {prefix} has an empty name between two slashes; write one slash")
    local = prefix.startswith("file://")
    odd = [name for name in names if not (_PLAIN.fullmatch(name) and (not local or quote(name) == name))]
    if odd:
        raise InvalidInputError(
            f"the container {prefix} has characters in {odd[0]!r} that URLs spell in two ways, and Icechunk would not "
            "find it by both; name a directory above that one"
        )


def _check_endpoint(prefix: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None or parts.query:
        raise InvalidInputError(
            f"the endpoint of the container {prefix} has a password or a query in it, which would be kept in the "
            "repository for everybody to read; leave it out"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInputError(f"the endpoint of the container {prefix} is {url!r}; write https://HOST")


def _options(prefix: str, text: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (one.strip() for one in part.partition("="))
        # What it is set to stays unsaid: it is a secret.
        if _SECRETS.search(name):
            raise InvalidInputError(
                f"the container {prefix} has the option {name!r}: credentials are no part of it, as it is kept in the "
                "repository for everybody to read. They come from the environment of whoever reads"
            )
        if not equals or not name or not value:
            raise InvalidInputError(f"{part!r} of the container {prefix} is not OPTION=VALUE, as in region=eu-west-1")
        if name in found:
            raise InvalidInputError(f"the container {prefix} has {name} twice; write it once")
        found[name] = value
    return found


def _of_directory(text: str) -> str:
    """The prefix of a local directory."""
    if not text:
        raise InvalidInputError("a container is empty; name a prefix, as in s3://raw/, or a directory")
    path = Path(text).expanduser()
    if ".." in path.parts:
        raise InvalidInputError(f"the container {text} has '..' in it; write out where it leads")
    if path.is_file():
        raise InvalidInputError(f"the container {text} is a file; name the directory that it lies in")
    path = path.absolute()
    return f"file://{path.as_posix().rstrip('/')}/"


def _of_file_url(url: str) -> str:
    """The prefix that a file:// URL spells, with nothing encoded in it."""
    return "file://" + unquote(url[len("file://") :])


def _shown(prefix: str) -> str:
    """A prefix without what could be a secret in it."""
    head, separator, rest = re.split(r"[?#]", prefix, maxsplit=1)[0].partition("://")
    return f"{head}{separator}{rest.rpartition('@')[2]}"
