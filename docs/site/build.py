"""Builds the site of the documentation: the pages of docs/, what the code says of itself, README as first page.

What is read in a checkout links to files of the checkout. Here such links become links to pages, and those to files
that are no page become plain names.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import frazil
from frazil.cli import app

TOP: Final = Path(__file__).parents[2]
BUILD: Final = TOP / "build" / "docs"
PAGES: Final = BUILD / "pages"
RENAMED: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "infra/README.md": "aws-account.md",
    "infra/runtime/README.md": "image.md",
    "docs/decisions": "decisions.md",
}
"""Where files of the checkout stand on the site, beside the pages of docs/, which keep their names."""

_LINK: Final = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_OWN_USAGE: Final = re.compile(r"^(frazil (\S+)) \2 ", re.MULTILINE)
_CONTENTS: Final = re.compile(r"^## Table of Contents\n.*?(?=^\*\*Commands)", re.MULTILINE | re.DOTALL)


def page_of(path: str) -> str | None:
    """The page that shows a file of the checkout, if there is one."""
    if path in RENAMED:
        return RENAMED[path]
    if path.startswith("docs/decisions/"):
        return f"decisions.md#{Path(path).stem}"
    return path.removeprefix("docs/") if re.fullmatch(r"docs/[^/]+\.md", path) else None


def linked(text: str, folder: str) -> str:
    """A text of a folder of the checkout with its links as the site has them."""

    def on_the_site(found: re.Match[str]) -> str:
        name, target, anchor = found.groups()
        if "://" in target:
            return found[0]
        parts: list[str] = []
        for part in (*folder.split("/"), *target.split("/")):
            if part == "..":
                parts.pop()
            elif part not in {"", "."}:
                parts.append(part)
        page = page_of("/".join(parts))
        return f"[{name}]({page}{anchor or ''})" if page else name

    return _LINK.sub(on_the_site, text)


def decisions() -> str:
    """All decisions on one page, each to be linked to by the name of its file."""
    texts = []
    for path in sorted((TOP / "docs" / "decisions").glob("*.md")):
        heading, _, rest = linked(path.read_text(), "docs/decisions").partition("\n")
        texts.append(f"#{heading} {{#{path.stem}}}\n{rest}")
    return "# Decisions\n\n" + "\n".join(texts)


def command_line() -> str:
    """What the command line says of itself."""
    text = app.generate_docs().replace("# frazil\n", "# Command line\n", 1)
    return _OWN_USAGE.sub(r"\1 ", _CONTENTS.sub("", text))


def python() -> str:
    """All that `frazil` exports: what one calls, what one gets, what one catches."""
    kinds: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors": []}
    for name in frazil.__all__:
        one = getattr(frazil, name)
        error = isinstance(one, type) and issubclass(one, Exception)
        kinds["Errors" if error else "Classes" if isinstance(one, type) else "Functions"].append(name)
    sections = (
        f"## {kind}\n\n" + "\n\n".join(f"::: frazil.{name}\n    options:\n      heading_level: 3" for name in names)
        for kind, names in kinds.items()
    )
    return "# Python\n\nAll of it is imported with `import frazil`.\n\n" + "\n\n".join(sections) + "\n"


def write_pages() -> None:
    """Put everything that the site is built of into build/docs."""
    shutil.rmtree(BUILD, ignore_errors=True)
    PAGES.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("zensical.toml"), BUILD)
    for path in (TOP / "docs").glob("*.md"):
        (PAGES / path.name).write_text(linked(path.read_text(), "docs"))
    for name in ("README.md", "CHANGELOG.md", "infra/README.md", "infra/runtime/README.md"):
        folder = Path(name).parent.as_posix().removeprefix(".")
        (PAGES / RENAMED[name]).write_text(linked((TOP / name).read_text(), folder))
    (PAGES / "decisions.md").write_text(decisions())
    (PAGES / "command-line.md").write_text(command_line())
    (PAGES / "python.md").write_text(python())


def main() -> int:
    """Build the site into build/docs/site; 1 if anything is wrong with it."""
    write_pages()
    build = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    return subprocess.run(build, cwd=BUILD, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
