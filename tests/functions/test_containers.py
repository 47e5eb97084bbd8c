"""How containers are spelled, what they cover, and what Icechunk makes of them."""

import os
from pathlib import Path
from typing import Any

import icechunk
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from icechunk.credentials import Credentials, HttpAccess, LocalFileSystemAccess, containers_credentials

from frazil_functions.authorising import accesses_of, agreed, credentials_of, declaration, declared_in, settled
from frazil_functions.containers import Container, container_of, distinct, enclosing
from frazil_functions.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://raw/", Container("s3://raw/")),
        ("s3://raw/a/b/", Container("s3://raw/a/b/")),
        ("s3://raw/year=2020/", Container("s3://raw/year=2020/")),
        ("s3://raw/=region=eu-west-1", Container("s3://raw/", "eu-west-1")),
        (
            "s3://raw/=region=eu-west-1,endpoint_url=http://h:9000,anonymous=true",
            Container("s3://raw/", "eu-west-1", "http://h:9000", anonymous=True),
        ),
        ("s3://raw/=anonymous=false", Container("s3://raw/")),
        ("s3://raw/= endpoint_url = https://h/ ", Container("s3://raw/", None, "https://h/")),
        ("gs://bucket/", Container("gs://bucket/")),
        ("gs://bucket/=anonymous=true", Container("gs://bucket/", anonymous=True)),
        ("https://host/path/", Container("https://host/path/")),
        ("https://host:8443/", Container("https://host:8443/")),
        ("file:///data/raw/", Container("file:///data/raw/")),
        ("file:///data/%72aw/", Container("file:///data/raw/")),
        ("/data/raw", Container("file:///data/raw/")),
        ("/data/raw/", Container("file:///data/raw/")),
    ],
)
def test_a_container_is_what_its_text_says(text: str, expected: Container) -> None:
    found = Container.parse(text)
    assert found == expected
    assert Container.parse(found.spelled) == found


def test_a_local_directory_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = Container(f"file://{tmp_path}/raw/")
    assert Container.parse("raw") == Container.parse("./raw/") == Container.parse(Path("raw")) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty; name a prefix"),
        ("s3://raw", "does not end with a slash; write s3://raw/"),
        ("s3://raw/a", "write s3://raw/a/"),
        ("file:///data", "write file:///data/"),
        ("s3:///", "names no bucket or host; write s3://NAME/"),
        ("s3:///a/", "names no bucket or host"),
        ("https:///a/", "names no bucket or host"),
        ("s4://raw/", "is of no storage that references lead into; there are 's3', 'gs'"),
        ("az://raw/", "is of no storage that references lead into"),
        ("S3://raw/", "is of no storage that references lead into; there are 's3', 'gs'"),
        ("https://Host/a/", "capital letters in 'Host'; write 'host'"),
        ("s3://raw/=regoin=x", "has no option 'regoin'; did you mean 'region'"),
        ("gs://raw/=region=x", "has no option 'region'; there are 'anonymous'"),
        ("https://h/=region=x", "has no option 'region'; leave out what follows https://h/"),
        ("file:///d/=anonymous=true", "has no option 'anonymous'; leave out"),
        ("s3://raw/=region", "is not OPTION=VALUE"),
        ("s3://raw/=", "is not OPTION=VALUE"),
        ("s3://raw/=region=", "is not OPTION=VALUE"),
        ("s3://raw/=region=a,region=b", "has region twice"),
        ("s3://raw/=anonymous=yes", "write anonymous=true"),
        ("s3://raw/=endpoint_url=h:9000", "write https://HOST"),
        ("file:///", "is all of the disk"),
        ("/", "is all of the disk"),
        ("file://host/data/", "of another host; write file:///host/data/"),
        ("file:///data/../etc/", "has '.' or '..' in it"),
        ("file:///data/%2e%2e/etc/", "has '.' or '..' in it"),
        ("../raw/", "has '..' in it"),
        ("s3://raw/a/../b/", "has '.' or '..' in it"),
        ("s3://raw/./b/", "has '.' or '..' in it"),
        ("s3://raw//b/", "an empty name between two slashes"),
        ("s3://raw/a b/", "URLs spell in two ways.*name a directory above"),
        ("s3://raw/%41/", "URLs spell in two ways"),
        ("s3://raw/ü/", "URLs spell in two ways"),
        ("/data/year=2020/", "URLs spell in two ways"),
        ("s3://raw/?x/", "has a query or a fragment"),
        ("https://h/a#b/", "has a query or a fragment"),
    ],
)
def test_what_is_no_container_is_refused_with_the_cure(text: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        Container.parse(text)


def test_a_file_is_no_container(tmp_path: Path) -> None:
    (tmp_path / "a.nc").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="is a file; name the directory that it lies in"):
        Container.parse(tmp_path / "a.nc")


