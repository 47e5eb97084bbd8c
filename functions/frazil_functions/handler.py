"""Entry points: what a backend calls by name, one for each kind of task, and one for plain JSON events.

What goes back to the client is bytes, which it reads as data; it constructs nothing else from them.
"""

import json
import logging
from dataclasses import replace
from typing import Any

import icechunk

from frazil_functions.errors import FrazilError, InvalidInputError
from frazil_functions.events import Answer, answer
from frazil_functions.logs import captured
from frazil_functions.reading.scanning import ScanTask, dump_scan, scan_task
from frazil_functions.runs.probing import ProbeTask, dump_probed, probe_task
from frazil_functions.tasks import WriteTask, dump_written
from frazil_functions.validating.task import validate_task
from frazil_functions.validating.tasks import ValidateTask, dump_part_checks
from frazil_functions.writing.slices import SliceTask, dump_slices_written
from frazil_functions.writing.slices import write_slices as compute_and_write
from frazil_functions.writing.surveying import SurveyTask, dump_found, survey_task
from frazil_functions.writing.task import write_task
from frazil_functions.writing.verifying import VerifyTask, dump_checks, verify_task

logger = logging.getLogger(__name__)


def scan(task: ScanTask) -> bytes:
    """Read the metadata of the task's files."""
    return dump_scan(scan_task(task))


def write(task: WriteTask) -> bytes:
    """Write the task's regions; return what it put into the run directory, and what it logged if that is asked for."""
    with captured(task.log) as log:
        written = write_task(task)
    return dump_written(replace(written, log=log.log()))


def write_slices(task: SliceTask) -> bytes:
    """Compute and write the task's slices; return the fork that refers to them."""
    return dump_slices_written(compute_and_write(task))


def survey(task: SurveyTask) -> bytes:
    """Look at the values of the task's regions; return what was found."""
    return dump_found(survey_task(task))


def probe(task: ProbeTask) -> bytes:
    """Read and encode the task's region; return what that took."""
    return dump_probed(probe_task(task))


def verify(task: VerifyTask) -> bytes:
    """Read the task's regions back; return their checksums."""
    return dump_checks(verify_task(task))


def validate(task: ValidateTask) -> bytes:
    """Look at the task's parts of what a repository stores; return what was found."""
    return dump_part_checks(validate_task(task))


def handle(event: object, context: object = None) -> Answer:  # noqa: ARG001 - Lambda passes it
    """Answer a plain event, as Lambda and others pass it; see `frazil_functions.events` for what it says.

    An event of EventBridge is answered by what its `detail` says, and one of SQS by what each message says: messages
    that failed are named in the answer, so that the queue gives these alone out again (ReportBatchItemFailures).
    A message may hold an event of EventBridge.

    Raises
    ------
    FrazilError
        As `frazil_functions.events.answer` does; Lambda reports it to who invoked it.
    """
    match event:
        case {"Records": [*records]}:
            return _answer_records(records)
        case _:
            return answer(_meant(event))


def _meant(event: object) -> object:
    """The event, out of EventBridge's envelope if it is in one."""
    match event:
        case {"detail": dict(detail), "detail-type": _}:
            return detail
        case _:
            return event


def _answer_records(records: list[Any]) -> Answer:
    failed = []
    for record in records:
        match record:
            case {"messageId": str(name), "body": str(body)}:
                pass
            case _:
                raise InvalidInputError("these records are not those of SQS, which have a messageId and a body each")
        try:
            answer(_meant(_parsed(body)))
        except (FrazilError, icechunk.IcechunkError, OSError):  # the other messages know nothing of it
            logger.exception("the message %s failed", name)
            failed.append({"itemIdentifier": name})
    return {"batchItemFailures": failed}


def _parsed(body: str) -> object:
    try:
        return json.loads(body)
    except ValueError as error:
        raise InvalidInputError(f"the event is not JSON: {error}") from error
