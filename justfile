# The same commands that CI runs. `uv run just` lists them.

_list:
    @just --list --unsorted

# Lint, types and import contracts.
check:
    uv run ruff format --check
    uv run ruff check
    uv run mypy
    uv run lint-imports
    .ci/workflows

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

# Check infra/ without an account: its form, policies, common mistakes, and its resources against the provider's schemas.
infra:
    infra/checks/run
    uv run pytest tests/infra/test_policy.py tests/infra/test_modules.py

# Build the site of the documentation into build/docs/site; a link that leads nowhere is an error.
docs:
    uv run python docs/site/build.py

# Build the image. Needs Docker or Podman.
image target="runtime" tag="frazil":
    docker build -f infra/runtime/Dockerfile --target {{target}} -t {{tag}} .

# Pack the function for plain events as a zip into build/, for where no image can be used.
package machine="x86_64":
    infra/runtime/package {{machine}}

# Mend what can be mended by a machine.
fix:
    uv run ruff check --fix
    uv run ruff format

# Kill and overtake clients at every request that they make, one after the other.
exhaustive:
    uv run pytest tests/faults --every 1

# Let processes write regions of one archive at once, and see that nothing is lost.
at-once rounds="50" seed="0":
    uv run python -m tests.faults.at_once --rounds {{rounds}} --seed {{seed}}

# Kill clients and workers at random, and see every run published whole. A failing round is repeated with its seed.
chaos rounds="200" seed="":
    uv run python -m tests.faults.chaos --rounds {{rounds}} {{ if seed == "" { "" } else { "--seed " + seed } }}

# Start a local AWS, on which `--backend aws_lambda` can be tried, and say how a shell finds it. Needs Terraform.
local-aws *ARGS:
    uv run python -m tests.aws {{ARGS}}
