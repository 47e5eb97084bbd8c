"""A small stand-in for GitHub's runner: reads workflows, and runs their `run:` steps with bash in folders of their own.

It knows the part of GitHub's language that ours use, and refuses the rest. What `uses:` names is not executed: what the
test gives stands for it, mostly copies of folders. Jobs run one after the other, those of a matrix at once.
Permissions, environments, concurrency and OIDC are GitHub's; tests look at what a workflow asks for.
"""

import itertools
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\$\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>\d+)|(?P<sign>&&|\|\||==|!=|!|\(|\)|,)|(?P<name>[\w.\-]+))"
)
_DEFAULT_SHELL = ["bash", "-e"]
_BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]


def load(path: Path) -> dict[str, Any]:
    """A workflow; YAML reads its key `on` as true."""
    found = yaml.safe_load(path.read_text())
    return {"on" if key is True else key: value for key, value in found.items()}


class Expression:
    """One of GitHub's expressions, evaluated as it is read."""

    def __init__(self, text: str, contexts: Mapping[str, Any], failed: bool = False) -> None:  # noqa: FBT002 - a test's
        self.tokens = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"{text!r} cannot be read at {at}")
            self.tokens.append((str(found.lastgroup), found[found.lastgroup]))
            at = found.end()
        self.contexts = contexts
        self.failed = failed
        self.asks_for_status = False

    @property
    def value(self) -> Any:
        found = self.either()
        if self.tokens:
            raise ValueError(f"{self.tokens} is left over")
        return found

    def take(self, *signs: str) -> str | None:
        if self.tokens and self.tokens[0][0] == "sign" and self.tokens[0][1] in signs:
            return self.tokens.pop(0)[1]
        return None

    def either(self) -> Any:
        left = self.both()
        while self.take("||"):
            right = self.both()
            left = left or right
        return left

    def both(self) -> Any:
        left = self.compared()
        while self.take("&&"):
            right = self.compared()
            left = left and right
        return left

    def compared(self) -> Any:
        left = self.single()
        sign = self.take("==", "!=")
        if sign is None:
            return left
        return (left == self.single()) is (sign == "==")

    def single(self) -> Any:  # noqa: PLR0911 - one for each kind
        if self.take("!"):
            return not self.single()
        if self.take("("):
            found = self.either()
            assert self.take(")")
            return found
        kind, text = self.tokens.pop(0)
        if kind == "text":
            return text[1:-1].replace("''", "'")
        if kind == "number":
            return int(text)
        if self.take("("):
            return self.called(text)
        if text in {"true", "false"}:
            return text == "true"
        found: Any = self.contexts
        for part in text.split("."):
            found = found.get(part, "") if isinstance(found, Mapping) else ""
        return found

    def called(self, name: str) -> Any:
        arguments = []
        while not self.take(")"):
            arguments.append(self.either())
            self.take(",")
        if name == "fromJSON":
            return json.loads(arguments[0])
        status = {"always": True, "failure": self.failed, "success": not self.failed}
        self.asks_for_status = True
        return status[name]


def filled(value: Any, contexts: Mapping[str, Any]) -> Any:
    """A value of the workflow with its expressions filled in."""
    if isinstance(value, dict):
        return {key: filled(one, contexts) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, contexts) for one in value]
    if not isinstance(value, str):
        return value
    whole = _EXPRESSION.fullmatch(value.strip())
    if whole:
        return Expression(whole[1], contexts).value
    return _EXPRESSION.sub(lambda found: _said(Expression(found[1], contexts).value), value)


def holds(condition: Any, contexts: Mapping[str, Any], *, failed: bool) -> bool:
    """Whether an `if:` holds; one that does not ask for the status asks that nothing has failed."""
    if condition is None:
        return not failed
    text = str(condition).strip()
    whole = _EXPRESSION.fullmatch(text)
    expression = Expression(whole[1] if whole else text, contexts, failed)
    found = bool(expression.value)
    return found and (expression.asks_for_status or not failed)


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(slots=True)
class Ran:
    """What became of a job.

    Attributes
    ----------
    result
        success, failure or skipped.
    summary, outputs, log
        Its Markdown, its outputs, and what its steps printed.
    steps
        The outcome of each step by its name or what it uses.
    """

    result: str = "success"
    summary: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""
    steps: dict[str, str] = field(default_factory=dict)


type Action = Callable[[dict[str, Any], "Job"], None]
"""Stands for what `uses:` names: takes what stands in `with:`, and the job."""


