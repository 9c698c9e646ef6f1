"""The Keystone process: its WSGI application in waitress, on an inherited socket.

Run by the Python of Keystone's virtual environment.
"""

import argparse
import os
import socket
import sys
import threading
from pathlib import Path

import waitress

from dev_swift.layout import Layout
from dev_swift.lifeline import end_at_eof

_THREADS = 4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", required=True)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--until-eof", action="store_true")
    options = parser.parse_args()
    if options.until_eof:
        threading.Thread(target=end_at_eof, daemon=True).start()
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = str(Layout(Path(options.dir)).keystone_conf)
    waitress.serve(_application(), sockets=[socket.socket(fileno=options.fd)], threads=_THREADS)


def _application() -> object:
    # Keystone would take our arguments for its own.
    del sys.argv[1:]
    # It touches its global configuration while it is imported.
    from keystone.server import wsgi  # noqa: PLC0415

    return wsgi.initialize_public_application()


if __name__ == "__main__":
    main()
