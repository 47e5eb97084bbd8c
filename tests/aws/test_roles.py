"""Each role does its part and is refused everything else, by the policies that Terraform renders.

What a role may and may not is tried with boto3, Icechunk and Frazil themselves. That nothing more is in its policy than
its part takes is shown by taking the statements out, one after the other.
"""

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
import zarr

import frazil
from frazil.cli import main
from frazil_functions import handler
from frazil_functions.locations import locate
from frazil_functions.runs.run import Run
from frazil_functions.runs.start import directory_of, start

from . import names
from .acting import Acting, Call, tried
from .local import LocalAws
from .sources import upload

DATA, STAGING, RAW, ELSEWHERE = names.DATA, names.STAGING, names.RAW, "frazil-elsewhere"
MEMORY = names.MEMORY_SIZES[0]
FUNCTION = names.function_name(MEMORY)
RUN = "archive.frazil/under-way"
"""A run that has begun and has not ended."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A repository with one published run and one under way, and what lies around it."""

    aws: LocalAws
    begun: Run
    sources: list[str]
    snapshot: str
    chunk: str


@contextlib.contextmanager
def acting(aws: LocalAws, role: str) -> Iterator[Acting]:
    """Somebody in a role, which this process has meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws.environment(role).items():
            patch.setenv(name, value)
        yield Acting(aws, role)


@pytest.fixture(scope="module")
def archive(shared_aws: LocalAws, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    aws = shared_aws
    aws.reset()
    aws.empty()
    sources, _ = upload(aws, tmp_path_factory.mktemp("sources"), 3, 4)
    admin = aws.client("s3")
    admin.create_bucket(Bucket=ELSEWHERE, CreateBucketConfiguration={"LocationConstraint": names.REGION})
    for bucket, key in [(ELSEWHERE, "object"), (DATA, "plans/one.json"), (DATA, "private/object")]:
        admin.put_object(Bucket=bucket, Key=key, Body=b"")
    aws.function(MEMORY, handler="tests.aws.functions.echo")
    with acting(aws, "client"), frazil.SerialExecutor() as serial:
        first = frazil.plan(sources[:2], aws.repository, chunks={"time": 4}, executor=serial)
        snapshot = frazil.run(first, executor=serial).snapshot_id
        more = frazil.plan(sources, aws.repository, mode="append", on_overlap="skip", executor=serial)
        begun = start(more, directory_of(locate(aws.repository), "under-way"))
    chunk = admin.list_objects_v2(Bucket=DATA, Prefix="archive/chunks/")["Contents"][0]["Key"]
    return Archive(aws, begun, sources, snapshot, chunk)


def new(prefix: str) -> str:
    """A key that nothing lies under, as Icechunk would make it: 96 bits in Crockford's base 32."""
    letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return f"{prefix}/{''.join(secrets.choice(letters) for _ in range(19))}0"


def there(acting: Acting, bucket: str, prefix: str) -> str:
    """A key that something lies under."""
    key = new(prefix)
    acting.aws.client("s3").put_object(Bucket=bucket, Key=key, Body=b"", IfNoneMatch="*")  # run directories ask for it
    return key


def put_and_take_away(acting: Acting, key: str) -> None:
    acting.put_new(DATA, key)
    acting.aws.client("s3").delete_object(Bucket=DATA, Key=key)


# What is asked of Icechunk.


def commit(acting: Acting) -> None:
    repo = acting.repository()
    session = repo.writable_session("main")
    zarr.open_group(session.store, mode="a").attrs["by"] = new(acting.role)
    session.commit("by hand")


def make_branch(acting: Acting) -> None:
    repo = acting.repository()
    repo.create_branch(new("branch").replace("/", "-"), repo.lookup_branch("main"))


def move_branch(acting: Acting) -> None:
    repo = acting.repository()
    tip = repo.lookup_branch("main")
    repo.reset_branch("main", list(repo.ancestry(branch="main"))[1].id)
    repo.reset_branch("main", tip)


def collect_garbage(acting: Acting) -> None:
    key = there(acting, DATA, "archive/chunks")
    acting.repository().garbage_collect(datetime.now(UTC) + timedelta(seconds=1))
    left = acting.aws.client("s3").list_objects_v2(Bucket=DATA, Prefix=key).get("KeyCount")
    if left:  # Icechunk logs what it could not delete, and no more
        raise PermissionError("what nothing refers to is still there")


