"""Runs the converter as a process of its own, and believes nothing that it says.

The process has no keys, no network, limits and a deadline; its crash is an error with the file's
name in it. Imports neither NetCDF nor Zarr. Blocks the calling thread until the process is gone.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

import zarrfuse
from zarrfuse.convert.frames import (
    Done,
    ErrorKind,
    Failed,
    Frame,
    MalformedFrame,
    Progress,
    Stage,
    StoreObject,
    body_lengths,
    frame_of,
    head_bytes,
)
from zarrfuse.core.keys import is_file_name, is_key_text
from zarrfuse.errors import (
    ConversionCancelled,
    ConversionCrashed,
    ConversionError,
    NotNetCDF,
    Unsupported,
)

_log = structlog.get_logger(__name__)

#: How often a silent worker's deadline and the caller's `cancelled` are looked at.
_POLL_S = 0.2
#: What one read from the pipe asks for: its usual capacity after F_SETPIPE_SZ.
_READ_BYTES = 1 << 20
#: The exit code by which the worker says that memory ran out.
_EXIT_MEMORY = 3
#: How much of the worker's log goes into ours when it crashed.
_LOG_TAIL_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one conversion may use: address space, and wall-clock time (which bounds CPU time)."""

    memory_bytes: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Origin:
    """The file as its owner knows it; `sha256` in hex."""

    name: str
    sha256: str


#: The process that converts; tests put one of their own here.
Command = tuple[str, ...]
CONVERTER: Command = (sys.executable, "-P", "-s", "-m", "zarrfuse.convert.worker")


def run_worker(
    source: Path,
    *,
    origin: Origin,
    limits: Limits,
    sink: Callable[[StoreObject], None],
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
    command: Command = CONVERTER,
) -> Done:
    """Converts `source`; `sink` gets every object, stage after stage, in the calling thread.

    Raises NotNetCDF, Unsupported, ConversionError (the store would not equal the file),
    ConversionCrashed, ConversionCancelled, and whatever `sink` raises. No process is left.
    """
    with tempfile.TemporaryFile() as log:
        process = _start(source, origin, limits, command, log)
        try:
            frames = _Frames(process, time.monotonic() + limits.deadline_s, cancelled, origin.name)
            done = _receive(frames, sink, progress)
            if done is not None:
                return done
            code = process.wait(timeout=max(frames.remaining_s(), _POLL_S))
            raise _crash(code, origin.name, limits, log)
        except subprocess.TimeoutExpired:
            raise _too_long(origin.name) from None
        except MalformedFrame as error:
            _log.error("converter.malformed", file=origin.name, reason=str(error), log=_tail(log))
            raise ConversionCrashed(f"{origin.name}: the converter went wrong") from error
        finally:
            _end(process)


def _start(
    source: Path, origin: Origin, limits: Limits, command: Command, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    options = {
        "name": origin.name,
        "sha256": origin.sha256,
        "memory_bytes": limits.memory_bytes,
        "cpu_s": int(limits.deadline_s * (os.cpu_count() or 1)) + 1,
    }
    return subprocess.Popen(
        [*command, str(source.resolve()), "--options", json.dumps(options)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        env=_environment(),
        cwd="/",
        start_new_session=True,
        pipesize=_READ_BYTES,
    )


def _environment() -> dict[str, str]:
    """Made from nothing: no keys, no proxies, no start-up files of NetCDF in somebody's home."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "PYTHONPATH": str(Path(zarrfuse.__file__).parents[1]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "OPENBLAS_NUM_THREADS": "1",  # its idle threads only cost address space here
    }


class _Frames:
    """Takes frames from the pipe, and minds the clock while none comes."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        deadline: float,
        cancelled: Callable[[], bool],
        name: str,
    ) -> None:
        assert process.stdout is not None
        self._pipe = process.stdout
        self._deadline = deadline
        self._cancelled = cancelled
        self._name = name
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)

    def remaining_s(self) -> float:
        return self._deadline - time.monotonic()

    def __iter__(self) -> Iterator[Frame]:
        """Until the worker closes its end between two frames."""
        with self._selector:
            while head := self._take(head_bytes(), may_end=True):
                header, body = body_lengths(head)
                yield frame_of(self._take(header), self._take(body))

    def _take(self, size: int, *, may_end: bool = False) -> bytes:
        """Exactly `size` bytes; with `may_end`, none at all where the stream ends here."""
        data = bytearray()
        while len(data) < size:
            self._wait()
            piece = os.read(self._pipe.fileno(), min(size - len(data), _READ_BYTES))
            if not piece:
                if may_end and not data:
                    return b""
                raise _CutShort
            data += piece
        return bytes(data)

    def _wait(self) -> None:
        while True:
            if self._cancelled():
                raise ConversionCancelled(f"{self._name}: the conversion was cancelled")
            if self.remaining_s() <= 0:
                raise _too_long(self._name)
            if self._selector.select(min(_POLL_S, max(self.remaining_s(), 0))):
                return


