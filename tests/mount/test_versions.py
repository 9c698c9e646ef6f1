"""A read is bytes of exactly one version, whatever other clients do meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.conftest import Live
from tests.support.mounts import FAST, Mount, wait_until
from tests.support.swift import SwiftServer

MIB = 1024**2


def replace(live: Live, key: str, data: bytes) -> None:
    """Another client overwrites an object; nothing waits for the mount."""
    live.swift.put(live.bucket, f"{live.here.name}/{key}", data)


def sees(path: Path, data: bytes) -> Callable[[], bool]:
    """Whether a program that opens it now reads `data`; ESTALE says that it should ask again."""

    def check() -> bool:
        try:
            return path.read_bytes() == data
        except OSError as error:
            assert error.errno == errno.ESTALE
            return False

    return check


def test_an_object_replaced_while_it_is_read(live: Live) -> None:
    """A large object, so that what is not read yet is not cached either."""
    old, new = b"a" * (40 * MIB), b"b" * (40 * MIB)
    live.put("f", old)
    with (live.here / "f").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 4096, 0) == old[:4096]
        replace(live, "f", new)
        with pytest.raises(OSError) as stale:
            os.pread(file.fileno(), MIB, 39 * MIB)
        assert stale.value.errno == errno.ESTALE
    wait_until(sees(live.here / "f", new), "the new version")


def test_same_size_and_time_another_version(live: Live) -> None:
    """Two handles of two versions, and a third after both (facts: fuse e to g)."""
    old, new = b"a" * MIB, b"b" * MIB
    live.put("f", old)
    first = os.open(live.here / "f", os.O_RDONLY)
    assert os.pread(first, MIB // 2, 0) == old[: MIB // 2]
    replace(live, "f", new)
    wait_until(sees(live.here / "f", new), "a new open to see the new version")
    second = os.open(live.here / "f", os.O_RDONLY)
    assert os.pread(second, MIB // 2, 0) == new[: MIB // 2]
    assert os.pread(first, MIB, 0) == old, "all of the version that it was opened at"
    assert os.pread(second, MIB, 0) == new
    os.close(first)
    os.close(second)
    assert (live.here / "f").read_bytes() == new


def test_an_object_that_grew_is_not_cut_at_its_old_size(live: Live) -> None:
    live.put("f", b"a" * 6000)
    assert (live.here / "f").stat().st_size == 6000
    replace(live, "f", b"b" * 7000)
    wait_until(sees(live.here / "f", b"b" * 7000), "the whole of the new version")
    for size in (8000, 5000, 9000):
        replace(live, "f", b"c" * size)
        wait_until(sees(live.here / "f", b"c" * size), f"{size} bytes")


def test_a_second_read_does_not_ask_the_bucket(live: Live) -> None:
    live.put("f", b"x" * MIB)
    assert len((live.here / "f").read_bytes()) == MIB
    gets = live.mount.requests()["get"]
    assert len((live.here / "f").read_bytes()) == MIB
    assert live.mount.requests()["get"] == gets


def test_the_cache_survives_the_mount(
    start: Callable[..., Mount], swift: SwiftServer, bucket: str, binding: str
) -> None:
    swift.put(bucket, "f", b"x" * MIB)
    mount = start(f"s3://{bucket}", binding=binding)
    assert len((mount.path / "f").read_bytes()) == MIB
    mount.stop()
    again = start(f"s3://{bucket}", binding=binding)
    assert len((again.path / "f").read_bytes()) == MIB
    assert "get" not in again.requests()
    again.stop()


def test_a_new_object_is_seen_behind_an_absence(live: Live) -> None:
    for _ in range(3):
        assert not (live.here / "later").exists()
    replace(live, "later", b"here")
    wait_until((live.here / "later").exists, "the new object")
    assert (live.here / "later").read_bytes() == b"here"


def copy_multipart(swift: SwiftServer, bucket: str, key: str, parts: list[bytes]) -> None:
    """Another client uploads `key` in parts, and copies it to `key`-copy."""
    client, it = swift.client, {"Bucket": bucket, "Key": key}
    upload = client.create_multipart_upload(**it)["UploadId"]
    done = []
    for number, part in enumerate(parts, 1):
        answer = client.upload_part(**it, UploadId=upload, PartNumber=number, Body=part)
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    client.complete_multipart_upload(**it, UploadId=upload, MultipartUpload={"Parts": done})
    client.copy_object(Bucket=bucket, Key=f"{key}-copy", CopySource=it)


def test_a_copied_multipart_object_is_read(live: Live) -> None:
    """Its listing has another form of the ETag than HEAD and GET (facts: swift 1.1)."""
    parts = [b"a" * (5 * MIB), b"b" * MIB]
    copy_multipart(live.swift, live.bucket, f"{live.here.name}/whole", parts)
    wait_until((live.here / "whole-copy").exists, "the copy")
    assert (live.here / "whole-copy").read_bytes() == b"".join(parts)
    assert (live.here / "whole").read_bytes() == b"".join(parts)
    os.rename(live.here / "whole-copy", live.here / "moved")
    assert (live.here / "moved").read_bytes() == b"".join(parts)


def test_a_large_copied_multipart_object_is_one_version_in_all_its_pieces(
    start: Callable[..., Mount], swift: SwiftServer, bucket: str, tmp_path: Path, binding: str
) -> None:
    """First reads, later ones, those ahead, and those from the disk after a remount."""
    options = [*FAST, "cache.whole_bytes=1MiB", f"cache.directory={tmp_path / 'cache'}"]
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB), os.urandom(2 * MIB)]
    copy_multipart(swift, bucket, "f", parts)
    data = b"".join(parts)
    mount = start(f"s3://{bucket}", binding=binding, options=options)
    with (mount.path / "f-copy").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 4096, 9 * MIB) == data[9 * MIB :][:4096]
        assert os.pread(file.fileno(), 4096, 3 * MIB) == data[3 * MIB :][:4096]
    few = mount.status()["cache"]["fetched_bytes"]
    assert few < MIB
    assert (mount.path / "f-copy").read_bytes() == data
    assert mount.status()["cache"]["prefetch_fetched"] > 0
    mount.stop()
    again = start(f"s3://{bucket}", binding=binding, options=options)
    assert (again.path / "f-copy").read_bytes() == data
    assert again.status()["cache"]["fetched_bytes"] == 0
    again.stop()


def test_a_copied_multipart_object_that_was_replaced_is_stale(
    start: Callable[..., Mount], swift: SwiftServer, bucket: str, binding: str
) -> None:
    """By another of that kind, of the same size: its HEAD must not be taken for the other form."""
    options = [*FAST, "cache.whole_bytes=1MiB", "prefetch.at_once=0"]
    old, new = [b"a" * (5 * MIB), b"b" * MIB], [b"c" * (5 * MIB), b"d" * MIB]
    copy_multipart(swift, bucket, "f", old)
    mount = start(f"s3://{bucket}", binding=binding, options=options)
    path = mount.path / "f-copy"
    with path.open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 4096, 0) == b"a" * 4096
        copy_multipart(swift, bucket, "f", new)
        with pytest.raises(OSError) as stale:
            os.pread(file.fileno(), 4096, 3 * MIB)
        assert stale.value.errno == errno.ESTALE
    wait_until(sees(path, b"".join(new)), "the new version")
    mount.stop()


def test_a_bucket_that_fails_is_an_error_and_no_absence(
    start: Callable[..., Mount], tmp_path: Path, binding: str
) -> None:
    swift = SwiftServer.start(tmp_path / "swift")
    try:
        bucket = swift.make_bucket("fails")
        swift.put(bucket, "cached", b"cached")
        swift.put(bucket, "d/other", b"other")
        mount = start(f"s3://{bucket}", env=swift.env, binding=binding)
        mount.expect("request failed|the bucket is offline")
        assert (mount.path / "cached").read_bytes() == b"cached"
        swift.stop()
        for question in (
            lambda: (mount.path / "d/other").read_bytes(),
            lambda: os.listdir(mount.path / "d"),
            lambda: (mount.path / "new").write_bytes(b"new"),
            lambda: (mount.path / "d/absent").stat(),
        ):
            with pytest.raises(OSError) as failed:
                question()
            assert failed.value.errno == errno.EIO
        swift.restart()
        wait_until((mount.path / "d/other").exists, "the bucket to answer again")
        assert (mount.path / "d/other").read_bytes() == b"other"
        (mount.path / "new").write_bytes(b"new")
        assert swift.get(bucket, "new") == b"new"
        mount.stop()
    finally:
        swift.stop()