# What is asked of Lambda.


def invoke(acting: Acting) -> None:
    acting.client("lambda").invoke(FunctionName=FUNCTION, Payload=b"1")


def update_code(acting: Acting, function: str = FUNCTION) -> None:
    uri = f"{names.ACCOUNT}.dkr.ecr.{names.REGION}.amazonaws.com/frazil:0.1.0"
    acting.client("lambda").update_function_code(FunctionName=function, ImageUri=uri)


def update_configuration(acting: Acting, function: str = FUNCTION) -> None:
    acting.client("lambda").update_function_configuration(FunctionName=function, Timeout=100)


def create_function(acting: Acting, memory: int = names.MEMORY_SIZES[-1], name: str | None = None) -> None:
    called = name or names.function_name(memory)
    with contextlib.suppress(acting.aws.client("lambda").exceptions.ResourceNotFoundException):
        acting.aws.client("lambda").delete_function(FunctionName=called)
    acting.client("lambda").create_function(
        FunctionName=called,
        PackageType="Image",
        Code={"ImageUri": f"{names.ACCOUNT}.dkr.ecr.{names.REGION}.amazonaws.com/frazil:0.1.0"},
        Role=names.role_arn("worker"),
        MemorySize=memory,
    )


FUNCTIONS: Mapping[str, Call] = {
    "replace a function's code": update_code,
    "change a function": update_configuration,
    "make a function": create_function,
    "delete a function": lambda one: one.client("lambda").delete_function(FunctionName=FUNCTION),
    "look at a function": lambda one: one.client("lambda").get_function(FunctionName=FUNCTION),
    "list functions": lambda one: one.client("lambda").list_functions(),
    "invoke another function": lambda one: one.client("lambda").invoke(FunctionName="another", Payload=b"1"),
}
STRANGE: Mapping[str, Call] = {
    "read another bucket": lambda one: one.get(ELSEWHERE, "object"),
    "list another bucket": lambda one: one.list(ELSEWHERE),
    "write another bucket": lambda one: one.put(ELSEWHERE, "object"),
    "list the buckets": lambda one: one.client("s3").list_buckets(),
    "replace a bucket's policy": lambda one: one.client("s3").delete_bucket_policy(Bucket=DATA),
    "stop the versions of a bucket": lambda one: one.client("s3").put_bucket_versioning(
        Bucket=DATA, VersioningConfiguration={"Status": "Suspended"}
    ),
    "delete a bucket": lambda one: one.client("s3").delete_bucket(Bucket=ELSEWHERE),
    "write a source": lambda one: one.put(RAW, new("raw")),
    "delete a source": lambda one: one.delete(RAW, there(one, RAW, "raw")),
    "read beside the repositories": lambda one: one.get(DATA, "private/object"),
    "write beside the repositories": lambda one: one.put(DATA, new("private")),
    "give itself more": lambda one: one.client("iam").put_role_policy(
        RoleName=f"{names.NAME}-{one.role}",
        PolicyName="more",
        PolicyDocument='{"Version": "2012-10-17", "Statement": []}',
    ),
    "make keys": lambda one: one.client("iam").create_access_key(UserName="admin"),
}
READ_SOURCES: Mapping[str, Call] = {
    "read a source": lambda one: one.get(RAW, there(one, RAW, "raw")),
    "list sources": lambda one: one.list(RAW),
}
READ_DATA: Mapping[str, Call] = {
    "list the data": lambda one: one.list(DATA),
    "open the repository": lambda one: one.repository().readonly_session("main"),
    "read a run": lambda one: one.get(DATA, f"{RUN}/plan.json"),
}
COMMITTING: Mapping[str, Call] = {
    "commit": commit,
    "make a branch": make_branch,
    "move a branch": move_branch,
}
DELETING: Mapping[str, Call] = {
    "delete a chunk": lambda one: one.delete(DATA, there(one, DATA, "archive/chunks")),
    "delete chunks": lambda one: one.delete_many(DATA, there(one, DATA, "archive/chunks")),
    "delete a snapshot": lambda one: one.delete(DATA, there(one, DATA, "archive/snapshots")),
    "collect garbage": collect_garbage,
}
DESTROYING: Mapping[str, Call] = {
    "delete the repository's state": lambda one: one.delete(DATA, "archive/repo"),
}
CLEARING: Mapping[str, Call] = {
    "delete of a run": lambda one: one.delete(DATA, there(one, DATA, f"{RUN}/receipts")),
}
WRITING: Mapping[str, Call] = {
    "put a chunk": lambda one: one.put(DATA, new("archive/chunks")),
    "put a snapshot": lambda one: one.put(DATA, new("archive/snapshots")),
    "put a manifest": lambda one: one.put(DATA, new("archive/manifests")),
    "put a large chunk": lambda one: one.upload_in_parts(DATA, new("archive/chunks")),
    "take back a large chunk": lambda one: one.upload_in_parts(DATA, new("archive/chunks"), finish=False),
}
RUNS: Mapping[str, Call] = {
    "put a receipt": lambda one: one.put_new(DATA, new(f"{RUN}/receipts")),
    "put a plan": lambda one: put_and_take_away(one, new("archive.frazil") + "/plan.json"),
    "put an outcome": lambda one: put_and_take_away(one, new("archive.frazil") + "/outcome.json"),
}
REPLACING: Mapping[str, Call] = {
    "replace a plan": lambda one: one.put(DATA, f"{RUN}/plan.json"),
    "replace a receipt": lambda one: one.put(DATA, there(one, DATA, f"{RUN}/receipts")),
}
JOBS: Mapping[str, Call] = {
    "list staging": lambda one: one.list(STAGING),
    "read of a call": lambda one: one.get(STAGING, there(one, STAGING, "lithops.jobs")),
    "put of a call": lambda one: one.put(STAGING, new("lithops.jobs")),
}
CLEARING_JOBS: Mapping[str, Call] = {
    "delete of a call": lambda one: one.delete_many(STAGING, there(one, STAGING, "lithops.jobs")),
}
METADATA: Mapping[str, Call] = {
    "read a runtime's metadata": lambda one: one.get(STAGING, names.metadata_key(MEMORY)),
}
PUT_METADATA: Mapping[str, Call] = {
    "put a runtime's metadata": lambda one: one.put(STAGING, names.metadata_key(names.MEMORY_SIZES[-1])),
}
DELETE_METADATA: Mapping[str, Call] = {
    "delete a runtime's metadata": lambda one: one.delete(STAGING, names.metadata_key(names.MEMORY_SIZES[-1])),
}
INVOKING: Mapping[str, Call] = {"invoke": invoke}
PLANS: Mapping[str, Call] = {
    "read a plan that was put": lambda one: one.get(DATA, "plans/one.json"),
    "put a plan to be run": lambda one: one.put(DATA, new("plans")),
}


