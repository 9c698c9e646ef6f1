"""The converter process dies in every way that it can; its parent says so, and leaves nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.netcdf import DATA
from tests.support.publishing import LIMITS, converter, publish
from zarrfuse.convert.frames import Done, Progress, StoreObject
from zarrfuse.dropbox.worker import Command, Limits, Origin, run_worker
from zarrfuse.errors import (
    ConversionCancelled,
    ConversionCrashed,
    ConversionError,
    NotNetCDF,
    ZarrfuseError,
)
from zarrfuse.store.base import list_all
from zarrfuse.store.memory import MemoryStore

ORIGIN = Origin("x.nc", "0" * 64)


class Run:
    """One run of a worker that is a few lines of Python."""

    def __init__(self, code: str = "", command: Command | None = None) -> None:
        self.command = command or converter(code)
        self.objects: list[StoreObject] = []
        self.progress: list[Progress] = []
        self.cancel = threading.Event()

    def __call__(self, limits: Limits = LIMITS, source: Path = DATA / "air.nc") -> Done:
        return run_worker(
            source,
            origin=ORIGIN,
            limits=limits,
            sink=self.objects.append,
            progress=self.progress.append,
            cancelled=self.cancel.is_set,
            command=self.command,
        )


def children() -> set[str]:
    """Processes of this one, zombies as well."""
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


@pytest.fixture(autouse=True)
def no_process_is_left() -> object:
    before = children()
    yield
    assert children() <= before


def test_a_sound_worker() -> None:
    run = Run("send(Progress(1, 2)); store(); send(Done(4, 1, 1, 4))")
    assert run().objects == 4
    assert [item.key for item in run.objects] == ["v/0", "v/.zarray", ".zattrs", ".zmetadata"]
    assert run.progress == [Progress(1, 2)]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS"])
@pytest.mark.parametrize(
    "before", ["", "obj('v/0', Stage.CHUNK);", "out.write(b'zf'); out.flush();"]
)
def test_a_crash_names_the_file_and_the_signal(name: str, before: str) -> None:
    run = Run(f"{before}os.kill(os.getpid(), signal.{name})")
    with pytest.raises(ConversionCrashed, match=rf"^x\.nc: .*crashed \({name}\)"):
        run()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os._exit(3)", "4096 MiB of memory"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "computing time"),
        ("sys.exit(7)", "exit code 7"),
        ("", "exit code 0"),
        ("store()", "exit code 0"),
    ],
)
def test_other_ends(code: str, words: str) -> None:
    with pytest.raises(ConversionCrashed, match=words):
        Run(code)()


@pytest.mark.parametrize(
    "code",
    [
        "out.write(b'WARNING: something was printed here'); out.flush()",
        "obj('../../other', Stage.CHUNK)",
        "obj('/v/0', Stage.CHUNK)",
        "obj('v//0', Stage.CHUNK)",
        "obj('', Stage.CHUNK)",
        "obj('v/0', Stage.CHUNK); obj('v/0', Stage.CHUNK)",
        "obj('v/.zarray', Stage.ARRAY_METADATA); obj('v/0', Stage.CHUNK)",
        "obj('.zmetadata', Stage.CHUNK)",
        "obj('other', Stage.CONSOLIDATED)",
        "store(); send(Done(3, 1, 1, 1))",
        "obj('v/0', Stage.CHUNK); send(Done(1, 1, 1, 1))",
        "import struct; out.write(struct.pack('>4sIQ', b'zfw1', 1 << 31, 0)); out.flush()",
    ],
)
def test_what_no_sound_worker_says_is_not_believed(code: str) -> None:
    with pytest.raises(ConversionCrashed, match="went wrong"):
        Run(code + "; time.sleep(60)")()


def test_the_deadline_ends_a_silent_worker_and_its_children() -> None:
    run = Run("import subprocess; subprocess.Popen(['sleep', '600']); time.sleep(600)")
    with pytest.raises(ConversionCrashed, match="longer than it may"):
        run(Limits(memory_bytes=4 << 30, deadline_s=1.0))


def test_a_worker_that_closes_its_pipe_and_stays() -> None:
    run = Run("os.close(1); time.sleep(600)")
    with pytest.raises(ConversionCrashed, match="longer than it may"):
        run(Limits(memory_bytes=4 << 30, deadline_s=1.0))


def test_cancelling() -> None:
    run = Run("obj('v/0', Stage.CHUNK); time.sleep(600)")
    run.cancel.set()
    with pytest.raises(ConversionCancelled, match=r"x\.nc"):
        run()


def test_an_error_of_the_sink_ends_the_worker() -> None:
    def refuse(_: StoreObject) -> None:
        raise ZarrfuseError("no room")

    with pytest.raises(ZarrfuseError, match="no room"):
        run_worker(
            DATA / "air.nc",
            origin=ORIGIN,
            limits=LIMITS,
            sink=refuse,
            progress=lambda _: None,
            cancelled=lambda: False,
            command=converter("obj('v/0', Stage.CHUNK); time.sleep(600)"),
        )


def test_the_environment_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("OS_PASSWORD", "hush")
    run = Run("obj('v/0', Stage.CHUNK, json.dumps(dict(os.environ)).encode())")
    with pytest.raises(ConversionCrashed):
        run()
    found = json.loads(run.objects[0].data)
    assert not [name for name in found if name.startswith(("AWS_", "OS_"))]
    assert "hush" not in found.values()


def test_the_real_worker_has_limits_and_no_network() -> None:
    code = """
