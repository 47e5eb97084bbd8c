import datetime as dt
import io
import itertools
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import icechunk
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.functions.conftest import clean_fork, commit_template

from frazil_functions.errors import BackendError, InvalidInputError, ReceiptError
from frazil_functions.forks import (
    ForkState,
    check_no_secret,
    dump_fork,
    load_fork,
    node_id,
    read_fork,
    require_layout,
)

PLAIN: dict[str, Any] = {"shape": (8, 8), "chunks": (4, 4), "dtype": "f4", "fill_value": np.nan}
ARRAYS: dict[str, dict[str, Any]] = {
    "inline": {"shape": (4,), "chunks": (2,), "dtype": "i2"},
    "plain": PLAIN,
    "sharded": PLAIN | {"shape": (8, 8), "shards": (4, 8), "chunks": (2, 2)},
    "scalar": {"shape": (), "dtype": "i4"},
}


def nodes(repo: icechunk.Repository) -> dict[str, bytes]:
    session = repo.readonly_session("main")
    return {name: node_id(session.get_node_id(f"/{name}")) for name in ARRAYS}


def test_a_fork_comes_back_and_writes(repo: icechunk.Repository) -> None:
    commit_template(repo, ARRAYS)
    session = repo.writable_session("main")
    fork = load_fork(dump_fork(session.fork()))
    zarr.open_group(fork.store, mode="r+")["plain"][:4, :4] = 1
    session.merge(load_fork(dump_fork(fork)))
    assert (zarr.open_group(session.store, mode="r")["plain"][:4, :4] == 1).all()


WRITES: list[tuple[str, Any, Any, set[tuple[int, ...]]]] = [
    ("inline", np.s_[:2], 5, {(0,)}),
    ("plain", np.s_[:, 4:], np.random.default_rng(0).normal(size=(8, 4)), {(0, 1), (1, 1)}),
    ("plain", np.s_[:4, :4], np.nan, {(0, 0)}),
    ("sharded", np.s_[4:, :], np.random.default_rng(0).normal(size=(4, 8)), {(1, 0)}),
    ("scalar", (), 7, {()}),
    ("scalar", (), 0, {()}),
]


@pytest.mark.parametrize(("name", "where", "values", "expected"), WRITES)
def test_what_a_fork_wrote_or_deleted_is_exact(
    repo: icechunk.Repository, name: str, where: Any, values: Any, expected: set[tuple[int, ...]]
) -> None:
    commit_template(repo, ARRAYS)
    fork = load_fork(clean_fork(repo))
    zarr.open_group(fork.store, mode="r+")[name][where] = values
    written = read_fork(dump_fork(fork)).written()
    assert {node: set(map(tuple, chunks)) for node, chunks in written.items()} == {nodes(repo)[name]: expected}


def test_a_clean_fork_wrote_nothing(repo: icechunk.Repository) -> None:
    commit_template(repo, ARRAYS)
    state = read_fork(clean_fork(repo))
    require_layout(state)
    assert state.written() == {}


def test_forks_of_one_session_differ_in_their_chunks_alone(repo: icechunk.Repository) -> None:
    commit_template(repo, ARRAYS)
    data = clean_fork(repo)
    states = [read_fork(data)]
    for name, where, values, _ in WRITES:
        fork = load_fork(data)
        zarr.open_group(fork.store, mode="r+")[name][where] = values
        states.append(read_fork(dump_fork(fork)))
    assert len({state.frame for state in states}) == 1


def _resized(group: zarr.Group) -> None:
    group["plain"].resize((16, 8))


def _attribute(group: zarr.Group) -> None:
    group["plain"].attrs["units"] = "K"


def _group_attribute(group: zarr.Group) -> None:
    group.attrs["title"] = "another"


def _another_array(group: zarr.Group) -> None:
    group.create_array("more", shape=(2,), dtype="i4")


def _deleted(group: zarr.Group) -> None:
    del group["plain"]


def _recreated(group: zarr.Group) -> None:
    group.create_array("plain", overwrite=True, **PLAIN)


