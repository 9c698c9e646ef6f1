"""scripts/dev-swift as its users call it: exit codes, one-line errors, and a Swift that works."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import botocore.exceptions
import pytest
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from tests.support.swift import (
    DEV_SWIFT,
    GUEST_ACCESS_KEY,
    GUEST_SECRET_KEY,
    READER_ACCESS_KEY,
    READER_SECRET_KEY,
    SwiftServer,
    read_env,
    unique_bucket_name,
)

DEADLINE_S = 60


def dev_swift(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEV_SWIFT), *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def alive(pid: int) -> bool:
    """False for a zombie too: its command line is empty."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_refused(port: int) -> None:
    """Return when nobody listens there any more."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return
        assert time.monotonic() < deadline, f"port {port} still answers"
        time.sleep(0.05)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose server, if any, is ended with the test."""
    path = tmp_path / "swift data"
    yield path
    dev_swift("down", "--dir", str(path))


def test_round_trip(directory: Path) -> None:
    up = dev_swift("up", "--dir", str(directory), "--port", "0")
    assert (up.returncode, up.stderr) == (0, "")
    assert f"source {directory}/env" in up.stdout

    status = dev_swift("status", "--dir", str(directory))
    url = read_env(directory / "env")["AWS_ENDPOINT_URL"]
    assert status.returncode == 0
    assert url in status.stdout

    pid = int((directory / "swift.pid").read_text())
    down = dev_swift("down", "--dir", str(directory))
    assert down.returncode == 0
    assert not alive(pid)
    assert dev_swift("status", "--dir", str(directory)).returncode == 1
    assert (directory / "srv").is_dir()

    assert dev_swift("down", "--dir", str(directory), "--wipe").returncode == 0
    assert not directory.exists()


def test_env_is_for_a_shell_and_private(directory: Path) -> None:
    assert dev_swift("up", "--dir", str(directory), "--port", "0").returncode == 0
    env_file = directory / "env"
    assert env_file.stat().st_mode & 0o777 == 0o600
    script = '. "$1" && echo "$AWS_ACCESS_KEY_ID $AWS_REGION $AWS_DEFAULT_REGION" && env'
    said = subprocess.run(
        ["sh", "-c", script, "sh", str(env_file)], check=True, capture_output=True, text=True
    ).stdout
    assert said.splitlines()[0] == "test:tester RegionOne RegionOne"
    assert "\nAWS_ENDPOINT_URL=http://127.0.0.1:" in said


def test_up_twice_is_a_no_op(directory: Path) -> None:
    dev_swift("up", "--dir", str(directory), "--port", "0")
    pid = (directory / "swift.pid").read_text()
    again = dev_swift("up", "--dir", str(directory), "--port", "0")
    assert (again.returncode, again.stderr) == (0, "")
    assert "already" in again.stdout
    assert (directory / "swift.pid").read_text() == pid


