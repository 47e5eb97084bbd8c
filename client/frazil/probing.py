"""Probing: one region of a plan, read and encoded where functions run, to know how fast they are."""

import logging
import time
from bisect import bisect_left
from itertools import accumulate

from frazil.costing.memory import check_memory, nbytes_of
from frazil.costing.rates import Probe
from frazil.costing.requests import units_of
from frazil.execution.executor import Executor
from frazil.execution.results import results
from frazil.running import using
from frazil_functions import handler
from frazil_functions.errors import InvalidInputError
from frazil_functions.plan import Plan, sources_of
from frazil_functions.regions import Region
from frazil_functions.runs.probing import ProbeTask, load_probed

logger = logging.getLogger(__name__)


def probe(plan: Plan, executor: Executor | None = None) -> Probe:
    """Measure how fast functions are, with one region of a plan: the one that the value in the middle lies in.

    A function reads it and encodes it into its own memory. Nothing is stored, and nothing is published.

    Parameters
    ----------
    plan
        A plan to write files.
    executor
        Where functions run; Lithops as it is configured by default.

    Returns
    -------
    Probe
        What to give to `frazil.estimate`.

    Raises
    ------
    InvalidInputError
        If the plan writes nothing, or a dataset that lies in no files, or a function has too little memory.
    SourceError
        If a file cannot be read.
    BackendError
        If functions cannot be called.
    """
    if any(source.travels for source in plan.sources):
        raise InvalidInputError(
            "the plan writes a dataset that lies in no files, which is not probed; estimate without"
        )
    region = _typical(plan)
    inner = region.within(plan.template.extents)
    spans = [(source.start, source.stop) for source in plan.sources]
    sources = plan.sources[slice(*sources_of([region], plan.template.append_dim, spans))]
    task = ProbeTask(plan.template.append_dim, sources, inner, plan.template.arrays[region.array], plan.versions)
    with using(executor) as calls:
        limits = calls.limits()
        check_memory(plan, limits)
        began = time.perf_counter()
        ((_, data),) = results(calls, handler.probe, [task])
        seconds = time.perf_counter() - began
    probed = load_probed(data)
    units = units_of(plan, region)
    processors = float(probed.processors) if limits is None else limits.processors
    found = Probe(
        region=str(region),
        nbytes=probed.nbytes,
        stored_bytes=probed.stored_bytes,
        files=len(sources),
        units=units,
        start_seconds=max(0.0, seconds - probed.seconds),
        read_seconds=probed.read_seconds,
        write_seconds=probed.write_seconds,
        peak_memory_bytes=probed.peak_memory_bytes,
        # One unit is encoded on one processor.
        processors=min(processors, max(1.0, float(units))),
    )
    logger.info(
        "probed %s: read in %.2f s, encoded in %.2f s, stored as %.2f of its size",
        found.region,
        found.read_seconds,
        found.write_seconds,
        found.ratio,
        extra={"event": "probed", "bytes": found.nbytes, "peak_memory_bytes": found.peak_memory_bytes},
    )
    return found


def _typical(plan: Plan) -> Region:
    """The region in the middle: half of all values lie in regions that are not larger."""
    copied = (region for region in plan.regions if region.array not in plan.referring)
    regions = sorted(copied, key=lambda region: nbytes_of(plan, region))
    if not regions:
        raise InvalidInputError("the plan copies no values, and nothing else could be probed")
    behind = list(accumulate(nbytes_of(plan, region) for region in regions))
    return regions[bisect_left(behind, behind[-1] / 2)]
