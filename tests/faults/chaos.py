"""Rounds of random kills: whatever dies whenever, resuming publishes the whole, once, and leaves nothing behind.

    uv run python -m tests.faults.chaos --rounds 200 --seed 1
    uv run python -m tests.faults.chaos --rounds 1 --first 37 --seed 1     # the 37th of these again

A round's seed says its sizes, its workers, its victims and its moments. The moments are in seconds, so a round that is
repeated is the same job under the same kills, and not the same race.
"""

import argparse
import contextlib
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import boto3
import icechunk
from moto.server import ThreadedMotoServer

from .datasets import Noise, conversion
from .processes import Program
from .proxy import Answer, Cut, Fault, Proxy, Rule, Slow

RESUMES = 8
"""How often a run is resumed at most: three kills, and what they leave for others to trip over."""

DEADLINE = 120.0
"""Seconds after which a client that has not ended counts as hung."""

type Victim = Literal["client", "worker", "everything", "nobody"]


@dataclass(frozen=True, slots=True)
class Kill:
    """Who dies, and how many seconds after the client has begun."""

    victim: Victim
    after: float


@dataclass(frozen=True, slots=True)
class Round:
    """What one round does; made from its seed alone."""

    number: int
    noise: Noise
    tasks: int
    workers: int
    remote: bool
    kills: tuple[Kill, ...]
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int, number: int) -> "Round":
        """The round of a number."""
        chance = random.Random(f"{seed}/{number}")  # noqa: S311 - chance that can be repeated
        workers = chance.choice([0, 0, 1, 2, 3])
        remote = number % 5 == 4
        longest = 0.8 if workers == 0 else 5.0
        victims: list[Victim] = ["client", "client", "worker", "everything", "nobody"]
        faults: list[Fault] = [Answer(503), Cut.before, Cut.after, Cut.within, Slow(0.3)]
        return cls(
            number,
            Noise(chance.randint(1, 6), chance.randint(1, 9), chance.choice([40, 300, 3000]), seed=number),
            chance.randint(1, 6),
            workers,
            remote,
            tuple(Kill(chance.choice(victims), chance.uniform(0.0, longest)) for _ in range(chance.randint(0, 3))),
            tuple(chance.sample(faults, chance.randint(0, 2))) if remote else (),
        )

    def __str__(self) -> str:
        kills = ", ".join(f"{kill.victim} at {kill.after:.2f} s" for kill in self.kills) or "nobody dies"
        where = f"S3 with {list(map(str, self.faults))}" if self.remote else "disk"
        size = f"{self.noise.files} x {self.noise.hours} h x {self.noise.width}"
        return f"{size}, {self.tasks} tasks, {self.workers or 'no'} workers, {where}: {kills}"


@dataclass(slots=True)
class Story:
    """What happened in a round."""

    clients: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


def play(one: Round, folder: Path, proxy: Proxy | None, bucket: str) -> Story:
    """Run, kill, resume until it is published; look at everything.

    Raises
    ------
    AssertionError
        If anything is not as it should be.
    """
    story = Story()
    target = f"s3://{bucket}/round-{one.number}" if one.remote else str(folder / "archive")
    job = conversion(one.noise, target, folder, tasks=one.tasks)
    kills = list(one.kills)
    rules = [Rule(fault, target=f"round-{one.number}", skip=7, times=3) for fault in one.faults]
    published = False
    while not published:
        assert story.clients < RESUMES, f"not published after {story.clients} clients: {story.errors}"
        do: Literal["run", "resume"] = "run" if job.directory.record() is None else "resume"
        with contextlib.ExitStack() as faults:
            if proxy is not None:
                for rule in rules:
                    faults.enter_context(proxy.injected(rule))
            published = _attempt(
                job.client(do, workers=one.workers), kills.pop(0) if kills else Kill("nobody", 0), story
            )
        job.assert_old_or_whole()
    job.assert_published()
    return story


def _attempt(program: Program, kill: Kill, story: Story) -> bool:
    """One client's life; whether it published."""
    story.clients += 1
    with program as client:
        _strike(client, kill, story)
        ended = client.wait(DEADLINE)
        if ended.code == 0:
            said = ended.lines[-1]
            client.assert_none_left()
        else:
            said = {"error": "killed", "says": f"exit code {ended.code}"}
            assert ended.code < 0, ended.errors
    if "published" in said:
        return True
    story.errors.append(f"{said['error']}: {said['says'][:300]}")
    return False


def _strike(client: Program, kill: Kill, story: Story) -> None:
    """Wait for the moment, and kill."""
    if kill.victim == "nobody":
        return
    client.line(DEADLINE)  # it has read its order
    until = time.monotonic() + kill.after
    while time.monotonic() < until and client.code is None:
        time.sleep(0.01)
    if client.code is not None:
        return
    workers = client.children()
    match kill.victim:
        case "client":
            with contextlib.suppress(ProcessLookupError):
                os.kill(client.pid, 9)
        case "worker":
            if not workers:
                return
            workers[len(workers) // 2].kill()
        case _:
            client.kill()
    story.struck[kill.victim] += 1


@contextlib.contextmanager
def s3() -> Iterator[tuple[Proxy, str]]:
    """A server, a proxy before it, and a bucket; this process's environment leads there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    with Proxy(url) as proxy:
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": proxy.url,
            "AWS_ALLOW_HTTP": "true",
        }
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="chaos")
        yield proxy, "chaos"
    server.stop()


def say(text: str) -> None:
    """Tell it now, to whoever waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Play rounds, say what happened, and stop at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--first", type=int, default=0, help="the number of the first round")
    order = parser.parse_args()
    icechunk.set_logs_filter("icechunk=error")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    say(f"seed {order.seed}")
    began, struck, clients = time.monotonic(), Counter[str](), 0
    with s3() as (proxy, bucket):
        for number in range(order.first, order.first + order.rounds):
            one = Round.of(order.seed, number)
            say(f"{number:4} {one}")
            folder = Path(tempfile.mkdtemp(prefix="frazil-chaos-"))
            try:
                story = play(one, folder, proxy if one.remote else None, bucket)
            except AssertionError as error:
                say(f"FAILED: {error}\nkept in {folder}; again: --seed {order.seed} --first {number} --rounds 1")
                return 1
            shutil.rmtree(folder)
            struck += story.struck
            clients += story.clients
            say(f"     published by client {story.clients}; killed {dict(story.struck)}; {story.errors}")
    seconds = time.monotonic() - began
    say(f"{order.rounds} rounds, {clients} clients, killed {dict(struck)}, {seconds:.0f} s: all published whole")
    return 0


if __name__ == "__main__":
    sys.exit(main())
