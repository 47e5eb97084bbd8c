"""TOML, YAML, the schema and the guide's table say the same of a job file, and refuse the same."""

import json
import re
import time
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import frazil
from frazil.cli import main
from frazil.jobfile import JobFile, Retry, Worker, checking, descriptions, load, schema
from frazil.jobfile.options import Job
from frazil.jobfile.reading import read

from .hourly import series as hourly
from .test_jobfile import FULL, LEAST, START, WRONG

GUIDE = Path(__file__).parents[2] / "docs" / "job-files.md"


def validator() -> jsonschema.Draft202012Validator:
    found = schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def written(folder: Path, text: str, suffix: str = ".yaml") -> Path:
    path = folder / f"job{suffix}"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(frazil.InvalidInputError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", [FULL, LEAST])
def test_the_same_job_in_yaml_means_the_same(text: str, tmp_path: Path) -> None:
    told = tomllib.loads(text)
    for number, spelled in enumerate((json.dumps(told), yaml.safe_dump(told), yaml.safe_dump(told, indent=4))):
        suffix = (".yaml", ".yml", ".YAML")[number]
        assert load(written(tmp_path, spelled, suffix)) == load(written(tmp_path, text, ".toml"))


def correct(text: str) -> str:
    return re.sub(rf"(?m)^{re.escape(text.partition(' =')[0])} = .*\n", "", LEAST) + text


def told(text: str) -> dict[str, Any] | None:
    """What the file says; None if it is no TOML."""
    try:
        return tomllib.loads(correct(text))
    except tomllib.TOMLDecodeError:
        return None


@pytest.mark.parametrize("text", [text for text in WRONG if told(text) and "2020-01-01" not in text])
def test_what_is_refused_in_toml_is_refused_in_yaml_in_the_same_words(text: str, tmp_path: Path) -> None:
    toml = written(tmp_path, correct(text), ".toml")
    spelled = written(tmp_path, yaml.safe_dump(told(text)))
    assert refusal(spelled).replace(str(spelled), "") == refusal(toml).replace(str(toml), "")


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
WRONG_YAML = {
    "gaps: fill\ngaps: keep\n": ("'gaps' is given twice", "line 4, column 1"),
    "chunks: {time: 1, time: 2}\n": ("'time' is given twice", "line 3"),
    '"gaps": fill\ngaps: keep\n': ("'gaps' is given twice",),
    "message: !!python/object/apply:os.system ['touch /tmp/x']\n": ("tags (!) are not read", "line 3"),
    "message: !!str x\n": ("tags (!) are not read",),
    "message: ! x\n": ("tags (!) are not read",),
    "chunks: &c {time: 1}\nshards: *c\n": ("anchors (&) and aliases (*) are not read", "line 3"),
    "shards: {<<: {time: 1}, lat: 2}\n": ("shards.<<", "a whole number is expected"),
    LAUGHS: ("anchors (&)",),
    "message: " + "[" * 100_000 + "\n": ("nested too deeply",),
    "message: " + "{a: " * 100 + "1" + "}" * 100 + "\n": ("nested too deeply",),
    "message: " + "x" * (1 << 20) + "\n": ("larger than 1 MiB",),
    "chunks: {time: 1:30}\n": ("chunks.time is '1:30', text", "a whole number is expected"),
    "chunks: {time: 010}\n": ("chunks.time is '010', text",),
    "chunks: {time: 1_000}\n": ("chunks.time is '1_000', text",),
    "chunks: {[a]: 1}\n": ("a key is a list or a table",),
    "workers: yes\n": ("workers is 'yes', text",),
    "reorder: on\n": ("reorder is 'on', text", "true or false"),
    "workers: 99999999999999999999\n": ("workers is 1e+20, a number",),
    "retry: {backoff: .nan}\n": ("retry.backoff is nan", "finite"),
    "retry:\n": ("retry is None, nothing", "a table is expected"),
    "1: 2\n": ("no key '1' at the top level",),
    "gaps: [fill\n": ("line 4",),
    "\tgaps: fill\n": ("line 3",),
    "---\ngaps: fill\n": ("expected a single document",),
    "gaps: 'fill\n": ("line 4",),
    "gaps: \x07\n": ("cannot be read",),
}


@pytest.mark.parametrize("text", WRONG_YAML, ids=lambda text: text[:20])
def test_what_yaml_can_do_beyond_plain_values_is_refused_within_a_second(text: str, tmp_path: Path) -> None:
    path = written(tmp_path, "sources: a.nc\nrepository: archive\n" + text)
    began = time.process_time()
    message = refusal(path)
    assert time.process_time() - began < 5  # what else the machine does counts for nothing
    for part in WRONG_YAML[text]:
        assert part in message


def test_an_error_of_yaml_shows_nothing_of_the_file(tmp_path: Path) -> None:
    for text in ("sources: https://a?signature=hidden: b", "sources: 'https://a?signature=hidden", "&hidden a: 1"):
        assert "hidden" not in refusal(written(tmp_path, text))


@pytest.mark.parametrize("text", ["- a\n", "just text\n", "3\n"])
def test_yaml_that_holds_no_keys_is_refused(text: str, tmp_path: Path) -> None:
    assert "holds no keys" in refusal(written(tmp_path, text))


def test_an_empty_file_lacks_the_sources(tmp_path: Path) -> None:
    for suffix in (".yaml", ".toml"):
        assert "sources is missing" in refusal(written(tmp_path, "# nothing\n", suffix))


def test_toml_without_end_is_refused(tmp_path: Path) -> None:
    assert "larger than 1 MiB" in refusal(written(tmp_path, "# " + "x" * (1 << 20), ".toml"))
    assert "cannot be read as a job file" in refusal(written(tmp_path, "workers = " + "9" * 5000, ".toml"))
    assert str(tmp_path) in refusal(written(tmp_path, "sources = " + "[" * 100_000, ".toml"))


def test_words_that_yaml_turns_into_something_else_stay_text(tmp_path: Path) -> None:
    text = "sources: no\nrepository: 2026-01-01\ngroup: 12:30\nmessage: ~x\nengine:\nretry: {backoff: 1e1}\n"
    job = load(written(tmp_path, text))
    assert (job.sources, job.repository) == ((f"{tmp_path}/no",), f"{tmp_path}/2026-01-01")
    assert (job.group, job.message, job.engine, job.retry.backoff) == ("12:30", "~x", None, 10)


@pytest.mark.parametrize("text", [FULL, LEAST, "", "group = ''", "region = 'auto'", "variables = ['a']", "[retry]\n"])
def test_what_is_read_validates_against_the_schema(text: str, tmp_path: Path) -> None:
    said = read(written(tmp_path, text, ".toml"))
    checking.checked(said)
    validator().validate(said)


BEYOND = re.compile(r"attempts = 1\.0|= (nan|inf)$|\{(?! )|\}'$|'auto:")
"""What no schema tells: numbers that are whole in JSON, or not in it, placeholders, and how chunks may be chosen."""


@pytest.mark.parametrize("text", [text for text in WRONG if told(text)])
def test_what_a_schema_can_know_is_wrong_it_refuses(text: str) -> None:
    assert validator().is_valid(told(text)) == bool(BEYOND.search(text))


def test_every_option_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (JobFile, Retry, Worker):
        texts = descriptions(kind)
        assert texts.keys() == {field.name for field in fields(kind)}
        assert all(text.endswith(".") and len(text) > 10 for text in texts.values())
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(schema()))
    assert main(["convert", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in {field.name for field in fields(Job)} - {"replicas", "containers"}:
        assert f"--{name.replace('_', '-')}" in shown
    assert "multiples of the chunks'" in shown


def form(key: dict[str, Any]) -> str:
    """A key's type in the words of the guide."""
    if "enum" in key:
        return ", ".join(f"`{word}`" for word in sorted(key["enum"]))
    if "anyOf" in key:
        return " or ".join(form(one) for one in key["anyOf"] if one.get("type") != "null")
    if key["type"] == "array":
        return "list" if "prefixItems" not in key else "[start, stop]"
    if key["type"] == "object":
        return f"table ({form(key['additionalProperties'])})"
    return {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}[key["type"]]


def rows(part: str) -> list[str]:
    """The guide's rows for the top level, or a table, of a job file."""
    keys = schema()["$defs"][part]["properties"]
    return [
        f"| `{name}` | {form(key)} | {json.dumps(key['default']) if 'default' in key else ''} | {key['description']} |"
        for name, key in keys.items()
        if "$ref" not in key and not any("$ref" in one for one in key.get("allOf", ()))
    ]


@pytest.mark.parametrize("part", ["JobFile", "Retry", "Worker"])
def test_the_guide_s_table_has_every_key(part: str) -> None:
    text = GUIDE.read_text()
    listed = [line for line in text.splitlines() if line.startswith("| `") and line.count(" | ") > 1]
    assert set(rows(part)) <= set(listed), "\n".join(rows(part))
    assert len(listed) == len(set(listed)) == sum(len(rows(one)) for one in ("JobFile", "Retry", "Worker"))


def test_the_guide_s_examples_mean_the_same_and_validate(tmp_path: Path) -> None:
    found = re.findall(r"^```(toml|yaml)\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert [language for language, _ in found] == ["toml", "yaml"]
    one, other = (written(tmp_path, text, f".{language}") for language, text in found)
    assert load(one, START) == load(other, START)
    validator().validate(read(one))


def test_the_guide_s_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    hourly(0, 24).to_netcdf(tmp_path / "data" / "a.nc")
    text = GUIDE.read_text()
    (example,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    written(tmp_path, example, ".toml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRAZIL_BACKEND", "serial")
    lines = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)).splitlines()
    commands = [re.fullmatch(r"((?:FRAZIL_\w+=\w+ )*)frazil (.*?)(?: > [\w.]+)?", line) for line in lines]
    assert len(commands) == 5
    for command in sorted(commands, key=lambda one: "convert" in str(one)):
        assert command is not None
        with monkeypatch.context() as variables:
            for variable in command[1].split():
                variables.setenv(*variable.split("="))
            assert main(command[2].split()) == 0, capsys.readouterr().err
    repository = frazil.open_repository(tmp_path / "archive.icechunk", create=False)
    assert next(repository.ancestry(branch="main")).message.startswith("As of 20")
