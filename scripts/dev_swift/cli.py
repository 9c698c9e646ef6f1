"""The command line of dev-swift: arguments in, one line and an exit code out (sysexits)."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from dev_swift import cloud
from dev_swift.errors import DevSwiftError
from dev_swift.layout import DEFAULT_DIR, Layout, live_pid
from dev_swift.processes import Process

_DEFAULT_PORT = 8080


class _Parser(argparse.ArgumentParser):
    """argparse with the usage code of sysexits."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        code: int = options.action(options)
    except DevSwiftError as error:
        print(f"dev-swift: {error}", file=sys.stderr)
        return error.exit_code
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="dev-swift", description="A real OpenStack Swift on 127.0.0.1, with S3.")
    commands = parser.add_subparsers(required=True, metavar="up | down | status | install")
    where = _Parser(add_help=False)
    where.add_argument(
        "--dir", type=_absolute, default=DEFAULT_DIR, help="its data and env file (%(default)s)"
    )
    what = _Parser(add_help=False)
    what.add_argument("--keystone", action="store_true", help="with a real Keystone and EC2 keys")

    up = commands.add_parser("up", parents=[where, what], help="start; returns when it answers")
    up.add_argument(
        "--port", type=_port, default=_DEFAULT_PORT, help="0 takes a free one (%(default)s)"
    )
    up.add_argument("--foreground", action="store_true", help="stay; SIGTERM or ^C ends it all")
    up.add_argument(
        "--until-eof", action="store_true", help="with --foreground: end with standard input"
    )
    up.set_defaults(action=_up)

    down = commands.add_parser("down", parents=[where], help="stop, keep the data")
    down.add_argument("--wipe", action="store_true", help="remove the data as well")
    down.set_defaults(action=_down)

    status = commands.add_parser("status", parents=[where], help="exit code 0 if it is up, else 1")
    status.set_defaults(action=_status)

    install = commands.add_parser("install", parents=[what], help="only make what `up` would need")
    install.set_defaults(action=_install)
    return parser


def _absolute(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port")
    return port


def _up(options: argparse.Namespace) -> int:
    layout = Layout(options.dir)
    wanted = cloud.Wanted(options.port, options.keystone, lifeline=options.foreground)
    if options.foreground:
        cloud.end_at_signals()
    started = cloud.start(layout, wanted)
    if started is None:
        _say_up(layout, "up already")
    elif options.foreground:
        _stay(layout, started, until_eof=options.until_eof)
    else:
        _say_up(layout, "up")
    return os.EX_OK


def _stay(layout: Layout, started: list[Process], *, until_eof: bool) -> None:
    try:
        _say_up(layout, "up")
        cloud.watch(started, until_eof=until_eof)
    finally:
        cloud.end(layout, started)


def _say_up(layout: Layout, state: str) -> None:
    url = cloud.endpoint_if_up(layout)
    print(f"Swift is {state} at {url}; to use it: source {layout.env}", flush=True)


def _down(options: argparse.Namespace) -> int:
    layout = Layout(options.dir)
    pids = []
    if layout.root.exists():
        with cloud.locked(layout):
            pids = cloud.stop(layout)
        if options.wipe:
            cloud.wipe(layout)
    said = f"Swift is down (ended pid {', '.join(map(str, pids))})" if pids else "Swift was not up"
    kept = "its data is removed" if options.wipe else f"its data stays in {layout.root}"
    print(f"{said}; {kept}" if pids or options.wipe else said)
    return os.EX_OK


def _status(options: argparse.Namespace) -> int:
    layout = Layout(options.dir)
    url = cloud.endpoint_if_up(layout)
    if url is None:
        print(f"Swift is down ({layout.root})")
        return 1
    with_keystone = " with Keystone" if live_pid(layout, "keystone") is not None else ""
    print(f"Swift{with_keystone} is up at {url} (pid {live_pid(layout, 'swift')}, {layout.root})")
    return os.EX_OK


def _install(options: argparse.Namespace) -> int:
    cloud.install(keystone=options.keystone)
    return os.EX_OK
