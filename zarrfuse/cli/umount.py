"""`zarrfuse umount`: takes a mount away, and returns when its daemon has put all bytes in place."""

from __future__ import annotations

import os
import select
import time
from contextlib import closing
from pathlib import Path

import click

from zarrfuse.errors import ExitCode, UserError
from zarrfuse.mount.life import unmount
from zarrfuse.report.socket import ask, daemon_behind, runtime_directory, socket_path
from zarrfuse.report.status import Status
from zarrfuse.spool.files import parked_in

_NOTE_EVERY_S = 5.0


@click.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--lazy", is_flag=True, help="Also while programs use it; they keep what is open.")
@click.option(
    "--wait", "wait_s", type=float, metavar="SECONDS", help="Give up waiting. [wait for ever]"
)
def umount(mountpoint: Path, lazy: bool, wait_s: float | None) -> int:  # noqa: FBT001 - click's way
    """Unmount MOUNTPOINT, and wait until its daemon has published what was written.

    Exit code 75: something could not be published; its bytes are kept, and named.
    """
    mountpoint = Path(os.path.abspath(mountpoint))  # noqa: PTH100 - resolving would ask a dead mount
    socket = socket_path(runtime_directory(os.environ), mountpoint)
    status = ask(socket)
    with closing(_Daemon(socket)) as daemon:
        daemon.look(_NOTE_EVERY_S)
        unmount(mountpoint, lazy=lazy)
        _await_end(daemon, mountpoint, wait_s)
    return _report_left(status) if status is not None else ExitCode.OK


class _Daemon:
    """The process behind a socket, which a new process of the same number is not."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._process: int | None = None  # a descriptor; None also while it is not known
        self._is_gone = False

    def look(self, within_s: float) -> None:
        """Finds the process, unless it is too busy to be connected to."""
        try:
            pid = daemon_behind(self._socket, within_s)
            self._process = None if pid is None else os.pidfd_open(pid)
        except TimeoutError:
            return
        except ProcessLookupError:
            pass
        self._is_gone = self._process is None

    def ends(self, within_s: float) -> bool:
        """Whether it has ended by then."""
        if self._process is None and not self._is_gone:
            self.look(within_s)
        elif self._process is not None:
            self._is_gone = bool(select.select([self._process], [], [], within_s)[0])
        return self._is_gone

    def close(self) -> None:
        if self._process is not None:
            os.close(self._process)


def _await_end(daemon: _Daemon, mountpoint: Path, wait_s: float | None) -> None:
    begun, waited = time.monotonic(), 0.0
    while True:
        step = _NOTE_EVERY_S if wait_s is None else max(0.0, min(_NOTE_EVERY_S, wait_s - waited))
        if daemon.ends(step):
            return
        waited = time.monotonic() - begun
        if wait_s is not None and waited >= wait_s:
            raise UserError(
                f"{mountpoint} is unmounted, but its daemon still publishes; it goes on alone",
                ExitCode.TRY_AGAIN,
            )
        click.echo(f"waiting for the last uploads of {mountpoint} ({waited:.0f} s)", err=True)


def _report_left(status: Status) -> int:
    before = {parked.path for parked in status.parked}
    left = [p for p in parked_in(Path(status.spool_directory)) if str(p.path) not in before]
    for parked in left:
        click.echo(f"kept {parked.path}: {parked.key}: {parked.reason}", err=True)
    return ExitCode.TRY_AGAIN if left else ExitCode.OK
