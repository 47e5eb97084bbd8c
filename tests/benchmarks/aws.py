"""What a run asks of AWS, and that it loses no call where Lambda throttles: on the local AWS of the tests."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import frazil
from harness import Bench, Row

TOP = Path(__file__).parents[2]
MEMORY = 1024
IMPORTS = (
    "import time; began = time.perf_counter(); import frazil_functions.handler; print(time.perf_counter() - began)"
)


def measure(bench: Bench) -> list[Row]:
    """Four rows; one where the local AWS cannot be started."""
    if str(TOP) not in sys.path:
        sys.path.append(str(TOP))  # the local AWS is a part of the tests
    from tests.aws.policies import missing  # noqa: PLC0415 - as said

    if why := missing():
        print(why, file=sys.stderr)
        return [_imports(bench)]
    with _client() as aws:
        return [*_requests(bench, aws), _throttled(bench, aws), _imports(bench)]


@contextmanager
def _client() -> Iterator[Any]:
    """A local AWS, and this process in the client's role."""
    from tests.aws.local import redirect, started  # noqa: PLC0415 - see `measure`

    before = dict(os.environ)
    with started() as aws:
        os.environ.update(aws.environment("client"))
        redirect()
        try:
            yield aws
        finally:
            os.environ.clear()
            os.environ.update(before)


def _requests(bench: Bench, aws: Any) -> list[Row]:
    from tests.aws.plans import plan_of  # noqa: PLC0415 - see `measure`
    from tests.aws.sources import upload  # noqa: PLC0415 - the same

    hours = bench.size(48, 8)
    found = []
    sources, _ = upload(aws, bench.directory, 1, hours)
    for step in (4, 1):
        aws.empty()
        aws.function(MEMORY, concurrency=2)
        plan = plan_of(sources, aws.repository, 2, hours=step)
        aws.reset()
        with frazil.LithopsExecutor(backend="aws_lambda", config=aws.lithops_config(MEMORY), workers=2) as executor:
            frazil.run(plan, executor=executor, verify="none")
        aws.settled()
        found.append((plan.region_count, aws.requests("worker").total(), aws.requests("client")))
    (few, some, _), (many, more, client) = found
    each = (more - some) / (many - few)
    constant = (more - each * many) / 3  # one more call asks for the function's versions
    others = sum(count for name, count in client.items() if not name.startswith("s3:") and name != "lambda:Invoke")
    return [
        Row(
            number="requests of S3 for each chunk that is written",
            target="at most 1.2, and a constant for each task",
            measured=f"{each:.2f}",
            met=each <= 1.2,
            medians=f"{constant:.1f} for each task besides, its source included",
            spread=f"{some} for {few} chunks, {more} for {many}",
            how="two tasks through Lithops on the local AWS, as its server counts what functions ask for; runs with "
            "few and with many chunks of the same values",
        ),
        Row(
            number="calls of control planes in a run, by the client",
            target="0",
            measured=f"{others}",
            met=others == 0,
            medians=f"{client['lambda:Invoke']} invocations of 2 tasks",
            spread="the same in both runs",
            how="in the same runs: all that is neither S3 nor lambda:Invoke, such as Get, List and Create of Lambda, "
            "IAM, ECR and STS",
        ),
    ]


def _throttled(bench: Bench, aws: Any) -> Row:
    from tests.aws.local import Behaviour  # noqa: PLC0415 - see `measure`
    from tests.aws.plans import plan_of  # noqa: PLC0415 - the same
    from tests.aws.sources import upload  # noqa: PLC0415 - the same

    tasks = bench.size(1000, 10)
    aws.empty()
    aws.reset()
    sources, _ = upload(aws, bench.directory, 1, tasks)
    plan = plan_of(sources, aws.repository, tasks)
    behaviour = Behaviour(queue=bench.size(16, 2), throttle_every=5)
    function = aws.function(MEMORY, concurrency=bench.size(4, 1), behaviour=behaviour)
    began = time.perf_counter()
    with frazil.LithopsExecutor(backend="aws_lambda", config=aws.lithops_config(MEMORY), workers=tasks) as executor:
        result = frazil.run(plan, executor=executor, verify="none", retry=frazil.Retry(backups=False))
    seconds = time.perf_counter() - began
    outcomes = Counter(one.outcome for one in aws.settled(600).invocations(function))
    return Row(
        number=f"{tasks:,} tasks where Lambda throttles",
        target="no call lost",
        measured=f"{outcomes['succeeded']:,} calls succeeded",
        met=outcomes["succeeded"] - 1 == tasks == result.regions and set(outcomes) == {"succeeded", "throttled"},
        medians=f"one of them asks for versions; {outcomes['throttled']:,} invocations throttled; {seconds:.0f} s",
        spread="one run",
        how="each task a chunk of 131 kB, four environments, sixteen events that may wait, and every fifth invocation "
        "refused with 429 besides; all calls are invoked at once",
    )


def _imports(bench: Bench) -> Row:
    found = sorted(
        float(subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True).stdout)
        for _ in range(bench.repeats + 1)
    )[: bench.repeats]  # the first may compile
    median = found[len(found) // 2]
    return Row(
        number="import of what functions need",
        target="under 1 s, byte-compiled",
        measured=f"{median:.2f} s",
        met=median < 1,
        medians=f"{median:.2f} s",
        spread=f"{found[0]:.2f} to {found[-1]:.2f} s",
        how="`frazil_functions.handler` in a fresh interpreter",
    )