@pytest.mark.parametrize(
    "text",
    [
        "s3://raw/=access_key_id=very-secret",
        "s3://raw/=secret_access_key=very-secret",
        "s3://raw/=session_token=very-secret,region=x",
        "s3://raw/=endpoint_url=http://user:very-secret@h",
        "s3://raw/=endpoint_url=http://h?token=very-secret",
        "https://user:very-secret@host/a/",
        "s3://very-secret@raw/",
        "https://host/a/?sig=very-secret/",
        "x://user:very-secret@host/",
    ],
)
def test_a_secret_in_a_container_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Container.parse(text)
    assert "very-secret" not in str(caught.value)


def test_a_container_in_a_plan_is_checked_as_well() -> None:
    assert msgspec.json.decode(msgspec.json.encode(Container("s3://raw/")), type=Container) == Container("s3://raw/")
    with pytest.raises(InvalidInputError, match="all of the disk"):
        msgspec.json.decode(b'{"prefix": "file:///"}', type=Container)


@given(st.text(max_size=20))
def test_whatever_is_said_is_a_container_or_refused(text: str) -> None:
    for whole in (text, f"s3://{text}", f"s3://raw/={text}", f"file:///{text}/"):
        try:
            found = Container.parse(whole)
        except InvalidInputError:
            continue
        assert found.prefix.endswith("/")
        assert found.covers(f"{found.prefix}a.nc")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://raw/a.nc", True),
        ("s3://raw/b/a.nc", True),
        ("s3://raw2/a.nc", False),
        ("s3://raw/", False),
        ("s3://ra", False),
        ("gs://raw/a.nc", False),
        ("s3://raw/../other/a.nc", False),
        ("s3://raw/%2e%2e/other/a.nc", False),
        ("s3://raw/a..nc", True),
    ],
)
def test_a_container_covers_what_lies_in_it(url: str, expected: bool) -> None:
    assert Container("s3://raw/").covers(url) is expected


def test_of_several_containers_the_longest_prefix_is_meant() -> None:
    wide, narrow, other = Container("s3://raw/"), Container("s3://raw/a/", "eu-west-1"), Container("s3://other/")
    for order in ([wide, narrow, other], [other, narrow, wide]):
        assert container_of("s3://raw/a/x.nc", order) == narrow
        assert container_of("s3://raw/b/x.nc", order) == wide
        assert container_of("s3://third/x.nc", order) is None


def test_one_prefix_with_two_options_is_refused() -> None:
    one, other = Container("s3://raw/", "a"), Container("s3://raw/", "b")
    assert distinct([Container("s3://z/"), one, one]) == (one, Container("s3://z/"))
    with pytest.raises(InvalidInputError, match="given twice, with different options"):
        distinct([one, other])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://raw/a/b.nc", "s3://raw/a/"),
        ("s3://raw/b.nc", "s3://raw/"),
        ("s3://raw/ü/c/b.nc", "s3://raw/"),
        ("file:///data/year%3D2020/b.nc", "file:///data/"),
        ("file:///b.nc", None),
        ("https://host/b.nc", "https://host/"),
        ("ftp://host/b.nc", None),
    ],
)
def test_a_file_says_which_container_it_needs(url: str, expected: str | None) -> None:
    assert enclosing(url) == expected
    assert expected is None or Container.parse(expected).covers(url)


KINDS = [
    Container("s3://raw/"),
    Container("s3://raw/", "eu-west-1", "http://h:9000"),
    Container("s3://raw/", anonymous=True),
    Container("gs://raw/"),
    Container("https://host/a/"),
    Container("http://host/a/"),
    Container("file:///data/raw/"),
]