def test_forks_that_are_not_of_one_session_differ_pairwise(repo: icechunk.Repository, tmp_path: Path) -> None:
    commit_template(repo, ARRAYS)
    data = clean_fork(repo)
    states = {"ours": read_fork(data)}
    for edit in (_resized, _attribute, _group_attribute, _another_array, _deleted, _recreated):
        fork = load_fork(data)
        edit(zarr.open_group(fork.store, mode="r+"))
        states[edit.__name__] = read_fork(dump_fork(fork))
    other = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "other")))
    commit_template(other, ARRAYS)
    states["other repository"] = read_fork(clean_fork(other))
    session = repo.writable_session("main")
    _recreated(zarr.open_group(session.store, mode="r+"))
    session.commit("the array again")
    states["array made again, and so another base"] = read_fork(clean_fork(repo))
    for one, two in itertools.combinations(states, 2):
        assert states[one].frame != states[two].frame, (one, two)


class Harmful:
    """Pickles into a call that leaves a trace."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_names_anything_else_is_not_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    for harm in (
        Harmful(os.system, f"touch {trace}"),
        Harmful(os.mkdir, str(trace)),
        Harmful(exec, f"from pathlib import Path; Path({str(trace)!r}).touch()"),
    ):
        data = pickle.dumps(harm, protocol)
        with pytest.raises(ReceiptError, match="which no fork contains"):
            read_fork(data)
        with pytest.raises(ReceiptError, match="which no fork contains"):
            load_fork(data)
        assert not trace.exists()
        # Without the guard it would be run: the trace is a real one.
        pickle.loads(data)  # noqa: S301 - made above
        assert trace.exists()
        trace.rmdir() if trace.is_dir() else trace.unlink()


def test_a_harmful_object_inside_of_a_forks_state_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    data = (
        b"\x80\x04cicechunk.session\nForkSession\n)\x81}\x8c\x08_session"
        + pickle.dumps(Harmful(os.mkdir, str(trace)), 0)[:-1]
        + b"sb."
    )
    with pytest.raises(ReceiptError, match="which no fork contains"):
        read_fork(data)
    assert not trace.exists()


def test_a_reference_to_an_object_outside_is_refused() -> None:
    class Outside(pickle.Pickler):
        def persistent_id(self, obj: object) -> str | None:
            return "elsewhere" if isinstance(obj, bytes) else None

    data = io.BytesIO()
    Outside(data).dump(b"state")
    with pytest.raises(ReceiptError, match="outside of them"):
        read_fork(data.getvalue())


@pytest.mark.parametrize(
    "value",
    [None, 1, "text", {"_session": b"x"}, [b"x"], icechunk.session.ForkSession],
    ids=lambda value: type(value).__name__,
)
def test_a_pickle_of_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ReceiptError):
        read_fork(pickle.dumps(value))


def pickled(session: object) -> bytes:
    """A fork's pickle with another state in it."""
    return b"\x80\x04cicechunk.session\nForkSession\n)\x81}\x8c\x08_session" + pickle.dumps(session, 4)[2:-1] + b"sb."


@pytest.mark.parametrize(
    "session",
    [b"", b"\x90", b"\x91" * 200_000, b"\x99" + b"\xc0" * 9, b"\x99" + b"\xc0" * 8 + b"\x80", 7, "text", None],
)
def test_a_state_that_is_laid_out_in_another_way_is_refused(session: object) -> None:
    with pytest.raises(ReceiptError):
        read_fork(pickled(session))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_bytes_that_are_damaged_are_refused_or_are_a_state(
    repo_with_changes: tuple[bytes, ForkState], data: st.DataObject
) -> None:
    pickle_bytes, state = repo_with_changes
    at = data.draw(st.integers(0, len(pickle_bytes) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "insert"]))
    if kind == "cut":
        damaged = pickle_bytes[:at]
    elif kind == "flip":
        damaged = (
            pickle_bytes[:at] + bytes([pickle_bytes[at] ^ data.draw(st.integers(1, 255))]) + pickle_bytes[at + 1 :]
        )
    else:
        damaged = pickle_bytes[:at] + data.draw(st.binary(min_size=1, max_size=8)) + pickle_bytes[at:]
    try:
        found = read_fork(damaged)
        found.written()
    except ReceiptError:
        return
    # What was damaged without notice must show in what receipts are compared by, or change nothing.
    assert found.session != state.session or (found.frame, found.chunks) == (state.frame, state.chunks)


