"""Bring the whole up and down: which servers, in which order, and what D/env says of them.

A cloud is Swift alone (tempauth) or Swift behind Keystone. Whoever starts or stops one holds the
lock of its directory.
"""

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

from dev_swift import keystone_config as names
from dev_swift import keystone_setup, processes, venvs
from dev_swift.errors import DevSwiftError
from dev_swift.layout import (
    HOST,
    REGION,
    SERVERS,
    Layout,
    live_pid,
    prepare,
    read_env,
    write_env,
    write_private,
)
from dev_swift.swift_config import KeystoneService

_SWIFT_DEADLINE_S = 40.0
_KEYSTONE_DEADLINE_S = 60.0
_WATCH_S = 0.5


@dataclass(frozen=True)
class Wanted:
    """What `up` was asked for. `lifeline`: the servers end with this process."""

    port: int
    keystone: bool
    lifeline: bool


def install(*, keystone: bool) -> None:
    """Make the virtual environments that are missing."""
    venvs.ensure(venvs.swift_venv(keystone=keystone))
    if keystone:
        venvs.ensure(venvs.keystone_venv())


def endpoint_if_up(layout: Layout) -> str | None:
    """Where this directory's Swift answers, or None."""
    url = read_env(layout).get("AWS_ENDPOINT_URL")
    if url is None or live_pid(layout, "swift") is None:
        return None
    return url if processes.answers(f"{url}/healthcheck") else None


def start(layout: Layout, wanted: Wanted) -> list[processes.Process] | None:
    """Start the servers; returns them when all answer, or None if they run already.

    Leaves none behind when it fails.
    """
    prepare(layout)
    with locked(layout):
        if _runs_already(layout, keystone=wanted.keystone):
            return None
        install(keystone=wanted.keystone)
        started: list[processes.Process] = []
        try:
            _start_all(layout, wanted, started)
        except BaseException:
            end(layout, started)
            raise
    return started


def stop(layout: Layout) -> list[int]:
    """End whatever runs for this directory; returns the pids."""
    pids = [processes.stop(layout, server) for server in SERVERS]
    return [pid for pid in pids if pid is not None]


def end(layout: Layout, started: list[processes.Process]) -> None:
    """End the servers that this process has started."""
    stop(layout)
    for process in started:
        processes.reap(process)


def wipe(layout: Layout) -> None:
    """Remove D, if it is one of ours."""
    if not layout.root.exists():
        return
    if not (layout.etc / "swift.conf").exists():
        raise DevSwiftError(f"{layout.root} holds no Swift of dev-swift; nothing is removed")
    shutil.rmtree(layout.root)


def watch(started: list[processes.Process], *, until_eof: bool) -> None:
    """Return at SIGTERM, SIGINT, the end of standard input, or when a server has ended."""
    stdin = [sys.stdin] if until_eof else []
    while all(process.poll() is None for process in started):
        readable, _, _ = select.select(stdin, [], [], _WATCH_S)
        if readable and not os.read(sys.stdin.fileno(), 4096):
            return
    raise DevSwiftError("a server has ended; its log says why")


def end_at_signals() -> None:
    """Make SIGTERM an ordinary exit, so that `finally` blocks run."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """One `up` or `down` at a time for a directory; a server must not inherit the lock."""
    with layout.lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _runs_already(layout: Layout, *, keystone: bool) -> bool:
    """True if what is wanted is up; raises if something else of this directory is in the way."""
    running = [server for server in SERVERS if live_pid(layout, server) is not None]
    if not running:
        return False
    if endpoint_if_up(layout) is None:
        raise DevSwiftError(f"{running[0]} runs in {layout.root} but Swift is not up: `down` first")
    if keystone and "keystone" not in running:
        raise DevSwiftError(f"Swift runs in {layout.root} without Keystone: `down` first")
    return True


def _start_all(layout: Layout, wanted: Wanted, started: list[processes.Process]) -> None:
    with ExitStack() as sockets:
        # Our copy is closed at the end: a server that dies must leave a port that refuses.
        swift = sockets.enter_context(processes.listen(wanted.port))
        url = f"http://{HOST}:{processes.port_of(swift)}"
        env = _tempauth_env()
        arguments: list[str] = []
        if wanted.keystone:
            keystone = sockets.enter_context(processes.listen(0))
            auth_url = f"http://{HOST}:{processes.port_of(keystone)}/v3"
            started.append(_start_keystone(layout, keystone, auth_url, wanted))
            env = _keystone_env(auth_url, keystone_setup.populate(auth_url, url))
            arguments = ["--keystone-service", str(layout.keystone_service)]
        python = venvs.swift_venv(keystone=wanted.keystone).python
        process = processes.start(
            layout, "swift", python, swift, arguments, lifeline=wanted.lifeline
        )
        started.append(process)
    processes.wait_until_up(
        process, f"{url}/healthcheck", layout.log("swift"), within_s=_SWIFT_DEADLINE_S
    )
    write_env(layout, env | _where(url))


def _start_keystone(
    layout: Layout, listener: socket.socket, auth_url: str, wanted: Wanted
) -> processes.Process:
    python = venvs.keystone_venv().python
    keystone_setup.initialise(layout, python)
    service = KeystoneService(
        auth_url, names.SERVICE, names.SERVICE_PASSWORD, names.SERVICE_PROJECT
    )
    write_private(layout.keystone_service, json.dumps(asdict(service)))
    process = processes.start(layout, "keystone", python, listener, lifeline=wanted.lifeline)
    log = layout.log("keystone")
    processes.wait_until_up(process, auth_url, log, within_s=_KEYSTONE_DEADLINE_S)
    return process


def _where(url: str) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL": url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}


def _tempauth_env() -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": "test:tester", "AWS_SECRET_ACCESS_KEY": "testing"}


def _keystone_env(auth_url: str, keys: keystone_setup.Ec2Keys) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": keys.access,
        "AWS_SECRET_ACCESS_KEY": keys.secret,
        "OS_AUTH_URL": auth_url,
        "OS_USERNAME": names.USER,
        "OS_PASSWORD": names.PASSWORD,
        "OS_PROJECT_NAME": names.PROJECT,
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_IDENTITY_API_VERSION": "3",
        "OS_REGION_NAME": REGION,
    }
