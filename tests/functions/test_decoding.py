import subprocess
import sys

import pytest

LEARN = """
import dataclasses, sys, threading

from frazil_functions.decoding import convert, from_json, from_msgpack

sys.setswitchinterval(1e-6)


def new():
    made = int
    for _ in range(3):
        kind, missing = made if made is int else tuple[made, ...], dataclasses.field(default=None)
        made = dataclasses.make_dataclass("Made", [(f"a{number}", kind, missing) for number in range(10)])
    return made


DECODE = {
    "json": lambda kind: from_json(b'{"a9": [{"a9": [{"a9": 3}]}]}', kind),
    "msgpack": lambda kind: from_msgpack(b"\\x81\\xa2a9\\x91\\x81\\xa2a9\\x91\\x81\\xa2a9\\x03", kind),
    "plain": lambda kind: convert({"a9": [{"a9": [{"a9": 3}]}]}, kind),
}[sys.argv[1]]


for _ in range(100):
    kind, found, ready = new(), [], threading.Barrier(8)

    def decode():
        ready.wait()
        found.append(DECODE(kind).a9[0].a9[0].a9)

    threads = [threading.Thread(target=decode) for _ in range(8)]
    [one.start() for one in threads]
    [one.join() for one in threads]
    assert found == [3] * 8, found
"""


@pytest.mark.parametrize("form", ["json", "msgpack", "plain"])
def test_threads_may_decode_a_type_for_the_first_time_at_once(form: str) -> None:
    ended = subprocess.run([sys.executable, "-c", LEARN, form], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
