"""`zarrfuse umount`: takes a mount away, and returns when its daemon has put all bytes in place."""

from __future__ import annotations

import os
import select
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
    process = _open_process(daemon_behind(socket))
    unmount(mountpoint, lazy=lazy)
    if process is None:
        return ExitCode.OK
    try:
        _await_end(process, mountpoint, wait_s)
    finally:
        os.close(process)
    return _report_left(status) if status is not None else ExitCode.OK


def _open_process(pid: int | None) -> int | None:
    """A descriptor of the daemon's process, which a new process of the same number is not."""
    if pid is None:
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _await_end(process: int, mountpoint: Path, wait_s: float | None) -> None:
    waited = 0.0
    while True:
        step = _NOTE_EVERY_S if wait_s is None else max(0.0, min(_NOTE_EVERY_S, wait_s - waited))
        if select.select([process], [], [], step)[0]:
            return
        waited += step
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