import resource, socket
from zarrfuse.convert.sandbox import confine
confine(3 << 30, 100)
def state():
    limits = [resource.getrlimit(n)[0] for n in (resource.RLIMIT_AS, resource.RLIMIT_CORE)]
    return {"interfaces": [name for _, name in socket.if_nameindex()], "limits": limits}
obj("v/0", Stage.CHUNK, json.dumps(state()).encode())
"""
    run = Run(code)
    with pytest.raises(ConversionCrashed):
        run()
    found = json.loads(run.objects[0].data)
    assert found["limits"] == [3 << 30, 0]
    if _may_unshare():
        assert found["interfaces"] in ([], ["lo"])


def _may_unshare() -> bool:
    """Some kernels and containers allow no namespaces; then the worker keeps the network."""
    code = (
        "import ctypes, sys; unshare = ctypes.CDLL(None).unshare;"
        "sys.exit(bool(unshare(0x40000000) and unshare(0x50000000)))"
    )
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_too_little_memory_is_said() -> None:
    store = MemoryStore()
    with pytest.raises(ConversionError, match=r"^x\.nc"):
        publish(store, DATA / "sst.mnmean.nc", limits=Limits(64 << 20, 60.0))
    assert list_all(store, "") == []


def test_the_worker_dies_with_its_parent(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    inner = (
        "import os, time; from pathlib import Path; from zarrfuse.convert.sandbox import confine;"
        f"confine(0, 0); Path({str(marker)!r}).write_text(str(os.getpid())); time.sleep(600)"
    )
    outer = (
        "import subprocess, sys, time;"
        f"subprocess.Popen([sys.executable, '-c', {inner!r}]); time.sleep(600)"
    )
    repository = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", outer], cwd=repository) as parent:
        deadline = time.monotonic() + 20
        while not (marker.exists() and marker.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        parent.send_signal(signal.SIGKILL)
    pid = int(marker.read_text())
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_chatter_does_not_reach_the_frames() -> None:
    """What a C library prints to its standard output goes to the log."""
    code = (
        "import os, sys; from zarrfuse.convert import worker;"
        "original = worker._convert;"
        "worker._convert = lambda *a: (os.write(1, b'chatter'), original(*a))[1];"
        "sys.exit(worker.main())"
    )
    run = Run(command=(sys.executable, "-P", "-s", "-c", code))
    assert run().arrays == 4


def test_a_file_that_vanished(tmp_path: Path) -> None:
    run = Run(command=(sys.executable, "-P", "-s", "-m", "zarrfuse.convert.worker"))
    with pytest.raises(ConversionError, match=r"^x\.nc: ") as caught:
        run(source=tmp_path / "gone.nc")
    assert str(tmp_path) not in str(caught.value)
    assert not isinstance(caught.value, NotNetCDF)
