"""The examination tries what a run needs; each check stands by itself, and leaves nothing behind."""

import json
import stat
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

import frazil
from frazil.cli import main
from frazil.doctor.account import _clock
from frazil.doctor.buckets import place
from frazil.runtime.connection import Connection

type Findings = dict[str, tuple[str, str]]
type Doctor = Callable[..., tuple[int, Findings, str]]

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # noqa: S105 - of AWS' documentation


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    def doctor(*arguments: str) -> tuple[int, Findings, str]:
        code = main(["doctor", *arguments, "--json"])
        said = capsys.readouterr()
        answer = json.loads(said.out)
        assert answer["ok"] == (code == 0)
        found = {one["check"]: (one["state"], one["said"]) for one in answer["findings"]}
        return code, found, said.out + said.err

    return doctor


@pytest.fixture
def lithops_config(bucket: Any, tmp_path: Path) -> Callable[..., str]:
    bucket.meta.client.create_bucket(Bucket="staging")

    def lithops_config(*, region: str = "us-east-1", staging: str = "staging", **own: object) -> str:
        file = tmp_path / "lithops.yaml"
        section = {
            "account_id": "123456789012",
            "user_id": "AIDAEXAMPLE",
            "execution_role": "arn:aws:iam::123456789012:role/frazil-worker",
            "runtime": "frazil:0.1.0",
            "runtime_memory": 2048,
            "runtime_timeout": 900,
        }
        config = {
            "lithops": {"backend": "aws_lambda", "storage": "aws_s3"},
            "aws": {"region": region},
            "aws_lambda": section | own,
            "aws_s3": {"storage_bucket": staging},
        }
        file.write_text(yaml.safe_dump(config))
        return str(file)

    return lithops_config


def test_this_machine_is_well(doctor: Doctor, target: Path) -> None:
    code, found, _ = doctor(str(target), "--backend", "localhost")
    assert code == 0, found
    assert {state for state, _ in found.values()} == {"ok"}
    assert set(found) == {"configuration", "repository", "temporary directory", "call", "versions"}
    assert not target.exists()


def test_each_finding_is_a_line(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(target), "--backend", "serial"]) == 0
    assert capsys.readouterr().out == f"ok       repository: there is none at {target} yet; the first run makes it\n"


