"""The life of a mount: checks before it, signals and readiness during it, the drain after it.

Runs in the foreground of a process of its own. libfuse ends the mount on SIGTERM and SIGINT by
itself as long as Python has no handler there; SIGHUP, on which libfuse would end it too, is
blocked: a closed terminal must not unmount a bucket (facts: fuse 10).
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from zarrfuse.core.keys import Key
from zarrfuse.errors import ExitCode, UserError
from zarrfuse.mount.binding import Binding, KernelMount
from zarrfuse.mount.kernel import raise_read_ahead
from zarrfuse.mount.notify import Notifier
from zarrfuse.mount.operations import ImmutableOperations, Operations, Ownership, Told
from zarrfuse.tree.base import Tree

log = structlog.get_logger(__name__)

_READY_DEADLINE_S = 30.0
#: What never changes the kernel keeps for a day: for ever, to it.
_IMMUTABLE_S = 86_400.0
#: Where the daemon itself may not enter its directories, it cannot tell the kernel of changes.
_UNTOLD_S = 1.0
#: A mount is busy while anything looks at it: an indexer, or the notifier itself.
_BUSY_FOR_S = 0.5


@dataclass(frozen=True, slots=True)
class Mounting:
    """What is mounted where, and how. `kept_s`: how long the kernel keeps names and sizes."""

    binding: Binding
    mountpoint: Path
    source: str
    owner: Ownership
    kept_s: float
    immutable: bool = False
    non_empty: bool = False


def ignore_hangups() -> None:
    """SIGHUP reaches no thread of this process. To be called before any other thread is started,
    because each inherits what its maker blocks."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def check_mountpoint(mountpoint: Path, *, non_empty: bool) -> None:
    """UserError with the cure if nothing can be mounted there."""
    try:
        names = os.listdir(mountpoint)  # noqa: PTH208 - scandir's errors are the same, names are less
    except OSError as error:
        raise UserError(_mountpoint_problem(mountpoint, error), ExitCode.CONFIG) from None
    if mountpoint.is_mount():
        raise UserError(
            f"{mountpoint} is mounted already; unmount it: zarrfuse umount {mountpoint}",
            ExitCode.CONFIG,
        )
    if names and not non_empty:
        raise UserError(
            f"{mountpoint} is not empty; what is in it would be hidden. Take an empty directory, "
            "or add -o nonempty",
            ExitCode.CONFIG,
        )
    if not Path("/dev/fuse").exists():
        raise UserError("/dev/fuse is missing: modprobe fuse (as root)", ExitCode.CONFIG)


def serve(
    mounting: Mounting,
    tree: Tree,
    notifier: Notifier,
    *,
    ready: Callable[[], None],
    changed: Callable[[Key], None],
    ended: Callable[[], None],
) -> None:
    """Mounts and returns when it is unmounted and `ended` has drained. Blocks the main thread.

    `changed` is told of paths that are not what the kernel knows; `notifier` is what tells it.
    """
    live = threading.Event()

    def begun() -> None:
        live.set()
        notifier.start(mounting.binding.device(), operations.may_be_known)
        _start_waiting(mounting.mountpoint, ready)

    def over() -> None:
        notifier.close()
        ended()

    kind = ImmutableOperations if mounting.immutable else Operations
    kept_s = _kept_s(mounting)
    operations = kind(
        tree,
        mounting.owner,
        caller=mounting.binding.caller,
        kept_s=kept_s,
        told=Told(ready=begun, destroyed=over, changed=changed),
    )
    options = mounting.binding.options(
        KernelMount(
            source=mounting.source,
            allow_other=mounting.owner.shared,
            read_only=mounting.owner.read_only,
            non_empty=mounting.non_empty,
            kept_s=kept_s,
            absence_s=kept_s if mounting.immutable else 0.0,
        )
    )
    try:
        mounting.binding.run(operations, str(mounting.mountpoint), options)
    except RuntimeError as error:
        if live.is_set():  # libfuse answers with a code of its own when a signal has ended it
            log.info("the mount was ended by a signal", code=str(error))
            return
        raise UserError(
            f"libfuse could not mount {mounting.mountpoint} (code {error}); for --allow-other as "
            "a user, /etc/fuse.conf needs the line user_allow_other",
            ExitCode.OS,
        ) from None


def unmount(mountpoint: Path, *, lazy: bool) -> None:
    """Takes the mount out of the tree. UserError if it is busy, or none is there."""
    for name in ("fusermount3", "fusermount"):
        command = shutil.which(name)
        if command is not None:
            break
    else:
        raise UserError("fusermount3 is not installed: apt install fuse3", ExitCode.CONFIG)
    unmounting = [command, "-uz" if lazy else "-u", "--", str(mountpoint)]
    until = time.monotonic() + _BUSY_FOR_S
    while True:
        done = subprocess.run(unmounting, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        if "busy" not in said[0] or time.monotonic() >= until:
            break
        time.sleep(0.05)
    if "busy" in said[0]:
        raise UserError(
            f"{mountpoint} is in use; end what uses it (lsof {mountpoint}), or "
            f"zarrfuse umount --lazy {mountpoint}",
            ExitCode.TRY_AGAIN,
        )
    raise UserError(f"cannot unmount {mountpoint}: {said[0]}", ExitCode.OS)


def _kept_s(mounting: Mounting) -> float:
    if mounting.immutable:
        return _IMMUTABLE_S
    if mounting.owner.admits(os.getuid()):
        return mounting.kept_s
    return min(mounting.kept_s, _UNTOLD_S)


def _start_waiting(mountpoint: Path, ready: Callable[[], None]) -> None:
    """From init, which must not block: the mount answers only after init has returned."""
    threading.Thread(target=_await_mount, args=(mountpoint, ready), name="ready").start()


def _await_mount(mountpoint: Path, ready: Callable[[], None]) -> None:
    """Says ready when the kernel gets an answer through the mount."""
    until = time.monotonic() + _READY_DEADLINE_S
    while time.monotonic() < until:
        if mountpoint.is_mount():
            raise_read_ahead(mountpoint)
            ready()
            return
        time.sleep(0.01)
    log.error("the mount did not answer; it is ended", mountpoint=str(mountpoint))
    os.kill(os.getpid(), signal.SIGTERM)


def _mountpoint_problem(mountpoint: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return f"mount point {mountpoint} does not exist; make it: mkdir -p {mountpoint}"
        case errno.ENOTDIR:
            return f"mount point {mountpoint} is not a directory"
        case errno.ENOTCONN:
            return f"a dead mount is on {mountpoint}; remove it: fusermount3 -uz {mountpoint}"
        case _:
            return f"mount point {mountpoint}: {error.strerror}"