def without(calls: Mapping[str, Call], *left_out: str) -> dict[str, Call]:
    assert set(left_out) <= calls.keys()
    return {name: call for name, call in calls.items() if name not in left_out}


CLIENT = (
    READ_SOURCES
    | READ_DATA
    | COMMITTING
    | WRITING
    | RUNS
    | CLEARING
    | JOBS
    | CLEARING_JOBS
    | METADATA
    | INVOKING
    | PLANS
)
DIRECT = (
    READ_SOURCES
    | READ_DATA
    | COMMITTING
    | WRITING
    | RUNS
    | CLEARING
    | {"read a plan that was put": PLANS["read a plan that was put"]}
)
CLIENT_NOT = FUNCTIONS | STRANGE | DELETING | DESTROYING | REPLACING | PUT_METADATA | DELETE_METADATA
MAY: Mapping[str, Mapping[str, Call]] = {
    "worker": JOBS
    | {
        "read a source": READ_SOURCES["read a source"],
        "read a run": READ_DATA["read a run"],
        "put a receipt": RUNS["put a receipt"],
        "put a chunk": WRITING["put a chunk"],
        "put a large chunk": WRITING["put a large chunk"],
        "take back a large chunk": WRITING["take back a large chunk"],
        "read a chunk": lambda one: one.get(DATA, there(one, DATA, "archive/chunks")),
        "read a snapshot": lambda one: one.get(DATA, there(one, DATA, "archive/snapshots")),
        "read a manifest": lambda one: one.get(DATA, there(one, DATA, "archive/manifests")),
    },
    "client": CLIENT,
    "deployer": METADATA
    | PUT_METADATA
    | INVOKING
    | JOBS
    | CLEARING_JOBS
    | without(FUNCTIONS, "delete a function", "list functions", "invoke another function"),
    "maintenance": READ_DATA | COMMITTING | WRITING | DELETING | CLEARING | RUNS,
    "direct": DIRECT,
    "ci-plan": READ_DATA | READ_SOURCES,
    "ci-apply": CLIENT,
}
MAY_NOT: Mapping[str, Mapping[str, Call]] = {
    "worker": FUNCTIONS
    | STRANGE
    | COMMITTING
    | DELETING
    | DESTROYING
    | CLEARING
    | CLEARING_JOBS
    | REPLACING
    | METADATA
    | PUT_METADATA
    | DELETE_METADATA
    | INVOKING
    | PLANS
    | {
        "list sources": READ_SOURCES["list sources"],
        "list the data": READ_DATA["list the data"],
        "put a snapshot": WRITING["put a snapshot"],
        "put a manifest": WRITING["put a manifest"],
        "reset the repository's state": lambda one: one.put(DATA, "archive/repo"),
        "put a plan": RUNS["put a plan"],
        "put an outcome": RUNS["put an outcome"],
        "put a receipt beside the run": lambda one: one.put_new(DATA, new("archive.receipts")),
        "put a receipt into the repository": lambda one: one.put_new(DATA, new("archive/receipts")),
    },
    "client": CLIENT_NOT,
    "deployer": STRANGE
    | READ_SOURCES
    | READ_DATA
    | COMMITTING
    | DELETING
    | DESTROYING
    | WRITING
    | RUNS
    | CLEARING
    | PLANS
    | DELETE_METADATA
    | {
        "delete a function": FUNCTIONS["delete a function"],
        "make a function of another name": lambda one: create_function(one, name="another"),
        "replace another function's code": lambda one: update_code(one, "another"),
        "change another function": lambda one: update_configuration(one, "another"),
        "invoke another function": FUNCTIONS["invoke another function"],
    },
    "maintenance": FUNCTIONS
    | STRANGE
    | READ_SOURCES
    | REPLACING
    | JOBS
    | CLEARING_JOBS
    | METADATA
    | PUT_METADATA
    | DELETE_METADATA
    | INVOKING
    | PLANS,
    "direct": FUNCTIONS
    | STRANGE
    | DELETING
    | DESTROYING
    | REPLACING
    | JOBS
    | CLEARING_JOBS
    | METADATA
    | PUT_METADATA
    | DELETE_METADATA
    | INVOKING
    | {"put a plan to be run": PLANS["put a plan to be run"]},
    "ci-plan": FUNCTIONS
    | STRANGE
    | COMMITTING
    | DELETING
    | DESTROYING
    | WRITING
    | RUNS
    | CLEARING
    | REPLACING
    | JOBS
    | CLEARING_JOBS
    | METADATA
    | PUT_METADATA
    | DELETE_METADATA
    | INVOKING
    | PLANS,
    "ci-apply": CLIENT_NOT,
}

