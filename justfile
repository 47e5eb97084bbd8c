# The same commands that CI runs. `uv run just` lists them.

_list:
    @just --list --unsorted

# Lint, types and import contracts.
check:
    uv run ruff format --check
    uv run ruff check
    uv run mypy
    uv run lint-imports

# Every test.
test *ARGS:
    uv run pytest {{ARGS}}

# The tests that take less than a few seconds each.
quick *ARGS:
    uv run pytest -m "not slow" {{ARGS}}

# The tests against the built wheel, in an environment that has nothing of this checkout.
wheel:
    .ci/wheel

# Measure everything, and write docs/benchmarks.md.
bench *ARGS:
    uv run python tests/benchmarks/run.py --out docs/benchmarks.md {{ARGS}}

# Mend what can be mended by a machine.
fix:
    uv run ruff check --fix
    uv run ruff format

# Kill and overtake clients at every request that they make, one after the other.
exhaustive:
    uv run pytest tests/faults --every 1

# Kill clients and workers at random, and see every run published whole. A failing round is repeated with its seed.
chaos rounds="200" seed="":
    uv run python -m tests.faults.chaos --rounds {{rounds}} {{ if seed == "" { "" } else { "--seed " + seed } }}
