"""One run as every driver sees it: its directory, its record, its plan, its repositories; and the tasks it has."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Protocol

import icechunk

from frazil_functions import versions
from frazil_functions.declaring import authorised
from frazil_functions.errors import IncompleteRunError, InvalidInputError
from frazil_functions.forks import node_id, read_fork
from frazil_functions.plan import Plan
from frazil_functions.reading.encoding import Values
from frazil_functions.reading.references import reference_url
from frazil_functions.regions import Region
from frazil_functions.repositories import open_repository
from frazil_functions.rundir import RunDirectory, RunRecord, RunTarget
from frazil_functions.runs.admit import Expected, ExpectedFork
from frazil_functions.runs.gather import Gathering, Sink
from frazil_functions.runs.publish import PrivateBranch, run_of
from frazil_functions.tasks import Carried, WriteTask

FLUSH_SECONDS: Final = 2.0
"""When a task puts its first receipt; the following ones come after twice as long each."""


class Carrier(Protocol):
    """Who has the dataset that a plan was made from."""

    @property
    def heavy(self) -> bool:
        """Whether not all that it carries should be on its way at once."""
        ...

    def static(self) -> Mapping[str, Values]:
        """The values of the template's static arrays."""
        ...

    def carry(self, regions: Sequence[Region]) -> Carried:
        """What it takes to compute some regions, each within the extents of the template."""
        ...


@dataclass(frozen=True)
class Run:
    """A run that has started.

    Attributes
    ----------
    directory, record, plan
        Where it lives, what it says of itself, and what it does.
    repos
        The repositories that it publishes to, the primary last.
    carrier
        Who has the dataset that its values are taken from, where they lie in no files.
    """

    directory: RunDirectory
    record: RunRecord
    plan: Plan
    repos: tuple[icechunk.Repository, ...]
    carrier: Carrier | None = None

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.record.run_id

    @cached_property
    def forks(self) -> tuple[bytes, ...]:
        """The clean fork of every repository, as every task gets it."""
        return tuple(self.directory.fork(target.fork) for target in self.record.targets)

    @cached_property
    def expected(self) -> Expected:
        """What receipts must agree with."""
        return Expected(
            run_id=self.run_id,
            plan_hash=self.record.plan_hash,
            forks=tuple(
                ExpectedFork(
                    target.snapshot,
                    read_fork(fork),
                    nodes_of(repo.readonly_session(snapshot_id=target.snapshot), self.plan),
                )
                for repo, target, fork in zip(self.repos, self.record.targets, self.forks, strict=True)
            ),
            regions=frozenset(self.plan.regions),
            grids={grid.array: grid for grid in self.plan.grids},
            places=_places(self.plan),
            referring=frozenset(self.plan.layouts),
            group=self.plan.target.group,
        )

    @property
    def branches(self) -> tuple[PrivateBranch, ...]:
        """The private branch that the run started with, in every repository."""
        return tuple(
            PrivateBranch(repo, target.location, target.branch, self.plan.target.branch, target.base)
            for repo, target in zip(self.repos, self.record.targets, strict=True)
        )

    def gathering(self) -> Gathering:
        """Nothing yet; what comes is merged into sessions of the private branches, where these are as they were left.

        A branch that another driver has taken further has none: what it lacks is merged when the run is finished.
        """
        sinks = {}
        for at, (private, target) in enumerate(zip(self.branches, self.record.targets, strict=True)):
            try:
                session = private.repo.writable_session(private.name)
            except icechunk.NotFoundError:
                continue
            if session.snapshot_id == target.snapshot:
                sinks[at] = self._parted(private, target) if self.plan.parted else Sink(session, private=private)
        return Gathering(self.expected, sinks)

    def _parted(self, private: PrivateBranch, target: RunTarget) -> Sink:
        """A sink on a branch of its own: functions and other drivers need the first one as it is."""
        key, branch = run_of(private.name) or self.run_id, self.plan.target.branch
        own = PrivateBranch.make(private.repo, target.location, key, branch, target.snapshot)
        own = replace(own, base=target.base)
        return Sink(private.repo.writable_session(own.name), private=own, parted=True)

    def task(self, number: int, written: Collection[Region] = ()) -> WriteTask | None:
        """One task of the plan, less the regions that are written; None if nothing is left of it.

        Raises
        ------
        InvalidInputError
            If the plan has no such task.
        """
        tasks = self.plan.tasks
        if not 0 <= number < len(tasks):
            raise InvalidInputError(f"run {self.run_id} has the tasks 0 to {len(tasks) - 1}, and no task {number}")
        regions = tuple(region for region in tasks[number].regions if region not in written)
        if not regions:
            return None
        carried = None
        if any(source.travels for source in self.plan.sources):
            if self.carrier is None:
                raise InvalidInputError(
                    f"run {self.run_id} writes a dataset that lies in no files, so only who has it can go on with the "
                    "run: frazil.resume(repo, run_id, source=dataset)"
                )
            carried = self.carrier.carry([region.within(self.plan.template.extents) for region in regions])
        return WriteTask(
            carried=carried,
            run_id=self.run_id,
            plan_hash=self.record.plan_hash,
            number=number,
            group=self.plan.target.group,
            forks=self.forks,
            bases=tuple(target.snapshot for target in self.record.targets),
            append_dim=self.plan.template.append_dim,
            sources=self.plan.sources[slice(*tasks[number].sources)],
            regions=regions,
            memory_bytes=tasks[number].memory_bytes,
            run_directory=self.directory.location,
            versions=self.record.versions,
            extents=self.plan.template.extents,
            flush_seconds=FLUSH_SECONDS,
            missing=self.record.missing,
            layouts=self.plan.layouts,
        )


