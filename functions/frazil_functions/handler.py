"""Entry points: what a backend calls by name, one for each kind of task.

What goes back is bytes: the client reads them as data and constructs nothing else from them.
"""

from frazil_functions.reading.scanning import ScanTask, dump_scan, scan_task
from frazil_functions.tasks import WriteTask, dump_written
from frazil_functions.writing.task import write_task
from frazil_functions.writing.verifying import VerifyTask, dump_checks, verify_task


def scan(task: ScanTask) -> bytes:
    """Read the metadata of the task's files."""
    return dump_scan(scan_task(task))


def write(task: WriteTask) -> bytes:
    """Write the task's regions; return what it put into the run directory."""
    return dump_written(write_task(task))


def verify(task: VerifyTask) -> bytes:
    """Read the task's regions back; return their checksums."""
    return dump_checks(verify_task(task))
