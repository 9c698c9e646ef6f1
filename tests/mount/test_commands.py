"""The commands from the outside: what they say, how they exit, what they leave behind."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import DEADLINE_S, FAST, Mount, alive, run, wait_until, zarrfuse
from tests.support.swift import GUEST_ACCESS_KEY, GUEST_SECRET_KEY, SwiftServer

Start = Callable[..., Mount]


def failed_mount(source: str, path: Path, *args: str, env: dict[str, str]) -> tuple[int, str]:
    """Exit code and the one line on stderr of a mount that must fail."""
    done = zarrfuse("mount", source, path, *args, env=env, check=False)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("zarrfuse: "), done.stderr
    assert not os.path.ismount(path)
    return done.returncode, lines[0]


@pytest.fixture
def empty(scratch: Path) -> Path:
    path = scratch / "empty"
    path.mkdir(exist_ok=True)
    return path


def test_mount_status_umount(start: Start, binding: str, swift: SwiftServer, bucket: str) -> None:
    swift.put(bucket, "a", b"x")
    mount = start(f"s3://{bucket}", binding=binding)
    assert os.path.ismount(mount.path)
    assert (mount.path / "a").read_bytes() == b"x"
    said = mount.status()
    assert said["pid"] == mount.pid and said["mountpoint"] == str(mount.path)
    assert bucket in said["source"] and said["binding"].startswith(binding)
    assert said["requests"]["get"]["bytes"] == 1
    assert bucket in zarrfuse("status").stdout
    everything = json.loads(zarrfuse("status", "--json").stdout)
    assert [entry["pid"] for entry in everything] == [mount.pid]
    mount.stop()
    assert not os.path.ismount(mount.path)
    assert zarrfuse("status").stdout == "nothing is mounted\n"
    assert zarrfuse("status", mount.path, check=False).returncode == 69


def test_wrong_endpoint(swift: SwiftServer, bucket: str, empty: Path) -> None:
    code, line = failed_mount(
        f"s3://{bucket}", empty, "--endpoint-url", "http://127.0.0.1:1", env=swift.env
    )
    assert code == 69 and "127.0.0.1:1" in line
    code, line = failed_mount(
        f"s3://{bucket}", empty, "--endpoint-url", "http://no-such-host.invalid", env=swift.env
    )
    assert code == 69 and "no-such-host.invalid" in line


def test_wrong_bucket(swift: SwiftServer, empty: Path) -> None:
    code, line = failed_mount("s3://no_such_bucket", empty, env=swift.env)
    assert code == 78 and "no_such_bucket" in line


def test_wrong_keys(swift: SwiftServer, bucket: str, empty: Path) -> None:
    for keys in (
        {"AWS_SECRET_ACCESS_KEY": "wrong-secret-word"},
        {"AWS_ACCESS_KEY_ID": GUEST_ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": GUEST_SECRET_KEY},
    ):
        code, line = failed_mount(f"s3://{bucket}", empty, env=swift.env | keys)
        assert code == 77 and "wrong-secret-word" not in line
    without = {**swift.env, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    code, line = failed_mount(f"s3://{bucket}", empty, env=without)
    assert code == 78 and "aws_access_key_id" in line
    code, line = failed_mount(f"s3://{bucket}", empty, "--profile", "nobody", env=swift.env)
    assert code == 78 and "nobody" in line


def test_wrong_region_is_named(swift: SwiftServer, bucket: str, empty: Path) -> None:
    code, line = failed_mount(f"s3://{bucket}", empty, "--region", "mars", env=swift.env)
    assert code == 78 and "RegionOne" in line


def test_wrong_mount_point(swift: SwiftServer, bucket: str, scratch: Path) -> None:
    code, line = failed_mount(f"s3://{bucket}", scratch / "missing", env=swift.env)
    assert code == 78 and "mkdir" in line
    (scratch / "file").write_bytes(b"")
    code, line = failed_mount(f"s3://{bucket}", scratch / "file", env=swift.env)
    assert code == 78 and "not a directory" in line
    (scratch / "full").mkdir()
    (scratch / "full/x").write_bytes(b"")
    code, line = failed_mount(f"s3://{bucket}", scratch / "full", env=swift.env)
    assert code == 78 and "nonempty" in line


def test_a_second_mount_there_is_refused(start: Start, swift: SwiftServer, bucket: str) -> None:
    mount = start(f"s3://{bucket}")
    done = zarrfuse("mount", f"s3://{bucket}", mount.path, env=swift.env, check=False)
    assert done.returncode == 78 and "mounted already" in done.stderr
    assert os.path.ismount(mount.path)


def test_nonsense_is_a_usage_error_with_a_hint(
    swift: SwiftServer, bucket: str, empty: Path
) -> None:
    for args in (["-o", "metadata.tll_s=3"], ["-o", "quick"], ["--umask", "9"], ["--no-such"]):
        code, line = failed_mount(f"s3://{bucket}", empty, *args, env=swift.env)
        assert code == 64, line
    _, line = failed_mount(f"s3://{bucket}", empty, "-o", "metadata.tll_s=3", env=swift.env)
    assert "metadata.ttl_s" in line
    code, line = failed_mount(bucket, empty, env=swift.env)
    assert code == 78 and f"s3://{bucket}" in line


def test_a_clash_with_the_drop_box_is_refused(
    start: Start, swift: SwiftServer, bucket: str, empty: Path
) -> None:
    swift.put(bucket, "to-zarr/x", b"")
    code, line = failed_mount(f"s3://{bucket}", empty, env=swift.env)
    assert code == 78 and "ingest.name" in line
    mount = start(f"s3://{bucket}", options=(*FAST, "ingest.name=drop"))
    assert sorted(os.listdir(mount.path)) == ["drop", "to-zarr"]
    mount.stop()
    assert os.listdir(start(f"s3://{bucket}", "--read-only").path) == ["to-zarr"]


def test_a_prefix_is_mounted_alone(start: Start, swift: SwiftServer, bucket: str) -> None:
    for key in ("cmip6/a", "cmip6/b/c", "cmip60", "other/x"):
        swift.put(bucket, key, key.encode())
    mount = start(f"s3://{bucket}/cmip6")
    assert sorted(os.listdir(mount.path)) == ["a", "b", "to-zarr"]
    (mount.path / "b/new").write_bytes(b"new")
    assert swift.get(bucket, "cmip6/b/new") == b"new"
    run("cp", Path(__file__).parents[1] / "data/air.nc", mount.path / "to-zarr/b/")
    assert swift.get(bucket, "cmip6/b/air.zarr/.zmetadata")
    mount.stop()


def test_a_local_directory_is_mounted_without_any_server(
    start: Start, binding: str, tmp_path: Path
) -> None:
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/deep/a").write_bytes(b"local")
    mount = start(f"file://{tmp_path}/data", binding=binding)
    assert (mount.path / "deep/a").read_bytes() == b"local"
    (mount.path / "deep/b").write_bytes(b"written")
    assert (tmp_path / "data/deep/b").read_bytes() == b"written"
    run("cp", Path(__file__).parents[1] / "data/air.nc", mount.path / "to-zarr/")
    assert (tmp_path / "data/air.zarr/.zmetadata").is_file()
    mount.stop()


def test_read_only(start: Start, binding: str, swift: SwiftServer, bucket: str) -> None:
    swift.put(bucket, "a", b"x")
    mount = start(f"s3://{bucket}", "--read-only", binding=binding)
    assert os.listdir(mount.path) == ["a"] and (mount.path / "a").read_bytes() == b"x"
    assert stat.S_IMODE((mount.path / "a").stat().st_mode) == 0o444
    for change in (
        lambda: (mount.path / "b").write_bytes(b""),
        lambda: (mount.path / "a").unlink(),
        lambda: (mount.path / "a").open("r+b"),
        lambda: (mount.path / "d").mkdir(),
        lambda: os.rename(mount.path / "a", mount.path / "c"),
        lambda: os.truncate(mount.path / "a", 0),
    ):
        with pytest.raises(OSError) as refused:
            change()
        assert refused.value.errno == errno.EROFS
    mount.stop()
    assert swift.keys(bucket) == ["a"]


def test_keys_are_found_in_the_aws_files(
    start: Start, swift: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """Our users' notes put them into ~/.aws/config."""
    config = tmp_path / "config"
    config.write_text(
        f"[default]\naws_access_key_id = {swift.access_key}\n"
        f"aws_secret_access_key = {swift.secret_key}\nregion = RegionOne\n"
        f"[profile wrong]\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    env = {"AWS_CONFIG_FILE": str(config), "AWS_ENDPOINT_URL": swift.endpoint_url}
    env |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_REGION": ""}
    mount = start(f"s3://{bucket}", env=env)
    mount.stop()
    code, _ = failed_mount(f"s3://{bucket}", mount.path, "--profile", "wrong", env=swift.env | env)
    assert code == 77


def test_the_servers_region_is_taken_when_none_is_named(
    start: Start, swift: SwiftServer, bucket: str
) -> None:
    mount = start(f"s3://{bucket}", env={"AWS_REGION": "", "AWS_DEFAULT_REGION": ""})
    (mount.path / "a").write_bytes(b"x")
    assert swift.get(bucket, "a") == b"x"


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    nobody = pwd.getpwnam("nobody")
    return subprocess.run(
        command, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def test_other_users_get_what_the_modes_say(
    start: Start, binding: str, swift: SwiftServer, bucket: str, scratch: Path
) -> None:
    scratch.chmod(0o755)
    swift.put(bucket, "a", b"secret")
    closed = start(f"s3://{bucket}", binding=binding)
    assert as_nobody("cat", f"{closed.path}/a").returncode == 1, "without --allow-other: nobody"
    closed.stop()
    strict = start(f"s3://{bucket}", "--allow-other", "--umask", "077", binding=binding)
    assert stat.S_IMODE((strict.path / "a").stat().st_mode) == 0o600
    assert as_nobody("cat", f"{strict.path}/a").stdout == ""
    assert as_nobody("sh", "-c", f"echo x > {strict.path}/b").returncode != 0
    strict.stop()
    shared = start(f"s3://{bucket}", "--allow-other", binding=binding)
    assert as_nobody("cat", f"{shared.path}/a").stdout == "secret"
    assert as_nobody("sh", "-c", f"echo x > {shared.path}/a").returncode != 0
    with pytest.raises(PermissionError):
        (shared.path / "a").chmod(0o600)  # would promise what it does not keep
    shared.stop()
    uid = pwd.getpwnam("nobody").pw_uid
    theirs = start(f"s3://{bucket}", "--allow-other", "--uid", str(uid), binding=binding)
    assert as_nobody("sh", "-c", f"echo x > {theirs.path}/b").returncode == 0
    assert swift.get(bucket, "b") == b"x\n"
    theirs.stop()


def test_cache_spool_socket_and_log_are_private(
    start: Start, swift: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    swift.put(bucket, "a", b"x")
    old = os.umask(0)
    try:
        mount = start(f"s3://{bucket}", "--cache-dir", str(tmp_path / "cache"))
    finally:
        os.umask(old)
    (mount.path / "a").read_bytes()
    with (mount.path / "b").open("wb") as file:
        file.write(b"x")
        file.flush()
        private = [tmp_path / "cache", Path(mount.status()["spool_directory"]), mount.log.parent]
        private.append(Path(os.environ["XDG_RUNTIME_DIR"]) / "zarrfuse")
        for root in private:
            found = [root, *root.rglob("*")]
            assert len(found) > 1, root
            for path in found:
                mode = stat.S_IMODE(path.lstat().st_mode)
                assert mode & 0o077 == 0, f"{path}: {mode:o}"
    mount.stop()


def test_no_secret_is_shown_anywhere(start: Start, swift: SwiftServer, bucket: str) -> None:
    mount = start(f"s3://{bucket}", "--log-level", "debug")
    (mount.path / "a").write_bytes(b"x")
    (mount.path / "a").read_bytes()
    arguments = Path(f"/proc/{mount.pid}/cmdline").read_bytes().decode()
    shown = json.dumps(mount.status()) + mount.log.read_text() + arguments
    assert '"verb": "put"' in shown and swift.secret_key not in shown.replace("zf_test", "")
    mount.stop()


def test_umount_of_a_busy_mount_says_so(start: Start, bucket: str) -> None:
    mount = start(f"s3://{bucket}")
    with (mount.path / "a").open("wb") as file:
        file.write(b"x")
        done = zarrfuse("umount", mount.path, check=False)
        assert done.returncode == 75 and "in use" in done.stderr
        assert os.path.ismount(mount.path)
    mount.stop()


def test_umount_publishes_what_was_left_under_a_temporary_name(
    start: Start, swift: SwiftServer, bucket: str
) -> None:
    mount = start(f"s3://{bucket}")
    (mount.path / ".notes.txt.swp").write_bytes(b"likely")
    assert swift.keys(bucket) == []
    mount.stop()
    assert swift.get(bucket, ".notes.txt.swp") == b"likely"


def test_what_cannot_be_published_is_kept_and_named(
    start: Start, swift: SwiftServer, bucket: str
) -> None:
    mount = start(f"s3://{bucket}")
    name = f"0.0.{'a' * 32}.partial"
    (mount.path / name).write_bytes(b"abandoned")
    done = zarrfuse("umount", mount.path, check=False)
    assert done.returncode == 75 and name in done.stderr
    again = start(f"s3://{bucket}")
    assert again.path != mount.path and again.status()["parked"] == []
    back = Mount.start(f"s3://{bucket}", mount.path, env=swift.env)
    (parked,) = back.status()["parked"]
    assert parked["key"] == name and Path(parked["path"]).read_bytes() == b"abandoned"
    assert name in zarrfuse("status", back.path).stdout
    back.stop()
    assert swift.keys(bucket) == []


def test_a_failed_close_parks_the_bytes(start: Start, binding: str, swift: SwiftServer) -> None:
    """A bucket that is gone: close() fails, the tree shows what the bucket has, nothing is lost."""
    bucket = swift.make_bucket(f"zf_gone_{os.getpid()}_{binding}")
    mount = start(f"s3://{bucket}", binding=binding)
    mount.expect("NoSuchBucket|BucketMissing|there is no bucket")
    file = (mount.path / "a").open("wb")
    file.write(b"precious")
    swift.client.delete_bucket(Bucket=bucket)
    with pytest.raises(OSError) as failed:
        file.close()
    assert failed.value.errno == errno.EIO
    wait_until(lambda: mount.status()["parked"], "the bytes to be parked")
    (parked,) = mount.status()["parked"]
    assert parked["key"] == "a" and Path(parked["path"]).read_bytes() == b"precious"
    assert parked["reason"]
    mount.stop()


def test_kill_and_start_again(start: Start, binding: str, swift: SwiftServer, bucket: str) -> None:
    mount = start(f"s3://{bucket}", binding=binding)
    (mount.path / "closed").write_bytes(b"closed")
    never_closed = os.open(mount.path / "open", os.O_WRONLY | os.O_CREAT)
    os.write(never_closed, b"never closed")
    mount.kill()
    with pytest.raises(OSError):
        os.write(never_closed, b"more")
    with contextlib.suppress(OSError):
        os.close(never_closed)
    again = Mount.start(f"s3://{bucket}", mount.path, env=swift.env, binding=binding)
    assert (again.path / "closed").read_bytes() == b"closed"
    assert swift.keys(bucket) == ["closed"]
    (parked,) = again.status()["parked"]
    assert parked["key"] == "open" and Path(parked["path"]).read_bytes() == b"never closed"
    again.stop()


def test_a_dead_mount_is_named_with_its_cure(start: Start, swift: SwiftServer, bucket: str) -> None:
    mount = start(f"s3://{bucket}")
    os.kill(mount.pid, signal.SIGKILL)
    wait_until(lambda: not alive(mount.pid), "the daemon to die")
    done = zarrfuse("mount", f"s3://{bucket}", mount.path, env=swift.env, check=False)
    assert done.returncode == 78 and "fusermount3 -uz" in done.stderr


def test_sigterm_unmounts_and_sighup_does_not(start: Start, binding: str, bucket: str) -> None:
    mount = start(f"s3://{bucket}", binding=binding)
    os.kill(mount.pid, signal.SIGHUP)
    (mount.path / "a").write_bytes(b"after the terminal was closed")
    assert os.path.ismount(mount.path)
    os.kill(mount.pid, signal.SIGTERM)
    wait_until(lambda: not alive(mount.pid), "the daemon to end")
    assert not os.path.ismount(mount.path)
    mount.check_log()


def test_foreground_stays_until_unmounted(swift: SwiftServer, bucket: str, empty: Path) -> None:
    command = [sys.executable, "-m", "zarrfuse", "mount", "-f", f"s3://{bucket}", str(empty)]
    daemon = subprocess.Popen(
        command, env=os.environ | swift.env, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: os.path.ismount(empty), "the mount")
    assert daemon.poll() is None
    zarrfuse("umount", empty)
    _, said = daemon.communicate(timeout=30)
    assert daemon.returncode == 0 and "is mounted on" in said


def test_help_teaches() -> None:
    said = zarrfuse("--help").stdout
    assert all(word in said for word in ("mount", "umount", "status", "convert", "to-zarr"))
    assert "s3://" in zarrfuse("mount", "--help").stdout
    assert zarrfuse("--version").stdout.startswith("zarrfuse")
    assert zarrfuse("munt", check=False).returncode == 64