ONLY_AWS: Mapping[str, str] = {
    "WriteItsLog": "the local AWS keeps the logs of functions itself, and asks nobody",
    "KeepCallsThatFailed": "the local AWS puts them into the queue itself, and asks nobody",
    "TakeEventsFromTheQueue": "the server has nothing that hands messages of a queue to functions",
    "LogInToTheRegistry": "there is no registry of images here",
    "PushTheImage": "there is no registry of images here",
}
"""Statements that only AWS can show to be needed, and why."""


def as_it_should_be(one: Acting) -> None:
    """Try all that a role may and may not."""
    may, may_not = MAY[one.role], MAY_NOT[one.role]
    assert not may.keys() & may_not.keys()
    assert tried(one, may) == dict.fromkeys(may, "done")
    assert tried(one, may_not) == dict.fromkeys(may_not, "refused")


def test_the_worker_does_its_part_and_is_refused_everything_else(archive: Archive) -> None:
    task = archive.begun.task(0, ())
    assert task is not None
    with acting(archive.aws, "worker") as worker:
        assert handler.write(task)
        as_it_should_be(worker)


def test_the_client_does_its_part_and_is_refused_everything_else(archive: Archive) -> None:
    # Its part as a whole is in test_run.py.
    with acting(archive.aws, "client") as client:
        as_it_should_be(client)


def test_the_deployer_does_its_part_and_is_refused_everything_else(archive: Archive) -> None:
    with acting(archive.aws, "deployer") as deployer:
        as_it_should_be(deployer)


