"""Looking for secrets in whatever a run leaves: also where they are encoded, or packed."""

import base64
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

import numcodecs

_ENCODED = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_ZSTD, _GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08"
_DEPTH = 4


def found_in(data: bytes, secrets: Iterable[str]) -> list[str]:
    """The secrets that some data hold, as they are or encoded, there or in what is packed in them."""
    layers = list(_layers(data, _DEPTH))
    return [secret for secret in secrets if any(one in layer for one in _spellings(secret) for layer in layers)]


def _spellings(secret: str) -> Iterator[bytes]:
    """As it is, as in URLs, as in JSON that escapes slashes, and what base 64 and hexadecimal digits make of it."""
    for text in {secret, quote(secret, safe=""), quote_plus(secret), secret.replace("/", "\\/")}:
        yield text.encode()
    yield secret.encode().hex().encode()
    for shift in range(3):
        # What comes before it shifts what base 64 makes of it; the ends depend on what stands beside.
        encoded = base64.b64encode(b"\0" * shift + secret.encode())
        kept = encoded[(0, 2, 3)[shift] : len(encoded) - 4]
        yield kept
        yield kept.translate(bytes.maketrans(b"+/", b"-_"))


def _layers(data: bytes, depth: int) -> Iterator[bytes]:
    """The data, and all that can be unpacked from any place in them."""
    yield data
    if not depth:
        return
    for inner in _unpacked(data):
        yield from _layers(inner, depth - 1)


def _unpacked(data: bytes) -> Iterator[bytes]:
    for magic, unpack in ((_ZSTD, _unzstd), (_GZIP, _ungzip)):
        at = data.find(magic)
        while at >= 0:
            inner = unpack(data[at:])
            if inner is not None:
                yield inner
            at = data.find(magic, at + 1)
    inner = _inflated(data)
    if inner is not None:
        yield inner
    if len(data) < 1 << 20:  # text, and not values
        for found in _ENCODED.finditer(data):
            word = found[0].rstrip(b"=")
            yield base64.urlsafe_b64decode(word[: len(word) // 4 * 4].translate(bytes.maketrans(b"+/", b"-_")))


def _unzstd(data: bytes) -> bytes | None:
    try:
        return bytes(numcodecs.Zstd().decode(data))
    except (RuntimeError, ValueError):
        return None


def _ungzip(data: bytes) -> bytes | None:
    unpacking = zlib.decompressobj(wbits=31)
    try:
        return unpacking.decompress(data)
    except zlib.error:
        return None


def _inflated(data: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(data)
    except zlib.error:
        return None


def packed(secret: str) -> dict[str, bytes]:
    """A secret as it might be hidden, by what was done to it."""
    text = f'{{"key": "{secret}", "more": 1}}'.encode()
    return {
        "as it is": text,
        "in a URL": f"https://host/?key={quote(secret, safe='')}".encode(),
        "in base 64": base64.b64encode(text),
        "in base 64 for URLs, shifted": base64.urlsafe_b64encode(b"." + text),
        "in hexadecimal digits": text.hex().encode(),
        "zipped": b"header" + gzip.compress(text),
        "in zlib and base 64": b'{"logs": "' + base64.b64encode(zlib.compress(text)) + b'"}',
        "in zstd": b"ICE" + bytes(numcodecs.Zstd().encode(b"." * 1000 + text)),
        "in zlib": zlib.compress(text),
    }
