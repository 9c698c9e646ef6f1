"""What everyday programs do on the mount, against real Swift: the bytes are the judge."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.mount.conftest import Live
from tests.support.mounts import run, shell, wait_until

DATA = Path(__file__).parents[1] / "data"


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def test_ls_find_cat_and_md5sum_see_what_is_in_the_bucket(live: Live) -> None:
    live.put("a/one.txt", b"one\n")
    live.put("a/b/two words.txt", "zwei: größer\n".encode())
    live.put("a/empty", b"")
    assert run("cat", live.here / "a/b/two words.txt").stdout == "zwei: größer\n"
    names = run("find", ".", cwd=live.here).stdout.split("\n")
    assert sorted(filter(None, names)) == [
        ".", "./a", "./a/b", "./a/b/two words.txt", "./a/empty", "./a/one.txt",
    ]  # fmt: skip
    listing = run("ls", "-la", live.here / "a").stdout
    lines = {line.split()[-1]: line.split() for line in listing.splitlines()[1:]}
    assert set(lines) == {".", "..", "b", "empty", "one.txt"}
    assert lines["one.txt"][4] == "4" and lines["one.txt"][0] == "-rw-r--r--"
    assert lines["b"][0] == "drwxr-xr-x" and lines["empty"][4] == "0"
    said = run("md5sum", live.here / "a/one.txt").stdout.split()[0]
    assert said == md5(b"one\n")


def test_cp_of_a_file_in_and_out_keeps_every_byte(live: Live, tmp_path: Path) -> None:
    source = DATA / "sst.mnmean.nc"
    run("cp", source, live.here / "x.nc")
    assert live.get("x.nc") == source.read_bytes()
    run("cp", live.here / "x.nc", tmp_path / "back.nc")
    assert (tmp_path / "back.nc").read_bytes() == source.read_bytes()
    assert run("md5sum", live.here / "x.nc").stdout.split()[0] == md5(source.read_bytes())


def test_cp_r_and_rm_r_of_a_tree(live: Live, tmp_path: Path) -> None:
    tree = tmp_path / "store.zarr"
    for n in range(12):
        (tree / f"v{n % 3}").mkdir(parents=True, exist_ok=True)
        (tree / f"v{n % 3}" / f"{n}.0").write_bytes(os.urandom(3000 + n))
    run("cp", "-r", tree, live.here)
    assert len(live.stored()) == 12
    run("cp", "-r", live.here / "store.zarr", tmp_path / "back")
    assert run("diff", "-r", tree, tmp_path / "back").stdout == ""
    run("rm", "-r", live.here / "store.zarr")
    assert live.stored() == []
    assert list(live.here.iterdir()) == []
    run("cp", "-r", tree, live.here)  # the same names at once
    assert len(live.stored()) == 12


def test_mv_of_a_file_is_a_copy_and_a_delete_in_the_bucket(live: Live) -> None:
    live.put("old.txt", b"bytes")
    run("mv", live.here / "old.txt", live.here / "new.txt")
    assert live.stored() == ["new.txt"] and live.get("new.txt") == b"bytes"
    (live.here / "other.txt").write_bytes(b"other")
    run("mv", "-f", live.here / "other.txt", live.here / "new.txt")
    assert live.stored() == ["new.txt"] and live.get("new.txt") == b"other"


def test_mv_of_a_directory_moves_what_is_in_it(live: Live) -> None:
    for key in ("s/.zgroup", "s/v/.zarray", "s/v/0.0", "s/v/0.1"):
        live.put(key, key.encode())
    (live.here / "s/empty").mkdir()
    run("mv", live.here / "s", live.here / "t")
    assert live.stored() == ["t/.zgroup", "t/v/.zarray", "t/v/0.0", "t/v/0.1"]
    assert live.get("t/v/0.1") == b"s/v/0.1"
    assert (live.here / "t/empty").is_dir() and not (live.here / "s").exists()


def test_mkdir_and_rmdir(live: Live) -> None:
    (live.here / "d/e").mkdir(parents=True)
    assert (live.here / "d/e").is_dir()
    with pytest.raises(FileExistsError):
        (live.here / "d").mkdir()
    with pytest.raises(OSError) as refused:
        (live.here / "d").rmdir()
    assert refused.value.errno == errno.ENOTEMPTY
    (live.here / "d/e").rmdir()
    (live.here / "d").rmdir()
    assert not (live.here / "d").exists()
    assert live.stored() == []


def test_a_marker_object_is_a_directory_and_rmdir_removes_it(live: Live) -> None:
    live.put("made/", b"")
    assert (live.here / "made").is_dir() and os.listdir(live.here / "made") == []
    (live.here / "made").rmdir()
    assert live.stored() == []


@pytest.mark.parametrize("how", ["--inplace", "--whole-file"])
def test_rsync_copies_and_finds_nothing_to_do_the_second_time(live: Live, how: str) -> None:
    command = ["rsync", "-a", how, "--stats", f"{DATA}/", f"{live.here}/in/"]
    run(*command)
    names = sorted(path.name for path in DATA.iterdir())
    assert live.stored() == [f"in/{name}" for name in names]
    for name in names:
        assert live.get(f"in/{name}") == (DATA / name).read_bytes()
    assert "Number of regular files transferred: 0" in run(*command).stdout


def test_shell_programs_publish_whole_files_only(live: Live, tmp_path: Path) -> None:
    """They flush in the middle (facts: fuse k); the bucket never sees a part."""
    data = os.urandom(300_000)
    (tmp_path / "data").write_bytes(data)
    puts = live.mount.requests().get("put", 0)
    shell(f"cat {tmp_path}/data > cat.out", cwd=live.here)
    shell(f"dd if={tmp_path}/data of=dd.out bs=10000 status=none", cwd=live.here)
    shell(f"( head -c 100000 {tmp_path}/data; tail -c +100001 {tmp_path}/data ) > sub.out",
          cwd=live.here)  # fmt: skip
    wait_until(lambda: "sub.out" in live.stored(), "the last release")
    assert live.stored() == ["cat.out", "dd.out", "sub.out"]
    assert [live.get(key) for key in live.stored()] == [data] * 3
    assert live.mount.requests()["put"] - puts == 3, "each was published once, whole"


def test_a_file_that_is_written_anew_is_never_seen_empty(live: Live) -> None:
    for name in ("cat", "dd", "truncated"):
        live.put(name, b"old")
    puts = live.mount.requests().get("put", 0)
    shell("echo new | cat > cat; echo new | dd of=dd status=none", cwd=live.here)
    with (live.here / "truncated").open("r+b") as file:
        os.ftruncate(file.fileno(), 0)
        os.close(os.dup(file.fileno()))  # as a shell's redirection does
        assert live.get("truncated") == b"old"
        file.write(b"new\n")
    wait_until(lambda: live.get("dd") == b"new\n", "the last release")
    assert [live.get(name) for name in ("cat", "dd", "truncated")] == [b"new\n"] * 3
    assert live.mount.requests()["put"] - puts == 3


def test_touch_publishes_an_empty_object(live: Live) -> None:
    shell("touch empty; : > also", cwd=live.here)
    wait_until(lambda: live.stored() == ["also", "empty"], "the empty objects")
    assert live.get("empty") == b""


def test_a_subprocess_while_a_file_is_open_publishes_no_half(live: Live) -> None:
    with (live.here / "half").open("wb") as file:
        file.write(b"a" * 100_000)
        file.flush()
        # A child that inherits the descriptor, and flushes it when it exits.
        subprocess.run([sys.executable, "-c", ""], check=True, pass_fds=[file.fileno()])
        subprocess.run(["true"], check=True)
        assert live.stored() == []
        file.write(b"b" * 100_000)
    assert live.get("half") == b"a" * 100_000 + b"b" * 100_000


def test_changes_in_place(live: Live) -> None:
    live.put("f", b"0123456789")
    with (live.here / "f").open("r+b") as file:
        file.seek(3)
        file.write(b"XYZ")
    assert live.get("f") == b"012XYZ6789"
    with (live.here / "f").open("ab") as file:
        file.write(b"end")
    assert live.get("f") == b"012XYZ6789end"
    os.truncate(live.here / "f", 4)
    assert live.get("f") == b"012X"
    with (live.here / "f").open("r+b") as file:
        file.truncate(6)
    assert live.get("f") == b"012X\0\0"


def test_a_file_being_written_is_read_back(live: Live) -> None:
    with (live.here / "f").open("w+b") as file:
        file.write(b"x" * 200_000)
        file.flush()
        assert (live.here / "f").stat().st_size == 200_000
        file.seek(100_000)
        assert file.read() == b"x" * 100_000
        assert (live.here / "f").read_bytes() == b"x" * 200_000
    assert live.get("f") == b"x" * 200_000


def test_what_was_published_is_read_back_without_a_get(live: Live) -> None:
    before = live.mount.requests().get("get", 0)
    (live.here / "f").write_bytes(b"x" * 200_000)
    assert (live.here / "f").read_bytes() == b"x" * 200_000
    assert live.mount.requests().get("get", 0) == before
    assert live.get("f") == b"x" * 200_000


def test_fsync_means_in_the_bucket(live: Live) -> None:
    with (live.here / "f").open("wb") as file:
        file.write(b"durable")
        file.flush()
        os.fsync(file.fileno())
        assert live.get("f") == b"durable"


def test_what_a_bucket_cannot_have_is_refused_at_once(live: Live) -> None:
    live.put("f", b"x")
    for refused in (
        lambda: os.link(live.here / "f", live.here / "g"),
        lambda: os.symlink("f", live.here / "g"),
        lambda: os.mkfifo(live.here / "p"),
        lambda: os.setxattr(live.here / "f", "user.a", b"b"),
    ):
        with pytest.raises(OSError) as error:
            refused()
        assert error.value.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)
    with pytest.raises(OSError) as error:
        (live.here / ("n" * 256)).write_bytes(b"")
    assert error.value.errno == errno.ENAMETOOLONG
    with pytest.raises(OSError) as error:
        Path(os.fsdecode(os.fsencode(live.here) + b"/\xff")).write_bytes(b"")
    assert error.value.errno == errno.EINVAL
    assert live.stored() == ["f"]


def test_names_of_all_kinds(live: Live) -> None:
    names = [
        "ä",
        "a\u0308",
        "a b",
        "a+b",
        "50%",
        "a%2Fb",
        "q?x&y=#",
        "tab\there",
        "new\nline",
        "日本語",
    ]
    for name in names:
        (live.here / name).write_bytes(name.encode())
    assert sorted(live.stored()) == sorted(names)
    assert sorted(os.listdir(live.here)) == sorted(names)
    for name in names:
        assert (live.here / name).read_bytes() == name.encode()


def test_copy2_keeps_its_time_for_this_version(live: Live) -> None:
    source = DATA / "air.nc"
    shutil.copy2(source, live.here / "air.nc")
    assert (live.here / "air.nc").stat().st_mtime_ns == source.stat().st_mtime_ns


def test_a_removed_file_that_is_open_for_writing_leaves_nothing(live: Live) -> None:
    with (live.here / "f").open("w+b") as file:
        file.write(b"x" * 5000)
        file.flush()
        (live.here / "f").unlink()
        assert os.listdir(live.here) == []
        file.seek(0)
        assert file.read() == b"x" * 5000
    assert live.stored() == []


def test_many_writers_and_readers_at_once(live: Live) -> None:
    (live.here / "d").mkdir()
    data = {f"d/{n}": os.urandom(20_000 + n) for n in range(40)}

    def write(name: str) -> None:
        (live.here / name).write_bytes(data[name])

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(write, data))
        read = list(pool.map(lambda name: (live.here / name).read_bytes(), data))
    assert read == list(data.values())
    assert {name: live.get(name) for name in live.stored()} == data


def test_df_shows_room_without_a_request(live: Live) -> None:
    before = live.mount.requests()
    assert int(run("df", "--output=avail", live.here).stdout.split()[1]) > 10**9
    assert live.mount.requests() == before