def test_maintenance_does_its_part_and_is_refused_everything_else(archive: Archive) -> None:
    aws = archive.aws
    with acting(aws, "maintenance") as maintenance:
        as_it_should_be(maintenance)
        there(maintenance, DATA, "archive/chunks")
        assert main(["gc", aws.repository, "--delete", "--older-than", "0s"]) == 0
        assert frazil.validate(aws.repository, executor=frazil.SerialExecutor()).ok


def test_the_direct_function_does_its_part_and_is_refused_everything_else(archive: Archive) -> None:
    aws = archive.aws
    with acting(aws, "direct") as direct:
        as_it_should_be(direct)
    with acting(aws, "client"), frazil.SerialExecutor() as serial:
        plan = frazil.plan(archive.sources, aws.repository, mode="overwrite", executor=serial)
    aws.client("s3").put_object(Bucket=DATA, Key="plans/direct.json", Body=plan.to_json())
    with acting(aws, "direct"):
        begun = handler.handle({"action": "start", "plan": f"s3://{DATA}/plans/direct.json"})
        for task in begun["missing"]:
            handler.handle({"action": "write", "run": begun["run"], "task": task})
        assert handler.handle({"action": "finish", "run": begun["run"]})["snapshot_id"]


def test_planning_in_ci_does_its_part_and_is_refused_everything_else(archive: Archive) -> None:
    aws = archive.aws
    with acting(aws, "ci-plan") as planning, frazil.SerialExecutor() as serial:
        as_it_should_be(planning)
        plan = frazil.plan(archive.sources, aws.repository, mode="overwrite", executor=serial)
        before = aws.client("s3").list_objects_v2(Bucket=DATA)["Contents"]
        run: Mapping[str, Call] = {"run": lambda _: frazil.run(plan, executor=serial)}
        assert tried(planning, run) == {"run": "refused"}
    assert aws.client("s3").list_objects_v2(Bucket=DATA)["Contents"] == before


def test_a_plan_for_lambda_is_made_in_ci_without_a_call_of_lambda(archive: Archive, tmp_path: Path) -> None:
    aws = archive.aws
    (tmp_path / "lithops.yaml").write_text(yaml.safe_dump(aws.lithops_config(1769)))
    lambdas = ["--backend", "aws_lambda", "--lithops-config", str(tmp_path / "lithops.yaml")]
    plan = ["plan", *archive.sources, aws.repository, "--mode", "overwrite", "--pack", *lambdas]  # looks at all values
    with acting(aws, "ci-plan"):
        before = aws.requests("ci-plan")
        assert main([*plan, "--here"]) == 0
        assert (aws.requests("ci-plan") - before).keys() <= {"s3:GetObject", "s3:HeadObject", "s3:ListObjectsV2"}
        assert main(plan) == 1


def test_applying_in_ci_does_its_part_and_is_refused_everything_else(archive: Archive) -> None:
    aws = archive.aws
    with acting(aws, "ci-apply") as applying, frazil.SerialExecutor() as serial:
        as_it_should_be(applying)
        plan = frazil.plan(archive.sources, aws.another, executor=serial)
        assert frazil.run(frazil.Plan.from_json(plan.to_json()), executor=serial).snapshot_id


@pytest.mark.parametrize("role", MAY)
def test_a_role_cannot_do_its_part_without_any_one_of_its_statements(archive: Archive, role: str) -> None:
    aws, whole = archive.aws, json.loads(archive.aws.policies.roles[role])
    iam, called = aws.client("iam"), {"RoleName": f"{names.NAME}-{role}", "PolicyName": "frazil"}
    idle = set()
    try:
        with acting(aws, role) as one:
            for statement in whole["Statement"]:
                rest = whole | {"Statement": [other for other in whole["Statement"] if other is not statement]}
                iam.put_role_policy(**called, PolicyDocument=json.dumps(rest))
                if not any(tried(one, {name: call}) == {name: "refused"} for name, call in MAY[role].items()):
                    idle.add(statement["Sid"])
    finally:
        iam.put_role_policy(**called, PolicyDocument=json.dumps(whole))
    assert idle == ONLY_AWS.keys() & {statement["Sid"] for statement in whole["Statement"]}


@pytest.mark.parametrize("sid", ONLY_AWS)
def test_what_only_aws_can_show_to_be_needed(sid: str) -> None:
    pytest.skip(ONLY_AWS[sid])