@pytest.fixture
def repo_with_changes(repo: icechunk.Repository) -> tuple[bytes, ForkState]:
    commit_template(repo, ARRAYS)
    fork = load_fork(clean_fork(repo))
    group = zarr.open_group(fork.store, mode="r+")
    for name, where, values, _ in WRITES:
        group[name][where] = values
    data = dump_fork(fork)
    return data, read_fork(data)


def test_chunk_references_of_another_layout_are_refused(repo: icechunk.Repository) -> None:
    state = read_fork(clean_fork(repo))
    with pytest.raises(ReceiptError, match="chunk references"):
        ForkState(state.session, state.frame, b"\x81\x01\x02").written()


def test_a_state_that_icechunk_cannot_read_is_refused(repo: icechunk.Repository) -> None:
    state = read_fork(clean_fork(repo))
    with pytest.raises(ReceiptError, match="icechunk cannot read"):
        ForkState(state.session[:-1], state.frame, state.chunks).session_object()


def test_another_layout_of_forks_is_found_before_a_run(repo: icechunk.Repository) -> None:
    state = read_fork(clean_fork(repo))
    with pytest.raises(BackendError, match="version of icechunk"):
        require_layout(ForkState(state.session, state.frame, b"\x90"))


def test_a_fork_whose_secrets_could_not_be_found_is_refused(repo: icechunk.Repository) -> None:
    state = read_fork(clean_fork(repo))
    with pytest.raises(BackendError, match="version of icechunk"):
        check_no_secret(ForkState(state.session, (*state.frame[:4], b"\x90", *state.frame[5:]), state.chunks))


class Fetch:
    """Gives credentials when it is asked; carries none."""

    def __call__(self) -> icechunk.S3StaticCredentials:
        expires = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        return icechunk.S3StaticCredentials("AKIASECRET", "very-secret", expires_after=expires)


SECRET = "very-secret"  # noqa: S105 - of no account
STATIC = {"access_key_id": "AKIASECRET", "secret_access_key": "very-secret"}
FROM_ENV = {"from_env": True}