class _CutShort(Exception):
    """The worker died inside a frame."""


def _receive(
    frames: _Frames, sink: Callable[[StoreObject], None], progress: Callable[[Progress], None]
) -> Done | None:
    """Hands on what arrives. None where the worker ended without a word."""
    check = _Order()
    try:
        for frame in frames:
            match frame:
                case StoreObject():
                    check.object(frame)
                    sink(frame)
                case Progress():
                    progress(frame)
                case Done():
                    check.done(frame)
                    return frame
                case Failed(kind, message):
                    raise _error(kind, message)
    except _CutShort:
        return None
    return None


class _Order:
    """What every sound worker keeps to: safe keys, each once, in order, `.zmetadata` last."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._stage = Stage.CHUNK

    def object(self, item: StoreObject) -> None:
        names = item.key.split("/")
        if not all(is_file_name(name) for name in names) or not is_key_text(item.key):
            raise MalformedFrame(f"a key that no store has: {item.key!r}")
        if item.key in self._seen or item.stage < self._stage:
            raise MalformedFrame(f"{item.key!r} comes twice or too late")
        if (item.stage is Stage.CONSOLIDATED) != (item.key == ".zmetadata"):
            raise MalformedFrame(f"{item.key!r} is not of stage {item.stage.name}")
        self._seen.add(item.key)
        self._stage = item.stage

    def done(self, frame: Done) -> None:
        if frame.objects != len(self._seen) or self._stage is not Stage.CONSOLIDATED:
            raise MalformedFrame("the converter stopped before the store was whole")


def _error(kind: ErrorKind, message: str) -> ConversionError:
    match kind:
        case ErrorKind.NOT_NETCDF:
            return NotNetCDF(message)
        case ErrorKind.UNSUPPORTED:
            return Unsupported(message)
        case ErrorKind.OTHER:
            return ConversionError(message)


def _crash(code: int, name: str, limits: Limits, log: IO[bytes]) -> ConversionCrashed:
    """The end of the process as a sentence."""
    _log.error("converter.crashed", file=name, exit_code=code, log=_tail(log))
    if code == _EXIT_MEMORY:
        megabytes = limits.memory_bytes // (1024 * 1024)
        reason = f"needs more than the {megabytes} MiB of memory that a conversion may use"
    elif code == -signal.SIGXCPU:
        reason = "took more computing time than a conversion may use"
    elif code == -signal.SIGKILL:
        reason = "the converter was killed, perhaps because the machine ran out of memory"
    elif code < 0:
        reason = f"the NetCDF library crashed ({signal.Signals(-code).name}) while reading it"
    else:
        reason = f"the converter ended unexpectedly (exit code {code})"
    return ConversionCrashed(f"{name}: {reason}")


def _too_long(name: str) -> ConversionCrashed:
    return ConversionCrashed(f"{name}: the conversion took longer than it may")


def _tail(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(size - _LOG_TAIL_BYTES, 0))
    return log.read().decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the process remains: its group is killed, its pipe closed, its status taken."""
    if process.poll() is None:
        # Its session is its own; a member that is gone already is no failure.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            _log.debug("converter.gone", pid=process.pid)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
