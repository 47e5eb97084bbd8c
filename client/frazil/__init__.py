"""Parallel, atomic writes into Icechunk from serverless functions."""

from frazil.collecting import gc
from frazil.execute import Retry
from frazil.execution.executor import Calls, Executor, Outcome
from frazil.execution.lithops import LithopsExecutor
from frazil.execution.serial import SerialExecutor
from frazil.job import convert, plan
from frazil.report import Progress, Result
from frazil.running import resume, run, runs
from frazil.staged.arrays import store_dask
from frazil.staged.writer import DatasetWriter, to_icechunk
from frazil_functions import __version__ as __version__
from frazil_functions.errors import (
    BackendError,
    ConflictError,
    ExistingGroupError,
    FrazilError,
    IncompleteRunError,
    InvalidInputError,
    LabelError,
    MismatchedSourceError,
    ReceiptError,
    SourceError,
    UnalignedRegionError,
    UnreachableSourceError,
    VerificationError,
    VersionError,
)
from frazil_functions.plan import Plan
from frazil_functions.repositories import open_repository
from frazil_functions.runs.garbage import Collected
from frazil_functions.runs.status import RunStatus

__all__ = [
    "BackendError",
    "Calls",
    "Collected",
    "ConflictError",
    "DatasetWriter",
    "Executor",
    "ExistingGroupError",
    "FrazilError",
    "IncompleteRunError",
    "InvalidInputError",
    "LabelError",
    "LithopsExecutor",
    "MismatchedSourceError",
    "Outcome",
    "Plan",
    "Progress",
    "ReceiptError",
    "Result",
    "Retry",
    "RunStatus",
    "SerialExecutor",
    "SourceError",
    "UnalignedRegionError",
    "UnreachableSourceError",
    "VerificationError",
    "VersionError",
    "convert",
    "gc",
    "open_repository",
    "plan",
    "resume",
    "run",
    "runs",
    "store_dask",
    "to_icechunk",
]