@pytest.mark.parametrize("container", KINDS, ids=lambda one: one.spelled)
def test_icechunk_keeps_what_a_container_says(container: Container, tmp_path: Path) -> None:
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(declaration(container))
    access: dict[str, Any] = {container.prefix: credentials_of(container)}
    icechunk.Repository.create(storage, config=config, authorize_virtual_chunk_access=access)
    repo = icechunk.Repository.open(storage, authorize_virtual_chunk_access=access)
    assert repo.authorized_virtual_container_prefixes == {container.prefix}
    assert declared_in(repo.config) == {container.prefix: container}
    assert agreed(Container(container.prefix), repo.config, "r") == container
    assert agreed(container, repo.config, "r") == container


@pytest.mark.parametrize(
    ("declared", "asked", "says"),
    [
        (Container("s3://raw/", "a"), Container("s3://raw/", "b"), "region=a, and region=b is asked for"),
        (Container("s3://raw/"), Container("s3://raw/", "b"), "region=none, and region=b"),
        (Container("s3://raw/"), Container("s3://raw/", None, "http://h"), "endpoint_url=none"),
        (Container("s3://raw/"), Container("s3://raw/", anonymous=True), "anonymous=false, and anonymous=true"),
    ],
)
def test_a_prefix_has_one_storage(declared: Container, asked: Container, says: str) -> None:
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(declaration(declared))
    with pytest.raises(InvalidInputError, match=says):
        agreed(asked, config, "the repository")


def test_the_environment_says_what_a_container_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://h:1")
    assert settled(Container("s3://raw/")) == Container("s3://raw/", "eu-west-3", "http://h:1")
    assert settled(Container("s3://raw/", "a", "http://b")) == Container("s3://raw/", "a", "http://b")
    assert settled(Container("gs://raw/")) == Container("gs://raw/")
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(declaration(Container("s3://raw/", "a")))
    assert agreed(Container("s3://raw/"), config, "r") == Container("s3://raw/", "a")


FROM_ENV = icechunk.s3_credentials(from_env=True)


@pytest.mark.parametrize(
    "given",
    [
        "s3://raw/",
        Container("s3://raw/"),
        ["s3://raw/"],
        {"s3://raw/": None},
        {"s3://raw/": FROM_ENV},
        containers_credentials({"s3://raw/": FROM_ENV}),
        {Container("s3://raw/"): None},
        ["s3://raw/", "s3://raw/"],
    ],
    ids=["prefix", "container", "several", "none", "s3", "wrapped", "by-container", "twice"],
)
def test_containers_are_given_as_people_would_write_them(given: Any) -> None:
    (access,) = accesses_of(given).values()
    assert access.container == Container("s3://raw/")
    wrapped: Any = access.authorising
    assert isinstance(wrapped, Credentials.S3)
    assert isinstance(wrapped._0, icechunk.S3Credentials.FromEnv)  # noqa: SLF001 - there is no other way to look


def test_no_containers_are_none() -> None:
    assert accesses_of(None) == accesses_of([]) == accesses_of({}) == {}


def test_directories_and_urls_need_no_credentials(tmp_path: Path) -> None:
    found = accesses_of([tmp_path, "https://h/"])
    assert [one.authorising for one in found.values()] == [LocalFileSystemAccess, HttpAccess]
    assert list(found) == [f"file://{os.fspath(tmp_path)}/", "https://h/"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"s3://raw/": LocalFileSystemAccess}, r"for credentials; give icechunk.s3_credentials"),
        ({"s3://raw/": {"access_key_id": "very-secret"}}, "has a dict for credentials"),
        ({"s3://raw/": "very-secret"}, "has a str for credentials"),
        ({"file:///data/": FROM_ENV}, "LocalFileSystemAccess"),
        (7, "a container cannot be a int"),
        ([7], "a container cannot be a int"),
        ({"s3://raw": None}, "write s3://raw/"),
        (["s3://raw/", "s3://raw/=region=a"], "given twice, in different ways"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says) as caught:
        accesses_of(given)
    assert "very-secret" not in str(caught.value)
