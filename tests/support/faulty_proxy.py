"""A way to the test Swift that can fail: answers of its own, or nobody there at all.

Sends requests on as they came, Host included, so that signatures stay valid. Runs on threads of
the test's process; knows HTTP and nothing of S3.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_DEADLINE_S = 30.0
_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>slower</Message></Error>"


class FaultyProxy:
    """`throttles(n)` says whether the n-th request (from 0) is answered by 503. Thread-safe."""

    def __init__(self, upstream: str, throttles: Callable[[int], bool] = lambda n: False) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.throttles = throttles
        self.used: list[int] = []  # of each request, the number of its connection
        self._connections = 0
        self.speaks = threading.Event()  # while it is not set, requests are taken and not answered
        self.speaks.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = self._serve(0)
        self._port: int = self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def down(self) -> None:
        """From now on connections are refused; those that stand are cut."""
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):  # closed by the other side
                    connection.shutdown(socket.SHUT_RDWR)

    def up(self) -> None:
        """On the same port as before."""
        self._server = self._serve(self._port)

    def next_is_throttled(self, connection: int) -> bool:
        with self._lock:
            self.used.append(connection)
            return self.throttles(len(self.used) - 1)

    def opened(self, connection: socket.socket) -> int:
        """The number of the connection, from 1."""
        with self._lock:
            self._connections += 1
            self._open.add(connection)
            return self._connections

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def _serve(self, port: int) -> ThreadingHTTPServer:
        class Handler(_Handler):
            proxy = self

        server = _Server(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, and one to the upstream for it."""

    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"
    timeout = _DEADLINE_S
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.number = self.proxy.opened(self.connection)
        self.upstream = HTTPConnection(self.proxy.upstream, timeout=_DEADLINE_S)

    def finish(self) -> None:
        self.upstream.close()
        self.proxy.closed(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was asked is in `used`, and pytest shows what daemons log."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.proxy.speaks.wait(_DEADLINE_S)
        if self.proxy.next_is_throttled(self.number):
            self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
            return
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            self.upstream.putheader(name, value)
        self.upstream.endheaders(body)
        answer = self.upstream.getresponse()
        kept = [(n, v) for n, v in answer.getheaders() if n.lower() not in _OWN_HEADERS]
        if self.command == "HEAD":
            kept.append(("Content-Length", answer.getheader("Content-Length", "0")))
        self._answer(answer.status, kept, answer.read())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


_OWN_HEADERS = {"connection", "content-length", "transfer-encoding", "keep-alive"}


@contextmanager
def faulty_proxy(
    upstream: str, throttles: Callable[[int], bool] = lambda n: False
) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(upstream, throttles)
    try:
        yield proxy
    finally:
        proxy.speaks.set()
        proxy.down()
