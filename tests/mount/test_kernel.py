"""What the kernel keeps of a mount, and what it is told: with times so long that nothing is seen
because a time was over.

A second client writes through the S3 endpoint. What the kernel asks is counted by the daemon's
reads of /dev/fuse.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount.conftest import Live
from tests.support.mounts import FAST, Mount, run, wait_until
from tests.support.swift import SwiftServer, unique_bucket_name

DATA = Path(__file__).parents[1] / "data"
MIB = 1024**2
#: No test lasts so long.
KEPT = "mount.attr_s=3600"


@pytest.fixture(scope="module")
def shared_mount(binding: str, swift: SwiftServer, scratch: Path) -> Iterator[Live]:
    bucket = swift.make_bucket(unique_bucket_name())
    path = scratch / f"k-{binding}"
    mount = Mount.start(
        f"s3://{bucket}", path, env=swift.env, binding=binding, options=(*FAST, KEPT)
    )
    try:
        yield Live(swift, bucket, mount)
        mount.stop()
    finally:
        mount.clean_up()


def replace(live: Live, key: str, data: bytes) -> None:
    """Another client overwrites an object; nothing waits for the mount."""
    live.swift.put(live.bucket, f"{live.here.name}/{key}", data)


def remove(live: Live, key: str) -> None:
    live.swift.delete(live.bucket, f"{live.here.name}/{key}")


def beside(live: Live, question: Callable[[], object]) -> Callable[[], object]:
    """`question`, after the daemon has had to look at the directory for another name."""

    def ask() -> object:
        assert not (live.here / "absent").exists()
        return question()

    return ask


def reads(path: Path, data: bytes) -> Callable[[], bool]:
    """Whether a program that opens it now reads `data`: by its size, and beyond it. ESTALE says
    that it should ask again."""

    def check() -> bool:
        try:
            with path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                return b"".join((file.read(size), file.read(1))) == data
        except OSError as error:
            assert error.errno == errno.ESTALE
            return False

    return check


def asked(mount: Mount) -> int:
    """How often the daemon has read from anything: once for each request of the kernel."""
    lines = Path(f"/proc/{mount.pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("syscr"))


# What other clients change -----------------------------------------------------------------


def test_a_size_that_changed_elsewhere_is_told_to_the_kernel(live: Live) -> None:
    live.put("f", b"short")
    assert (live.here / "f").stat().st_size == 5
    replace(live, "f", b"much longer")
    wait_until(beside(live, lambda: (live.here / "f").stat().st_size == 11), "the new size")


def test_a_name_that_vanished_elsewhere_can_be_made_again(live: Live) -> None:
    live.put("f", b"data")
    remove(live, "f")
    wait_until(beside(live, lambda: not (live.here / "f").exists()), "the file to vanish")
    (live.here / "f").mkdir()
    assert (live.here / "f").is_dir()


def test_a_file_that_became_a_directory_elsewhere(live: Live) -> None:
    live.put("f", b"data")
    remove(live, "f")
    replace(live, "f/below", b"data")
    wait_until(beside(live, (live.here / "f").is_dir), "the directory")
    assert (live.here / "f/below").read_bytes() == b"data"


def test_an_object_that_grew_behind_a_cached_stat_is_read_whole(live: Live) -> None:
    """facts: fuse h: the kernel would cut it at the size that it knows."""
    live.put("f", b"a" * 600_000)
    assert (live.here / "f").stat().st_size == 600_000
    replace(live, "f", b"b" * 700_000)
    wait_until(reads(live.here / "f", b"b" * 700_000), "a new open to read all of it")
    replace(live, "f", b"c" * 500_000)
    wait_until(reads(live.here / "f", b"c" * 500_000), "and no more than there is")


def test_same_size_and_time_by_two_handles_and_a_third(live: Live) -> None:
    """facts: fuse e to g: what one handle has read is never shown to another version's."""
    old, new = b"a" * MIB, b"b" * MIB
    live.put("f", old)
    first = os.open(live.here / "f", os.O_RDONLY)
    assert os.pread(first, MIB // 2, 0) == old[: MIB // 2]
    replace(live, "f", new)
    wait_until(reads(live.here / "f", new), "a new open to see the new version")
    second = os.open(live.here / "f", os.O_RDONLY)
    assert os.pread(second, MIB // 2, 0) == new[: MIB // 2]
    assert os.pread(first, MIB, 0) == old, "all of the version that it was opened at"
    assert os.pread(second, MIB, 0) == new
    os.close(first)
    os.close(second)
    assert reads(live.here / "f", new)()
    assert reads(live.here / "f", new)(), "and again, from the kernel's pages"


def test_an_open_file_that_was_replaced_goes_on_or_is_stale(live: Live) -> None:
    old, new = b"a" * (40 * MIB), b"b" * (40 * MIB)
    live.put("f", old)
    fd = os.open(live.here / "f", os.O_RDONLY)
    try:
        assert os.pread(fd, MIB, 0) == old[:MIB]
        replace(live, "f", new)
        for start in range(0, 40 * MIB, MIB):
            try:
                assert os.pread(fd, MIB, start) == old[:MIB]
            except OSError as error:
                assert error.errno == errno.ESTALE
    finally:
        os.close(fd)
    wait_until(reads(live.here / "f", new), "a new open to see the new version")


# What the daemon does itself ---------------------------------------------------------------


def test_a_conversion_is_seen_at_once_behind_a_cached_absence(live: Live) -> None:
    store = live.here / "sst.zarr"
    for _ in range(3):
        assert not store.exists() and not (store / ".zmetadata").exists()
    shutil.copy(DATA / "sst.mnmean.nc", live.drop / "sst.nc")
    assert (store / ".zmetadata").stat().st_size > 0
    assert "sst.zarr" in os.listdir(live.here)


def test_an_error_text_goes_when_its_file_goes(live: Live) -> None:
    file, text = live.drop / "bad.nc", live.drop / "bad.nc.error.txt"
    with pytest.raises(OSError):
        shutil.copyfile(__file__, file)
    assert text.stat().st_size == len(text.read_bytes()) > 0
    assert file.stat().st_size == Path(__file__).stat().st_size
    shutil.copyfile(DATA / "sst.mnmean.nc", file)
    wait_until(lambda: not text.exists(), "the error text to go with its error")
    assert file.stat().st_size == (DATA / "sst.mnmean.nc").stat().st_size
    with pytest.raises(OSError):
        shutil.copyfile(__file__, live.drop / "worse.nc")
    assert (live.drop / "worse.nc.error.txt").exists()
    (live.drop / "worse.nc").unlink()
    wait_until(lambda: not (live.drop / "worse.nc.error.txt").exists(), "the other text to go")


def test_a_directory_that_goes_is_gone_in_the_drop_box_as_well(live: Live) -> None:
    for first, other in ((live.here, live.drop), (live.drop, live.here)):
        (first / "d").mkdir()
        assert (other / "d").is_dir()
        (first / "d").rmdir()
        wait_until(lambda there=other: not (there / "d").exists(), "the directory to go")
        (other / "d").mkdir()
        (other / "d").rmdir()


def test_a_published_temporary_is_a_file_like_any_other(
    start: Callable[..., Mount], swift: SwiftServer, bucket: str, binding: str
) -> None:
    options = (*FAST, KEPT, "spool.settle_s=0.2")
    mount = start(f"s3://{bucket}", binding=binding, options=options)
    name = mount.path / ".data.Ab12Cd"  # as rsync makes them
    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    os.write(fd, b"whole")
    os.close(fd)
    assert name.stat().st_size == 5
    wait_until(lambda: swift.keys(bucket) == [name.name], "its publication")
    assert (name.stat().st_size, name.read_bytes()) == (5, b"whole")
    assert name.name in os.listdir(mount.path)
    mount.stop()


def test_a_close_that_failed_leaves_the_buckets_size(
    start: Callable[..., Mount], tmp_path: Path, binding: str
) -> None:
    swift = SwiftServer.start(tmp_path / "swift")
    try:
        bucket = swift.make_bucket("refuses")
        swift.put(bucket, "f", b"old")
        mount = start(f"s3://{bucket}", env=swift.env, binding=binding, options=(*FAST, KEPT))
        mount.expect("request failed|the bucket is offline|failed with nobody to tell")
        assert (mount.path / "f").stat().st_size == 3
        fd = os.open(mount.path / "f", os.O_RDWR)
        os.write(fd, b"much longer")
        assert os.fstat(fd).st_size == (mount.path / "f").stat().st_size == 11
        swift.stop()
        with pytest.raises(OSError):
            os.close(fd)
        swift.restart()
        wait_until(lambda: size_of(mount.path / "f") == 3, "the bucket's size")
        wait_until(reads(mount.path / "f", b"old"), "the bucket's bytes")
        mount.stop()
    finally:
        swift.stop()


def size_of(path: Path) -> int | None:
    """None while the bucket does not answer again."""
    try:
        return path.stat().st_size
    except OSError as error:
        assert error.errno == errno.EIO
        return None


def test_times_that_programs_give_are_shown_at_once(live: Live) -> None:
    path = live.here / "f"
    path.write_bytes(b"data")
    for time in (10**18, 5 * 10**17):
        os.utime(path, ns=(time, time))
        assert path.stat().st_mtime_ns == time


def test_a_file_that_another_handle_writes_shows_its_size(live: Live) -> None:
    path = live.here / "f"
    with path.open("wb", buffering=0) as file:
        for count in range(1, 4):
            file.write(b"x" * 1000)
            assert path.stat().st_size == count * 1000
        os.truncate(path, 500)
        assert os.fstat(file.fileno()).st_size == path.stat().st_size == 500
    assert live.get("f") == b"x" * 500


# What the kernel is not to ask, and how much at once ---------------------------------------


def test_stat_shows_pieces_of_a_mebibyte_and_exact_sizes(live: Live) -> None:
    (live.here / "f").write_bytes(b"x" * 1001)
    assert run("stat", "-c", "%o %s", live.here / "f").stdout.split() == [str(MIB), "1001"]


def test_extended_attributes_are_asked_for_once_at_most(live: Live) -> None:
    (live.here / "f").write_bytes(b"x")
    with pytest.raises(OSError) as refused:
        os.getxattr(live.here / "f", "user.any")
    assert refused.value.errno == errno.EOPNOTSUPP
    before = asked(live.mount)
    for _ in range(200):
        with pytest.raises(OSError):
            os.getxattr(live.here / "f", "user.any")
    assert asked(live.mount) - before < 100


def test_what_the_kernel_knows_it_does_not_ask_again(live: Live) -> None:
    (live.here / "f").write_bytes(b"x")
    (live.here / "f").stat()
    before = asked(live.mount)
    for _ in range(200):
        (live.here / "f").stat()
    assert asked(live.mount) - before < 100


def test_writes_arrive_in_large_pieces(live: Live) -> None:
    """4 kB each would be 4096 requests."""
    before = asked(live.mount)
    with (live.here / "f").open("wb", buffering=0) as file:
        file.write(b"x" * (16 * MIB))
        assert asked(live.mount) - before < 1000


def test_the_kernel_reads_ahead_as_far_as_it_may(live: Live) -> None:
    device = live.mount.path.stat().st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    assert int(setting.read_text()) == (1024 if os.getuid() == 0 else 128)


# --immutable -------------------------------------------------------------------------------


@pytest.fixture
def immutable(
    start: Callable[..., Mount], swift: SwiftServer, bucket: str, binding: str
) -> Callable[[dict[str, bytes]], Mount]:
    """Mounts a bucket of these objects as one that does not change."""

    def mounted(objects: dict[str, bytes]) -> Mount:
        for key, data in objects.items():
            swift.put(bucket, key, data)
        return start(f"s3://{bucket}", "--immutable", binding=binding)

    return mounted


def test_an_immutable_bucket_is_read_from_the_kernel_alone(
    immutable: Callable[[dict[str, bytes]], Mount],
) -> None:
    data = os.urandom(3 * MIB)
    mount = immutable({"d/f": data, "d/empty": b""})
    assert sorted(os.listdir(mount.path)) == ["d"]
    assert (mount.path / "d/empty").read_bytes() == b""
    assert whole(mount.path / "d/f") == data
    assert not (mount.path / "d/absent").exists()
    before = asked(mount)
    for _ in range(200):
        assert whole(mount.path / "d/f") == data
        assert not (mount.path / "d/absent").exists()
    assert asked(mount) - before < 100, "no open, no read, no close, no look-up reaches the daemon"
    mount.stop()


def test_an_immutable_bucket_is_not_listed_again(
    immutable: Callable[[dict[str, bytes]], Mount], swift: SwiftServer, bucket: str
) -> None:
    mount = immutable({"d/f": b"data"})
    assert os.listdir(mount.path / "d") == ["f"]
    requests = mount.requests()
    swift.put(bucket, "d/later", b"data")
    wait_until(lambda: "d/later" in swift.keys(bucket), "the bucket to list it")
    assert os.listdir(mount.path / "d") == ["f"]
    assert mount.requests() == requests
    mount.stop()


def test_an_immutable_bucket_takes_no_writes(
    immutable: Callable[[dict[str, bytes]], Mount], swift: SwiftServer, bucket: str
) -> None:
    mount = immutable({"f": b"data"})
    for change in (
        lambda: (mount.path / "new").write_bytes(b"x"),
        lambda: (mount.path / "f").write_bytes(b"x"),
        lambda: (mount.path / "f").unlink(),
        lambda: (mount.path / "d").mkdir(),
        lambda: os.truncate(mount.path / "f", 0),
    ):
        with pytest.raises(OSError) as refused:
            change()
        assert refused.value.errno == errno.EROFS
    assert swift.get(bucket, "f") == b"data"
    assert mount.status()["read_only"]
    mount.stop()


def test_an_immutable_bucket_that_changes_mixes_no_page(
    immutable: Callable[[dict[str, bytes]], Mount], swift: SwiftServer, bucket: str
) -> None:
    """The promise was broken: each page is of one version or ESTALE, and the rest is soon new."""
    mount = immutable({"f": b"a" * (40 * MIB)})
    fd = os.open(mount.path / "f", os.O_RDONLY)
    try:
        assert os.pread(fd, 4096, 0) == b"a" * 4096
        swift.put(bucket, "f", b"b" * (40 * MIB))
        wait_until(lambda: page(fd, 39 * MIB) == b"b" * 4096, "the new version")
        for start in range(0, 40 * MIB, 4096):
            assert page(fd, start) in (b"a" * 4096, b"b" * 4096, None)
    finally:
        os.close(fd)
    mount.stop()


def page(fd: int, start: int) -> bytes | None:
    """Of the kernel's; None if its version is gone."""
    try:
        return os.pread(fd, 4096, start)
    except OSError as error:
        assert error.errno == errno.ESTALE
        return None


def whole(path: Path) -> bytes:
    """As C programs read. Python's open() asks whether it is a terminal, which the daemon's libfuse
    must answer."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)
