"""Parallel, atomic writes into Icechunk from serverless functions."""

from frazil.advising.analysis import Analysis
from frazil.analyzing import analyze
from frazil.collecting import gc
from frazil.costing.estimate import Estimate
from frazil.costing.limits import FunctionLimits
from frazil.costing.rates import Probe
from frazil.estimating import estimate
from frazil.execute import Retry
from frazil.execution.executor import Calls, Executor, Outcome
from frazil.execution.here import HereExecutor
from frazil.execution.lithops import LithopsExecutor
from frazil.execution.serial import SerialExecutor
from frazil.filling.behind import append
from frazil.filling.made import TemplateResult
from frazil.filling.materialize import materialize
from frazil.filling.region import write_region
from frazil.filling.template import create_template
from frazil.job import convert, plan
from frazil.probing import probe
from frazil.report import Compared, Progress, Result
from frazil.running import resume, run, runs
from frazil.staged.arrays import store_dask
from frazil.staged.writer import DatasetWriter, to_icechunk
from frazil.validating.report import Fault, Validation
from frazil.validating.validate import validate
from frazil_functions import __version__ as __version__
from frazil_functions.containers import Container
from frazil_functions.declaring import declare
from frazil_functions.errors import (
    BackendError,
    ConflictError,
    ExistingGroupError,
    FrazilError,
    IncompleteRunError,
    InvalidInputError,
    LabelError,
    MismatchedSourceError,
    MissingDataError,
    OutOfRangeError,
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
    "Analysis",
    "BackendError",
    "Calls",
    "Collected",
    "Compared",
    "ConflictError",
    "Container",
    "DatasetWriter",
    "Estimate",
    "Executor",
    "ExistingGroupError",
    "Fault",
    "FrazilError",
    "FunctionLimits",
    "HereExecutor",
    "IncompleteRunError",
    "InvalidInputError",
    "LabelError",
    "LithopsExecutor",
    "MismatchedSourceError",
    "MissingDataError",
    "OutOfRangeError",
    "Outcome",
    "Plan",
    "Probe",
    "Progress",
    "ReceiptError",
    "Result",
    "Retry",
    "RunStatus",
    "SerialExecutor",
    "SourceError",
    "TemplateResult",
    "UnalignedRegionError",
    "UnreachableSourceError",
    "Validation",
    "VerificationError",
    "VersionError",
    "analyze",
    "append",
    "convert",
    "create_template",
    "declare",
    "estimate",
    "gc",
    "materialize",
    "open_repository",
    "plan",
    "probe",
    "resume",
    "run",
    "runs",
    "store_dask",
    "to_icechunk",
    "validate",
    "write_region",
]
