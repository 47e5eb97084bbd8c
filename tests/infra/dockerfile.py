"""A Dockerfile and its .dockerignore, read and followed without a container engine.

It knows the instructions that ours uses, and refuses others. `Built` follows them below a directory that
stands for `/`: absolute paths in instructions are turned into paths below it.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ABSOLUTE = re.compile(r"(?<![\w./])/(?=(?:opt|src|lithops|data|usr/local|root|tmp)\b)")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_PAIR = re.compile(r"([\w.]+)=(\"[^\"]*\"|\S+)")


@dataclass(frozen=True, slots=True)
class Instruction:
    word: str
    rest: str

    def pairs(self) -> dict[str, str]:
        """What ENV, LABEL and ARG set."""
        return {name: value.strip('"') for name, value in _PAIR.findall(self.rest)}

    def command(self) -> list[str]:
        """What ENTRYPOINT and CMD start."""
        return list(json.loads(self.rest))


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def last(self, word: str) -> Instruction | None:
        return next((one for one in reversed(self.instructions) if one.word == word), None)


def instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, rest = line.split(None, 1)
            yield Instruction(word, rest.strip())


def stages(text: str) -> dict[str, Stage]:
    """The stages by name, in order; the last one is the default."""
    found: dict[str, Stage] = {}
    name = base = ""
    collected: list[Instruction] = []
    for one in (*instructions(text), Instruction("FROM", " AS ")):
        if one.word != "FROM":
            collected.append(one)
            continue
        if name:
            found[name] = Stage(name, base, tuple(collected))
        base, _, name = (part.strip() for part in one.rest.partition("AS"))
        collected = []
    return found


def lets_through(ignore: str, path: str) -> bool:
    """Whether a .dockerignore lets a file through: the last line that matches it, or a folder of it, decides."""
    kept = True
    for line in ignore.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        negated = pattern.startswith("!")
        parts = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.lstrip("!").strip("/").split("/"))
        expression = "/".join(parts).replace("[^/]*[^/]*/", "(?:.*/)?")
        if re.fullmatch(rf"{expression}(?:/.*)?", path):
            kept = negated
    return kept


def context(top: Path, ignore: str) -> list[str]:
    """The files of a checkout that are sent to the engine."""
    found = []
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name not in {".git", ".venv", "node_modules"}]
        found += [(Path(folder) / name).relative_to(top).as_posix() for name in names]
    return sorted(path for path in found if lets_through(ignore, path))


@dataclass(slots=True)
class Built:
    """Stages as they become, one after the other, below `root`."""

    root: Path
    context: Path
    outside: Mapping[str, str]
    env: dict[str, str] = field(default_factory=dict)
    directory: str = "/"

    def path(self, text: str) -> str:
        """A text with its absolute paths below the root."""
        return _ABSOLUTE.sub(f"{self.root}/", text)

    def follow(self, stage: Stage, others: Mapping[str, Path]) -> None:
        """Do what a stage says; `others` are the roots of stages that it copies from."""
        for one in stage.instructions:
            match one.word:
                case "ENV":
                    expanded = {name: self.expanded(value) for name, value in one.pairs().items()}
                    self.env |= {name: self.path(value) for name, value in expanded.items()}
                case "WORKDIR":
                    self.directory = one.rest
                    self.below(one.rest).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self.copy(one.rest, others)
                case "RUN":
                    self.run(re.sub(r"--mount=\S+\s+", "", one.rest))
                case "ARG" | "LABEL" | "USER" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
                    pass  # they change no file
                case _:
                    raise NotImplementedError(one.word)

    def expanded(self, value: str) -> str:
        return _VARIABLE.sub(lambda found: {**self.outside, **self.env}[found[1]], value)

    def below(self, path: str) -> Path:
        return self.root / (Path(self.directory) / path).as_posix().lstrip("/")

    def copy(self, rest: str, others: Mapping[str, Path]) -> None:
        flags = [word for word in shlex.split(rest) if word.startswith("--")]
        *sources, target = (word for word in shlex.split(rest) if not word.startswith("--"))
        origin = others[flags[0].removeprefix("--from=")] if flags else self.context
        for source in sources:
            found = origin / source.lstrip("/")
            into = self.below(target)
            if found.is_dir():
                shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True)
            else:
                (into if target.endswith("/") else into.parent).mkdir(parents=True, exist_ok=True)  # as an engine does
                shutil.copy2(found, into / found.name if target.endswith("/") or into.is_dir() else into)

    def run(self, command: str, **options: object) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["/bin/sh", "-ec", self.path(command)],
            cwd=self.below("."),
            env={**self.outside, **self.env},
            capture_output=True,
            text=True,
            check=False,
            **options,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done