def test_up_side_by_side_starts_one(directory: Path) -> None:
    command = [sys.executable, str(DEV_SWIFT), "up", "--dir", str(directory), "--port", "0"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=DEADLINE_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("already" in text for text in said) == 1


def test_down_frees_the_port(directory: Path) -> None:
    dev_swift("up", "--dir", str(directory), "--port", "0")
    port = read_env(directory / "env")["AWS_ENDPOINT_URL"].rpartition(":")[2]
    for _ in range(3):
        assert dev_swift("down", "--dir", str(directory)).returncode == 0
        up = dev_swift("up", "--dir", str(directory), "--port", port)
        assert (up.returncode, up.stderr) == (0, "")


def test_port_in_use_is_one_line(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up = dev_swift("up", "--dir", str(directory), "--port", str(port))
    assert up.returncode == os.EX_UNAVAILABLE
    assert len(up.stderr.splitlines()) == 1
    assert f"port {port}" in up.stderr
    assert "in use" in up.stderr


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    up = dev_swift("up", "--dir", str(file / "below"), "--port", "0")
    assert up.returncode == os.EX_CANTCREAT
    assert len(up.stderr.splitlines()) == 1


def test_down_leaves_a_stranger_alone(directory: Path) -> None:
    """A pid file that outlived its server may name any process by now."""
    directory.mkdir()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (directory / "swift.pid").write_text(f"{stranger.pid}\n")
        down = dev_swift("down", "--dir", str(directory))
        assert down.returncode == 0
        assert stranger.poll() is None
        stranger.terminate()


def test_wipe_removes_only_what_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    down = dev_swift("down", "--dir", str(tmp_path), "--wipe")
    assert down.returncode != 0
    assert (tmp_path / "thesis.tex").exists()


def test_usage_error_has_the_code_of_sysexits() -> None:
    assert dev_swift("up", "--port", "70000").returncode == os.EX_USAGE
    assert dev_swift("sideways").returncode == os.EX_USAGE


def test_foreground_ends_with_its_parent(tmp_path: Path) -> None:
    """A killed test run must leave no server behind."""
    server = SwiftServer.start(tmp_path)
    process = server._process
    assert process is not None
    process.kill()
    # The pipe that both share is still open in this process until here.
    server.stop()
    wait_until_refused(server.port)


def test_bucket_with_an_underscore(swift: SwiftServer) -> None:
    swift.make_bucket("my_bucket")
    names = [each["Name"] for each in swift.client.list_buckets()["Buckets"]]
    assert "my_bucket" in names


def test_odd_keys_come_back(swift: SwiftServer, bucket: str) -> None:
    odd = ["a b", "x\x01y", "..", "e\u0301", "\u00e9", "p/", "//", "100%2F+"]
    for key in odd:
        swift.put(bucket, key, key.encode())
    assert swift.keys(bucket) == sorted(odd, key=str.encode)
    assert all(swift.get(bucket, key) == key.encode() for key in odd)
    swift.delete_all(bucket)
    assert swift.keys(bucket) == []


@pytest.mark.parametrize(
    ("access_key", "secret_key", "reading", "writing"),
    [
        (READER_ACCESS_KEY, READER_SECRET_KEY, "NoSuchBucket", "AccessDenied"),
        (GUEST_ACCESS_KEY, GUEST_SECRET_KEY, "AccessDenied", "AccessDenied"),
        ("test:tester", "wrong", "SignatureDoesNotMatch", "SignatureDoesNotMatch"),
    ],
)
def test_others_are_kept_out(
    swift: SwiftServer, bucket: str, access_key: str, secret_key: str, reading: str, writing: str
) -> None:
    swift.put(bucket, "key", b"x")
    client = swift.client_for(access_key, secret_key)
    with pytest.raises(botocore.exceptions.ClientError, match=reading):
        client.get_object(Bucket=bucket, Key="key")
    with pytest.raises(botocore.exceptions.ClientError, match=writing):
        client.put_object(Bucket=bucket, Key="key", Body=b"y")


def test_multipart_upload(swift: SwiftServer, bucket: str) -> None:
    client = swift.client
    whole = {"Bucket": bucket, "Key": "big"}
    upload = {**whole, "UploadId": client.create_multipart_upload(**whole)["UploadId"]}
    bodies = [b"a" * (5 << 20), b"b"]
    parts = [
        {
            "ETag": client.upload_part(**upload, PartNumber=number, Body=body)["ETag"],
            "PartNumber": number,
        }
        for number, body in enumerate(bodies, start=1)
    ]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert swift.get(bucket, "big") == b"".join(bodies)


def test_restart_keeps_port_and_data(tmp_path: Path) -> None:
    server = SwiftServer.start(tmp_path)
    try:
        bucket = server.make_bucket(unique_bucket_name())
        server.put(bucket, "key", b"value")
        where, first_pid = server.endpoint_url, server.pid
        server.stop()
        assert not alive(first_pid)
        server.restart()
        assert server.endpoint_url == where == read_env(tmp_path / "env")["AWS_ENDPOINT_URL"]
        assert server.pid != first_pid
        assert server.get(bucket, "key") == b"value"
        server.suspend()
    finally:
        server.stop()
    assert not alive(server.pid)


@pytest.mark.slow
def test_keystone(tmp_path: Path) -> None:
    server = SwiftServer.start(tmp_path, keystone=True)
    try:
        bucket = server.make_bucket(unique_bucket_name())
        server.put(bucket, "key", b"value")
        # Keystone's own port is another one now, and the catalogue and the pipeline must know.
        server.restart()
        assert server.get(bucket, "key") == b"value"

        env = read_env(tmp_path / "env")
        session = Session(
            v3.Password(
                env["OS_AUTH_URL"],
                username=env["OS_USERNAME"],
                password=env["OS_PASSWORD"],
                project_name=env["OS_PROJECT_NAME"],
                user_domain_name=env["OS_USER_DOMAIN_NAME"],
                project_domain_name=env["OS_PROJECT_DOMAIN_NAME"],
            )
        )
        keys = session.get(
            f"/users/{session.get_user_id()}/credentials/OS-EC2",
            endpoint_filter={"service_type": "identity", "interface": "public"},
        ).json()["credentials"]
        assert [key["access"] for key in keys] == [env["AWS_ACCESS_KEY_ID"]]
        listing = session.get(
            "", endpoint_filter={"service_type": "object-store", "region_name": "RegionOne"}
        )
        assert bucket in listing.text.splitlines()
    finally:
        server.stop()