def test_a_folder_that_holds_something_else_is_no_repository(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    code, found, _ = doctor(str(tmp_path), "--backend", "serial")
    assert code == 1
    assert found["repository"][0] == "wrong"
    assert "name another" in found["repository"][1]


def test_a_backend_that_does_not_exist_hides_nothing_else(doctor: Doctor, target: Path) -> None:
    code, found, _ = doctor(str(target), "--backend", "aws_lamda")
    assert code == 2
    assert "did you mean 'aws_lambda'" in found["configuration"][1]
    assert found["repository"][0] == "ok"
    assert found["call"][0] == "skipped"


def test_a_configuration_that_lacks_what_lithops_needs_is_bad_usage(
    doctor: Doctor, lithops_config: Callable[..., str], target: Path
) -> None:
    config = Path(lithops_config())
    said = yaml.safe_load(config.read_text())
    del said["aws_lambda"]["execution_role"]
    config.write_text(yaml.safe_dump(said))
    code, found, _ = doctor(str(target), "--backend", "aws_lambda", "--lithops-config", str(config))
    assert code == 2
    assert found["configuration"][0] == "wrong"
    assert '"execution_role" is mandatory' in found["configuration"][1]
    assert "Mend Lithops' configuration" in found["configuration"][1]
    assert found["repository"][0] == "ok"
    assert found["call"][0] == "skipped"


def test_a_repository_that_cannot_be_meant_is_bad_usage(bucket: Any) -> None:
    assert main(["doctor", "ftp://host/archive", "--backend", "serial"]) == 2


def test_permissions_in_s3_are_tried_and_nothing_is_left(doctor: Doctor, bucket: Any, series: Any, write: Any) -> None:
    frazil.convert(write([series(3)]), "s3://raw/archive", executor=frazil.SerialExecutor())
    before = {one.key: one.e_tag for one in bucket.objects.all()}
    code, found, _ = doctor("s3://raw/archive", "--backend", "serial")
    assert code == 0, found
    assert {"credentials", "endpoint", "clock", "bucket raw", "repository"} <= set(found)
    tried = "list, put, get, put if absent, tell absent, delete: tried"
    assert found["permissions in s3://raw/archive.frazil/"] == ("ok", tried)
    assert found["permissions in s3://raw/archive/"] == ("ok", "put: tried")
    assert "opens; main is at" in found["repository"][1]
    assert {one.key: one.e_tag for one in bucket.objects.all()} == before
    assert bucket.meta.client.list_multipart_uploads(Bucket="raw").get("Uploads", []) == []


def test_without_credentials_what_needs_them_is_skipped(
    doctor: Doctor, lithops_config: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = lithops_config()
    with monkeypatch.context() as changed:
        changed.delenv("AWS_ACCESS_KEY_ID")
        changed.delenv("AWS_SECRET_ACCESS_KEY")
        changed.setenv("AWS_EC2_METADATA_DISABLED", "true")
        code, found, _ = doctor("s3://raw/archive", "--backend", "aws_lambda", "--lithops-config", config)
    assert code == 1
    assert found["credentials"][0] == "wrong"
    assert "log in" in found["credentials"][1]
    assert [found[name][0] for name in ("endpoint", "clock", "configuration")] == ["ok"] * 3
    assert {found[name][0] for name in ("repository", "bucket staging", "metadata", "function", "call")} == {"skipped"}


def test_a_function_that_is_missing_leaves_the_rest_examined(
    doctor: Doctor, lithops_config: Callable[..., str]
) -> None:
    code, found, _ = doctor("s3://raw/archive", "--backend", "aws_lambda", "--lithops-config", lithops_config())
    assert code == 1
    assert {name for name, (state, _) in found.items() if state == "wrong"} == {"metadata", "function"}
    assert "frazil runtime deploy" in found["metadata"][1]
    assert found["call"][0] == "skipped"
    assert found["permissions in s3://staging/lithops.jobs/"][0] == "ok"


def test_a_bucket_that_is_missing_is_not_made(doctor: Doctor, lithops_config: Callable[..., str], bucket: Any) -> None:
    config = lithops_config(staging="absent")
    code, found, _ = doctor("s3://raw/archive", "--backend", "aws_lambda", "--lithops-config", config)
    assert code == 1
    assert "there is no bucket absent" in found["bucket absent"][1]
    assert found["bucket raw"][0] == "ok"
    assert {one["Name"] for one in bucket.meta.client.list_buckets()["Buckets"]} == {"raw", "staging"}


def test_a_bucket_of_another_region_is_named_with_both(doctor: Doctor, lithops_config: Callable[..., str]) -> None:
    config = lithops_config(region="eu-central-1")
    code, found, _ = doctor("--backend", "aws_lambda", "--lithops-config", config)
    assert code == 1
    says = (
        "s3://staging lies in us-east-1, and the region in Lithops' configuration is eu-central-1: set it to us-east-1"
    )
    assert found["bucket staging"] == ("wrong", says)


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("us-east-1", ("ok", "s3://raw in us-east-1")),
        (
            "eu-central-1",
            (
                "wrong",
                "s3://raw lies in us-east-1, and the region of the AWS profile is eu-central-1: set it to us-east-1",
            ),
        ),
    ],
)
def test_the_region_of_a_profile_counts_where_its_credentials_do(
    doctor: Doctor,
    bucket: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    region: str,
    expected: tuple[str, str],
) -> None:
    config, keys = tmp_path / "config", tmp_path / "credentials"
    config.write_text(f"[default]\nregion = {region}\n")
    keys.write_text("[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = example\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    _, found, _ = doctor("s3://raw/archive", "--backend", "serial")
    assert found["bucket raw"] == expected


def test_credentials_of_another_account_are_said_to_be(doctor: Doctor, lithops_config: Callable[..., str]) -> None:
    config = lithops_config(account_id="999999999999")
    _, found, _ = doctor("--backend", "aws_lambda", "--lithops-config", config)
    assert found["credentials"][0] == "wrong"
    assert "another account than 999999999999" in found["credentials"][1]


def test_keys_in_the_configuration_are_warned_of_and_not_shown(
    doctor: Doctor, lithops_config: Callable[..., str]
) -> None:
    config = lithops_config(access_key_id="AKIAIOSFODNN7EXAMPLE", secret_access_key=SECRET)
    _, found, said = doctor("--backend", "aws_lambda", "--lithops-config", config)
    assert found["configuration"][0] == "warning"
    assert "secret_access_key" in found["configuration"][1]
    assert said.count("remove them") == 2  # in the finding, and in a line of the log
    assert SECRET not in said


def test_keys_are_named_where_they_stand_and_not_where_lithops_copies_them(
    doctor: Doctor, lithops_config: Callable[..., str]
) -> None:
    file = Path(lithops_config())
    config = yaml.safe_load(file.read_text())
    config["aws"] |= {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": SECRET}
    file.write_text(yaml.safe_dump(config))
    _, found, _ = doctor("--backend", "aws_lambda", "--lithops-config", str(file))
    assert "holds aws.access_key_id, aws.secret_access_key, and travels" in found["configuration"][1]


class _Refusing(BaseHTTPRequestHandler):
    """S3 of others, which refuses without a word of the bucket's region."""

    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_bucket_that_refuses_is_not_said_to_be_there(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with monkeypatch.context() as changed:
            changed.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            (found,) = place(Connection("us-east-1"), "elsewhere", "us-east-1", "AWS_REGION")
        server.shutdown()
    assert found.state == "warning"
    assert "look at its name, or allow s3:ListBucket" in found.said


def test_a_configuration_without_a_user_is_warned_of(doctor: Doctor, lithops_config: Callable[..., str]) -> None:
    _, found, _ = doctor("--backend", "aws_lambda", "--lithops-config", lithops_config(user_id=None))
    assert found["names"][0] == "warning"
    assert "user_id" in found["names"][1]


@pytest.mark.parametrize(
    ("ahead", "state", "says"),
    [(0, "ok", "within"), (90, "warning", "90 s ahead"), (-90, "warning", "behind"), (600, "wrong", "AWS refuses")],
)
def test_a_clock_that_is_wrong_is_seen(ahead: int, state: str, says: str) -> None:
    real = 1_700_000_000.0
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(real))
    found = _clock({"date": date}, real + ahead, 0.05)
    assert (found.state, says in found.said) == (state, True), found


def test_a_storage_that_overwrites_is_unfit(
    doctor: Doctor, bucket: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Careless(BaseHTTPRequestHandler):
        """The server of the tests without the header that says not to overwrite."""

        def _pass_on(self) -> None:
            import urllib.error  # noqa: PLC0415 - of this test alone
            import urllib.request  # noqa: PLC0415 - as above

            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            headers = {name: value for name, value in self.headers.items() if name.lower() != "if-none-match"}
            request = urllib.request.Request(endpoint + self.path, body, headers, method=self.command)  # noqa: S310
            try:
                answer = urllib.request.urlopen(request)  # noqa: S310 - the server of the tests
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in {"content-length", "connection", "server", "date", "transfer-encoding"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 - as the base calls them

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Careless) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with monkeypatch.context() as changed:
            changed.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            code, found, _ = doctor("s3://raw/archive", "--backend", "serial")
        server.shutdown()
    assert code == 1
    state, said = found["permissions in s3://raw/archive.frazil/"]
    assert state == "wrong"
    assert "put if absent: the storage overwrites" in said
    assert list(bucket.objects.all()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel whom a directory belongs to")
def test_a_temporary_directory_that_cannot_be_written_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from frazil.doctor import functions  # noqa: PLC0415 - of this test alone

    gone = tmp_path / "gone"
    monkeypatch.setattr("tempfile.tempdir", str(gone))
    with pytest.raises(frazil.BackendError, match=r"gone cannot be written.*TMPDIR"):
        functions.temporary()
    gone.mkdir()
    gone.chmod(stat.S_IRWXU)
    assert functions.temporary() == f"{gone} can be written"