def s3_state(bucket: Any, server: str, credentials: dict[str, Any]) -> ForkState:
    policy = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": [f"arn:aws:s3:::{bucket.name}/*"]}
    boto3.client("s3").put_bucket_policy(
        Bucket=bucket.name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [policy]})
    )
    storage = icechunk.s3_storage(
        bucket=bucket.name,
        prefix="repo",
        endpoint_url=server,
        allow_http=True,
        force_path_style=True,
        region="us-east-1",
        **credentials,
    )
    return read_fork(clean_fork(icechunk.Repository.open_or_create(storage)))


@pytest.mark.parametrize(
    "credentials",
    [FROM_ENV, {"anonymous": True}, {"get_credentials": Fetch()}],
    ids=["from the environment", "anonymous", "fetched"],
)
def test_a_fork_without_a_secret_may_travel(bucket: Any, s3_server: str, credentials: dict[str, Any]) -> None:
    state = s3_state(bucket, s3_server, credentials)
    check_no_secret(state)
    assert b"very-secret" not in state.session


@pytest.mark.parametrize(
    ("credentials", "kind"),
    [(STATIC, "static"), ({"get_credentials": Fetch(), "scatter_initial_credentials": True}, "scattered")],
)
def test_a_fork_with_a_secret_may_not(bucket: Any, s3_server: str, credentials: dict[str, Any], kind: str) -> None:
    state = s3_state(bucket, s3_server, credentials)
    assert b"very-secret" in state.session
    with pytest.raises(InvalidInputError, match=f"{kind} credentials") as caught:
        check_no_secret(state)
    assert "very-secret" not in str(caught.value)


def test_forks_with_other_credentials_differ(bucket: Any, s3_server: str) -> None:
    kinds: list[dict[str, Any]] = [
        FROM_ENV,
        STATIC,
        STATIC | {"secret_access_key": "other"},
        {"get_credentials": Fetch()},
    ]
    frames = [s3_state(bucket, s3_server, credentials).frame for credentials in kinds]
    assert len(set(frames)) == len(kinds)


def virtual_state(path: Path, prefix: str, credentials: Any) -> ForkState:
    stores: dict[str, Any] = {
        "s3": icechunk.s3_store(region="us-east-1"),
        "gcs": icechunk.gcs_store({}),
        "az": icechunk.ObjectStoreConfig.Azure({}),
        "file": icechunk.local_filesystem_store("/v/"),
        "https": icechunk.http_store(),
    }
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, stores[prefix.partition(":")[0]]))
    repo = icechunk.Repository.create(
        icechunk.local_filesystem_storage(str(path)),
        config=config,
        authorize_virtual_chunk_access=icechunk.containers_credentials({prefix: credentials}),
    )
    return read_fork(clean_fork(repo))


@pytest.mark.parametrize(
    ("prefix", "make"),
    [
        ("s3://v/", lambda: icechunk.s3_credentials(**STATIC)),
        ("s3://v/", lambda: icechunk.s3_credentials(get_credentials=Fetch(), scatter_initial_credentials=True)),
        ("gcs://v/", lambda: icechunk.gcs_credentials(service_account_key=SECRET)),
        ("gcs://v/", lambda: icechunk.gcs_credentials(bearer_token=SECRET)),
        ("az://account/v/", lambda: icechunk.azure_credentials(access_key=SECRET)),
        ("az://account/v/", lambda: icechunk.azure_credentials(sas_token=SECRET)),
    ],
)
def test_a_secret_for_virtual_chunks_may_not_travel(tmp_path: Path, prefix: str, make: Callable[[], Any]) -> None:
    state = virtual_state(tmp_path / "repo", prefix, make())
    assert b"very-secret" in state.session
    with pytest.raises(InvalidInputError, match="credentials, for itself or for virtual chunks"):
        check_no_secret(state)


@pytest.mark.parametrize(
    ("prefix", "make"),
    [
        ("s3://v/", lambda: icechunk.s3_credentials(from_env=True)),
        ("s3://v/", lambda: icechunk.s3_credentials(anonymous=True)),
        ("s3://v/", lambda: icechunk.s3_credentials(get_credentials=Fetch())),
        ("gcs://v/", lambda: icechunk.gcs_credentials(from_env=True)),
        ("az://account/v/", lambda: icechunk.azure_credentials(from_env=True)),
        ("gcs://v/", lambda: icechunk.credentials.gcs_credentials(anonymous=True)),
        ("file:///v/", lambda: icechunk.credentials.LocalFileSystemAccess),
        ("https://v/", lambda: icechunk.credentials.HttpAccess),
        pytest.param(
            "s3://v/", lambda: None, marks=pytest.mark.filterwarnings("ignore:Passing `None`:DeprecationWarning")
        ),
        pytest.param(
            "file:///v/", lambda: None, marks=pytest.mark.filterwarnings("ignore:Passing `None`:DeprecationWarning")
        ),
    ],
)
def test_authorising_virtual_chunks_from_the_environment_is_no_secret(
    tmp_path: Path, prefix: str, make: Callable[[], Any]
) -> None:
    check_no_secret(virtual_state(tmp_path / "repo", prefix, make()))


@pytest.mark.parametrize(
    ("prefix", "store"),
    [
        ("https://v/", icechunk.http_store(headers={"authorization": SECRET})),
        ("https://v/", icechunk.http_store({"user_password": SECRET})),
        ("https://user:very-secret@v/", icechunk.http_store()),
        ("gcs://v/", icechunk.gcs_store({"google_service_account_key": SECRET})),
        ("az://v/", icechunk.ObjectStoreConfig.Azure({"azure_storage_sas_token": SECRET})),
    ],
)
def test_a_secret_that_a_container_is_declared_with_may_not_travel(tmp_path: Path, prefix: str, store: Any) -> None:
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")), config=config)
    state = read_fork(clean_fork(repo))
    assert SECRET.encode() in state.session
    with pytest.raises(InvalidInputError, match=r"container \w+://v/ with headers or keys of its own") as caught:
        check_no_secret(state)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("store", [icechunk.http_store({"timeout": "5s"}), icechunk.http_store({}, {})])
def test_a_container_with_options_that_are_no_secret_may_travel(tmp_path: Path, store: Any) -> None:
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer("https://v/", store))
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")), config=config)
    check_no_secret(read_fork(clean_fork(repo)))


def contained(path: Path, stores: dict[str, Any], authorised: list[str]) -> bytes:
    config = icechunk.RepositoryConfig.default()
    for prefix, store in stores.items():
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    storage = icechunk.local_filesystem_storage(str(path))
    if not path.exists():
        icechunk.Repository.create(storage)
    access = icechunk.containers_credentials({prefix: icechunk.s3_credentials(from_env=True) for prefix in authorised})
    return clean_fork(icechunk.Repository.open(storage, config=config, authorize_virtual_chunk_access=access))


def test_forks_of_a_repository_with_many_containers_differ_in_their_chunks_alone(tmp_path: Path) -> None:
    prefixes = [f"s3://bucket-{letter}/" for letter in "abcdefgh"] + [f"s3://bucket-a/{letter}/" for letter in "xyz"]
    data = contained(tmp_path / "repo", {prefix: icechunk.s3_store() for prefix in prefixes}, prefixes)
    states = [read_fork(dump_fork(load_fork(data))) for _ in range(20)]
    assert len({state.session for state in states}) > 1, "icechunk has an order by now; this may go"
    assert {state.frame for state in states} == {read_fork(data).frame}
    for state in states:
        state.session_object()


def test_forks_with_other_containers_or_other_access_differ(tmp_path: Path) -> None:
    one, other = icechunk.s3_store(region="eu-west-1"), icechunk.s3_store(region="us-east-1")
    kinds: list[tuple[dict[str, Any], list[str]]] = [
        ({"s3://a/": one, "s3://b/": one}, ["s3://a/", "s3://b/"]),
        ({"s3://a/": one, "s3://b/": one}, ["s3://a/"]),
        ({"s3://a/": one, "s3://b/": other}, ["s3://a/", "s3://b/"]),
        ({"s3://a/": other, "s3://b/": one}, ["s3://a/", "s3://b/"]),
        ({"s3://a/": one, "s3://c/": one}, ["s3://a/", "s3://c/"]),
        ({"s3://a/": one}, ["s3://a/"]),
    ]
    frames = {read_fork(contained(tmp_path / "repo", *kind)).frame for kind in kinds}
    assert len(frames) == len(kinds)


type Chunks = dict[str, set[tuple[int, ...]]]

EVERY: Chunks = {
    "inline": {(0,), (1,)},
    "plain": set(itertools.product(range(2), range(2))),
    "sharded": {(0, 0), (1, 0)},
    "scalar": {()},
}
UNITS: dict[str, tuple[int, ...]] = {"inline": (2,), "plain": (4, 4), "sharded": (4, 8), "scalar": ()}


@st.composite
def written_chunks(draw: st.DrawFn) -> Chunks:
    """Some chunks of every array."""
    return {name: draw(st.sets(st.sampled_from(sorted(every)))) for name, every in EVERY.items()}


def fork_of(repo: icechunk.Repository, chunks: Chunks, branch: str = "main") -> ForkState:
    """A fork that wrote some chunks; what it wrote is told by the array, the chunk and nothing else."""
    fork = load_fork(dump_fork(repo.writable_session(branch).fork()))
    group = zarr.open_group(fork.store, mode="r+")
    for number, (name, indices) in enumerate(chunks.items()):
        for at in indices:
            where = tuple(slice(one * size, (one + 1) * size) for one, size in zip(at, UNITS[name], strict=True))
            chance = np.random.default_rng([number, *at])
            array = group[name]
            assert isinstance(array, zarr.Array)
            # Noise, which no codec makes short enough to be inlined where it should not be.
            array[where] = (
                chance.integers(1, 9, UNITS[name]) if name in {"inline", "scalar"} else chance.normal(size=UNITS[name])
            )
    return read_fork(dump_fork(fork))


def contents(session: icechunk.Session) -> dict[str, Any]:
    group = zarr.open_group(session.store, mode="r")
    return {name: np.asarray(group[name][...]).tolist() for name in ARRAYS}


def by_node(repo: icechunk.Repository, chunks: Chunks) -> dict[bytes, set[tuple[int, ...]]]:
    return {nodes(repo)[name]: found for name, found in chunks.items() if found}


@pytest.fixture
def template(repo: icechunk.Repository) -> icechunk.Repository:
    commit_template(repo, ARRAYS)
    return repo


FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@FEW
@given(chunks=written_chunks())
def test_a_fork_placed_in_its_own_place_is_the_same_fork(template: icechunk.Repository, chunks: Chunks) -> None:
    state = fork_of(template, chunks)
    placed = state.placed(read_fork(clean_fork(template)), {node: node for node in nodes(template).values()})
    assert placed.session == state.session
    assert (placed.frame, placed.chunks) == (state.frame, state.chunks)
    one, two = template.writable_session("main"), template.writable_session("main")
    one.merge(state.session_object())
    two.merge(placed.session_object())
    assert str(contents(one)) == str(contents(two))  # as text, for NaN is not itself
    assert one.status().updated_chunks == two.status().updated_chunks


@FEW
@given(chunks=written_chunks())
def test_a_fork_placed_on_the_template_made_again_gives_the_same_values(
    template: icechunk.Repository, chunks: Chunks
) -> None:
    state = fork_of(template, chunks)
    before = nodes(template)
    base = template.lookup_branch("main")
    template.reset_branch("main", list(template.ancestry(branch="main"))[-1].id)
    try:
        commit_template(template, ARRAYS)
        assert not set(before.values()) & set(nodes(template).values())
        there = {before[name]: node for name, node in nodes(template).items()}
        back = {node: name for name, node in there.items()}
        clean = read_fork(clean_fork(template))
        placed = state.placed(clean, there)
        assert placed.frame == clean.frame
        assert {node: set(found) for node, found in placed.written().items()} == by_node(template, chunks)
        again = placed.placed(clean, {node: node for node in back})
        assert (again.frame, again.chunks) == (placed.frame, placed.chunks)
        session = template.writable_session("main")
        session.merge(placed.session_object())
        placed_values = str(contents(session))
    finally:
        template.reset_branch("main", base)
    whole = template.writable_session("main")
    whole.merge(state.session_object())
    assert placed_values == str(contents(whole))


def test_references_to_an_array_that_is_not_known_there_cannot_be_placed(template: icechunk.Repository) -> None:
    state = fork_of(template, {"plain": {(0, 0)}})
    with pytest.raises(ReceiptError, match="chunk references"):
        state.placed(read_fork(clean_fork(template)), {})


@FEW
@given(chunks=written_chunks(), less=written_chunks())
def test_a_fork_without_some_chunks_and_the_rest_are_the_whole(
    template: icechunk.Repository, chunks: Chunks, less: Chunks
) -> None:
    state = fork_of(template, chunks)
    rest = {name: found - less[name] for name, found in chunks.items()}
    left = state.without(by_node(template, less))
    assert left.frame == state.frame
    assert {node: set(found) for node, found in left.written().items()} == by_node(template, rest)
    whole, parts = template.writable_session("main"), template.writable_session("main")
    whole.merge(state.session_object())
    parts.merge(left.session_object())
    assert {path: len(found) for path, found in parts.status().updated_chunks.items()} == {
        f"/{name}": len(found) for name, found in rest.items() if found
    }
    parts.merge(state.without(by_node(template, rest)).session_object())
    assert {path: len(found) for path, found in whole.status().updated_chunks.items()} == {
        f"/{name}": len(found) for name, found in chunks.items() if found
    }
    assert str(contents(parts)) == str(contents(whole))
