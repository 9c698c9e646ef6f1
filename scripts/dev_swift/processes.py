"""Start a server process, wait until it answers, end it.

Sockets are bound here, by the parent, and inherited: so a port in use is one clear line before
anything is started, port 0 needs no guess, and a request that comes early waits instead of being
refused. Knows nothing of what the servers serve.
"""

import errno
import os
import select
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dev_swift.errors import DevSwiftError
from dev_swift.layout import HOST, Layout, live_pid, module_of, write_private

_POLL_S = 0.05
_STOP_DEADLINE_S = 10.0
# The requests are for loopback, whatever proxy the user's environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Process = subprocess.Popen[bytes]


def listen(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A restart finds connections of its predecessor in TIME_WAIT.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit it; without it each small answer waits 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        reason = "in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise DevSwiftError(
            f"port {port} of {HOST} is not available ({reason}); --port 0 takes a free one"
        ) from error
    return listener


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def start(
    layout: Layout,
    server: str,
    python: Path,
    listener: socket.socket,
    arguments: Sequence[str] = (),
    *,
    lifeline: bool,
) -> Process:
    """Start a server in a session of its own on an inherited socket, and record its pid.

    With `lifeline` it ends when the returned process's `stdin` is closed, or we die.
    """
    command = [str(python), "-m", module_of(server), "--dir", str(layout.root)]
    command += ["--fd", str(listener.fileno()), *arguments]
    if lifeline:
        command.append("--until-eof")
    with layout.log(server).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=layout.root,
            env=_environment(),
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    write_private(layout.pid_file(server), f"{process.pid}\n")
    return process


def answers(url: str, *, within_s: float = 2.0) -> bool:
    try:
        with _OPENER.open(url, timeout=within_s) as answer:
            status: int = answer.status
            return 200 <= status < 400
    except (urllib.error.URLError, OSError):
        return False


def wait_until_up(process: Process, url: str, log: Path, *, within_s: float) -> None:
    """Return when `url` answers; raise with the log's last line at the server's end or deadline."""
    deadline = time.monotonic() + within_s
    while not answers(url):
        if process.poll() is not None:
            raise DevSwiftError(f"the server ended at once: {_last_line(log)} (log: {log})")
        if time.monotonic() > deadline:
            raise DevSwiftError(f"the server does not answer after {within_s:g} s (log: {log})")
        time.sleep(_POLL_S)


def stop(layout: Layout, server: str) -> int | None:
    """End this directory's server, if it runs; returns its pid, or None if there was none.

    When it returns, the port is free: a process's sockets are closed before its pidfd is readable.
    """
    pid = live_pid(layout, server)
    if pid is not None:
        _end(layout, server, pid)
    layout.pid_file(server).unlink(missing_ok=True)
    return pid


def reap(process: Process) -> None:
    """Collect a child that was ended, so that it is no zombie while we live on."""
    if process.stdin is not None:
        process.stdin.close()
    process.wait(_STOP_DEADLINE_S)


def _environment() -> dict[str, str]:
    """What a server inherits: no proxy between loopback addresses, no settings of other clouds."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("OS_", "AWS_", "PYTHON"))
    }
    return kept | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "PYTHONUNBUFFERED": "1",
        # Its own resolver would read /etc/resolv.conf; every address here is a number.
        "EVENTLET_NO_GREENDNS": "yes",
    }


def _end(layout: Layout, server: str, pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Asked again: the number may have gone to another process before we held it.
        if live_pid(layout, server) == pid and not _ended(descriptor):
            raise DevSwiftError(f"{server} (pid {pid}) cannot be ended")
    finally:
        os.close(descriptor)


def _ended(descriptor: int) -> bool:
    """Ask it, then make it; True when it is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        _send(descriptor, number)
        # One suspended by a debugger or a test could not act on SIGTERM.
        _send(descriptor, signal.SIGCONT)
        if select.select([descriptor], [], [], _STOP_DEADLINE_S)[0]:
            return True
    return False


def _send(descriptor: int, number: signal.Signals) -> None:
    # It may have ended by itself.
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