@dataclass(slots=True)
class Job:
    """One job while it runs."""

    workspace: Path
    environment: dict[str, str]
    contexts: dict[str, Any]
    path: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Runner:
    """Runs workflows.

    Attributes
    ----------
    folder
        Where jobs get their folders.
    actions
        What stands for `uses:`, by what stands before the `@`.
    environment
        What steps get besides.
    """

    folder: Path
    actions: Mapping[str, Action]
    environment: Mapping[str, str]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(self, workflow: Path, *, inputs: Mapping[str, Any], github: Mapping[str, Any]) -> dict[str, Ran]:
        """Run a workflow that is called; what became of every job, those of a matrix by `name (index)`."""
        told = load(workflow)
        asked = told["on"]["workflow_call"]["inputs"]
        unknown = inputs.keys() - asked.keys()
        assert not unknown, unknown
        missing = [name for name, one in asked.items() if one.get("required") and name not in inputs]
        assert not missing, missing
        given = {name: one.get("default", "") for name, one in asked.items()} | dict(inputs)
        contexts = {"inputs": given, "github": github, "needs": {}, "env": {}}
        found: dict[str, Ran] = {}
        for name, job in told["jobs"].items():
            needed = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
            if any(contexts["needs"][one]["result"] != "success" for one in needed) or not holds(
                job.get("if"), contexts, failed=False
            ):
                found[name] = Ran("skipped")
                contexts["needs"][name] = {"result": "skipped", "outputs": {}}
                continue
            matrix = filled(job.get("strategy", {}).get("matrix", {}), contexts)
            all_values = list(itertools.product(*matrix.values()))
            with ThreadPoolExecutor(len(all_values)) as pool:  # a matrix is as wide as there are runners
                each = [contexts | {"matrix": dict(zip(matrix, values, strict=True))} for values in all_values]
                ran = list(pool.map(partial(self.job, job, shell=told.get("defaults", {}).get("run", {})), each))
            result = "success" if all(one.result == "success" for one in ran) else "failure"
            contexts["needs"][name] = {"result": result, "outputs": ran[-1].outputs}
            found |= {name if len(ran) == 1 else f"{name} ({index})": one for index, one in enumerate(ran)}
        return found

    def job(self, job: Mapping[str, Any], contexts: dict[str, Any], shell: Mapping[str, str]) -> Ran:
        """Run the steps of one job."""
        home = self.folder / f"job-{next(self.numbers)}"
        workspace, temporary = home / "work", home / "temp"
        workspace.mkdir(parents=True)
        temporary.mkdir()
        files = {name: home / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH")}
        environment = {name: str(path) for name, path in files.items()}
        environment |= {"RUNNER_TEMP": str(temporary), "GITHUB_WORKSPACE": str(workspace), "HOME": str(home)}
        environment |= self.environment
        state = Job(workspace, environment, contexts | {"steps": {}, "runner": {"temp": str(temporary)}})
        ran, failed = Ran(), False
        for step in job["steps"]:
            name = step.get("name") or step.get("uses") or step["run"]
            if not holds(step.get("if"), state.contexts, failed=failed):
                ran.steps[name] = "skipped"
                self.note(step, state, "skipped", {})
                continue
            for path in files.values():
                if path.name != "GITHUB_STEP_SUMMARY":
                    path.write_text("")
            files["GITHUB_STEP_SUMMARY"].touch()
            done, printed = self.step(shell | step, state)
            ran.log += printed
            ran.steps[name] = "success" if done else "failure"
            failed = failed or not done
            self.note(step, state, ran.steps[name], _pairs(files["GITHUB_OUTPUT"]))
            state.environment |= _pairs(files["GITHUB_ENV"])
            state.path = [*files["GITHUB_PATH"].read_text().split(), *state.path]
        ran.result = "failure" if failed else "success"
        ran.summary = files["GITHUB_STEP_SUMMARY"].read_text() if files["GITHUB_STEP_SUMMARY"].exists() else ""
        ran.outputs = {name: _said(filled(one, state.contexts)) for name, one in job.get("outputs", {}).items()}
        return ran

    @staticmethod
    def note(step: Mapping[str, Any], state: Job, outcome: str, outputs: dict[str, str]) -> None:
        if "id" in step:
            state.contexts["steps"][step["id"]] = {"outcome": outcome, "outputs": outputs}

    def step(self, step: Mapping[str, Any], state: Job) -> tuple[bool, str]:
        """Run one step; whether it succeeded, and what it printed."""
        if "uses" in step:
            self.actions[step["uses"].split("@")[0]](filled(step.get("with", {}), state.contexts), state)
            return True, ""
        assert "${{" not in step["run"], "a template in a script"
        own = {name: _said(one) for name, one in filled(step.get("env", {}), state.contexts).items()}
        environment = state.environment | own
        environment["PATH"] = os.pathsep.join([*state.path, environment["PATH"]])
        shell = _BASH if step.get("shell") == "bash" else _DEFAULT_SHELL
        script = state.workspace.parent / "script.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            [*shell, str(script)],
            cwd=state.workspace,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        return done.returncode == 0, done.stdout + done.stderr


def _pairs(path: Path) -> dict[str, str]:
    """What a step put into GITHUB_OUTPUT or GITHUB_ENV; values of several lines are not used here."""
    lines = path.read_text().splitlines()
    assert all("=" in line and "<<" not in line for line in lines), lines
    return dict(line.split("=", 1) for line in lines)