def open_run(directory: RunDirectory, repo: icechunk.Repository | None = None) -> Run:
    """A run that has started, from its directory.

    Parameters
    ----------
    directory
        Where it lives.
    repo
        The primary repository, where its location does not open it with the environment's credentials.

    Raises
    ------
    InvalidInputError
        If there is no such run, it has not started, or another version of frazil or icechunk made it.
    BackendError
        If its directory or its repositories cannot be reached.
    """
    record, data = directory.record(), directory.plan()
    if record is None or data is None:
        raise InvalidInputError(f"there is no run at {directory.location}, or it has not started yet")
    differs = versions.difference(record.versions)
    if differs:
        raise InvalidInputError(
            f"run {record.run_id} was started with other versions ({differs}), which may lay out plans and forks in "
            "another way; go on with those versions, or plan again"
        )
    same = hashlib.sha256(data).hexdigest() == record.plan_hash
    plan = Plan.from_json(data, proven=same)
    if plan.hash != record.plan_hash:
        raise IncompleteRunError(
            f"the plan in {directory.location} is not the one that run {record.run_id} was started with; plan again"
        )
    return Run(directory, record, plan, open_repositories(plan, repo))


def _places(plan: Plan) -> frozenset[str]:
    """The URLs that references of a plan may lead to."""
    if not plan.layouts:
        return frozenset()
    # The chunks of a Zarr hierarchy are objects of their own below it.
    return frozenset(
        reference_url(source.url).rstrip("/") + ("/" if source.engine == "zarr" else "") for source in plan.sources
    )


def open_repositories(plan: Plan, repo: icechunk.Repository | None) -> tuple[icechunk.Repository, ...]:
    """The plan's repositories, which exist, with access to the plan's containers authorised; the primary last.

    Raises
    ------
    InvalidInputError
        If the plan does not say how to open the primary and it is not given, or one does not exist, or does not declare
        one of the containers.
    """
    containers = plan.target.containers
    replicas = tuple(
        open_repository(replica.location, create=False, virtual_containers=containers)
        for replica in plan.target.replicas
    )
    if repo is None:
        if plan.target.location is None:
            raise InvalidInputError("the plan does not say how to open its repository; pass the open repository")
        repo = open_repository(plan.target.location, create=False, virtual_containers=containers)
    return (*replicas, authorised(repo, containers))


def nodes_of(session: icechunk.Session, plan: Plan) -> dict[bytes, str]:
    """Icechunk's ids of the arrays that functions write, as a snapshot has them, and their names."""
    group = plan.target.group
    paths = {grid.array: "/" + "/".join(part for part in (group, grid.array) if part) for grid in plan.grids}
    return {node_id(session.get_node_id(path)): name for name, path in paths.items()}
