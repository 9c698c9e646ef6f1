"""The Swift process: account, container, object and proxy server on green threads of one process.

Run by the Python of Swift's virtual environment. The proxy serves an inherited socket; the back
ends take free ports, which only the rings made here at every start know.
"""

import eventlet

eventlet.monkey_patch()

import argparse  # noqa: E402 - everything below must see the patched modules
import json  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import eventlet.wsgi  # noqa: E402
from swift.common import storage_policy  # noqa: E402
from swift.common.http_protocol import SwiftHttpProtocol  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.utils import set_swift_dir  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

from dev_swift.layout import HOST, Layout, write_private  # noqa: E402
from dev_swift.lifeline import end_at_eof  # noqa: E402
from dev_swift.processes import listen, port_of  # noqa: E402
from dev_swift.swift_config import (  # noqa: E402
    BACKENDS,
    SWIFT_CONF,
    KeystoneService,
    backend_conf,
    proxy_conf,
)

_DEVICE = "d1"
# 16 partitions: one device holds them all. Fixed, because objects lie in directories named so.
_PART_POWER = 4
_GREEN_THREADS = 1024


def main() -> None:
    # eventlet asks whether we mean capitalize_response_headers=False; so do Swift's own daemons.
    warnings.filterwarnings("ignore", message="capitalize_response_headers is disabled")
    options = _options()
    layout = Layout(Path(options.dir))
    listeners = {server: listen(0) for server in BACKENDS}
    _write_rings(layout, {name: port_of(s) for name, s in listeners.items()})
    _write_configuration(layout, _keystone_service(options.keystone_service))
    set_swift_dir(str(layout.etc))
    storage_policy.reload_storage_policies()
    if options.until_eof:
        # A green thread's read lets the others run only where it would block.
        os.set_blocking(sys.stdin.fileno(), False)
        eventlet.spawn(end_at_eof)
    for server, listener in listeners.items():
        eventlet.spawn(_serve, listener, layout.etc / f"{server}-server.conf")
    _serve(socket.socket(fileno=options.fd), layout.etc / "proxy-server.conf")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", required=True)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--until-eof", action="store_true")
    parser.add_argument("--keystone-service")
    return parser.parse_args()


def _write_configuration(layout: Layout, keystone: KeystoneService | None) -> None:
    (layout.devices / _DEVICE).mkdir(parents=True, exist_ok=True)
    (layout.etc / "swift.conf").write_text(SWIFT_CONF)
    for server in BACKENDS:
        conf = backend_conf(server, layout.etc, layout.devices)
        (layout.etc / f"{server}-server.conf").write_text(conf)
    # The passwords are in it.
    write_private(layout.etc / "proxy-server.conf", proxy_conf(layout.etc, keystone))


def _write_rings(layout: Layout, ports: dict[str, int]) -> None:
    layout.etc.mkdir(exist_ok=True)
    for server, port in ports.items():
        _write_ring(layout.etc / f"{server}.ring.gz", port)


def _write_ring(path: Path, port: int) -> None:
    """A ring of one device and one replica."""
    builder = RingBuilder(_PART_POWER, 1, 0)
    address = {"ip": HOST, "port": port, "replication_ip": HOST, "replication_port": port}
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "device": _DEVICE, "weight": 1.0} | address)
    builder.rebalance()
    builder.get_ring().save(str(path))


def _keystone_service(path: str | None) -> KeystoneService | None:
    """What dev-swift wrote down for us, when Keystone was asked for."""
    return None if path is None else KeystoneService(**json.loads(Path(path).read_text()))


def _serve(listener: Any, conf: Path) -> None:
    eventlet.wsgi.server(
        listener,
        loadapp(str(conf)),
        sys.stderr,
        max_size=_GREEN_THREADS,
        protocol=SwiftHttpProtocol,
        # One line for every request and back-end request would fill the disk.
        log_output=False,
        # S3 and Swift clients are told apart by the spelling of headers; leave it as it is.
        capitalize_response_headers=False,
    )


if __name__ == "__main__":
    main()
