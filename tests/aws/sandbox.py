"""How a program sees the file system as Lambda shows it: everything read-only but /tmp, and nothing for shared memory.

It takes a mount namespace of an unprivileged user, which the kernel may not grant; see `available`.
"""

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

# $1 is the directory that becomes /tmp; what follows the dashes is the program. What lies below the real /tmp and is
# needed has been given a place in it before, for the real one is out of sight afterwards.
_SCRIPT = """
set -e
own=$1; shift
while [ "$1" != -- ]; do
    mkdir -p "$own/${1#/tmp/}"
    mount --rbind "$1" "$own/${1#/tmp/}"
    shift
done
shift
mount --rbind "$own" /tmp
if [ -d /dev/shm ]; then mount -t tmpfs -o ro,size=4k none /dev/shm; fi
mount -o remount,ro,bind /
{others}
cd /
exec "$@"
"""


def confined(command: Sequence[str], own: Path, needed: Sequence[Path] = ()) -> list[str]:
    """A command that runs another one with `own` as its /tmp, and all else read-only.

    Parameters
    ----------
    needed
        Directories that the program reads; they matter if they are below /tmp.
    """
    below = [str(one) for one in needed if one.is_relative_to("/tmp")]  # noqa: S108 - what is asked is where it is
    others = "\n".join(
        [
            *(f"mount -o remount,ro,bind {shlex.quote(one)} 2>/dev/null || true" for one in _writable_mounts()),
            *(f"mount -o remount,ro,bind {shlex.quote(one)}" for one in below),
        ]
    )
    script = _SCRIPT.replace("{others}", others)
    return [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        str(own),
        *below,
        "--",
        *command,
    ]


def _writable_mounts() -> list[str]:
    """File systems of disks besides the root's."""
    table = Path("/proc/self/mounts").read_text().splitlines()
    found = [line.split()[1] for line in table if line.startswith("/dev/") and line.split()[3].startswith("rw")]
    return sorted({one for one in found if one not in {"/", "/tmp"}})  # noqa: S108


@cache
def available() -> bool:
    """Whether this machine can do that."""
    if shutil.which("unshare") is None or not Path("/proc/self/mounts").exists():
        return False
    with tempfile.TemporaryDirectory() as own:
        tried = "touch /tmp/here && ! touch /gone 2>/dev/null"
        done = subprocess.run(confined(["sh", "-c", tried], Path(own)), capture_output=True, check=False, timeout=30)
        return done.returncode == 0 and Path(own, "here").exists()
