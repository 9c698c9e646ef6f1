"""The delay proxy's configuration and its access log, as text: pure, nothing is started here.

Every request waits, then goes to Swift with its Host unchanged, so that its signature holds. One
pair of ports for each latency: `cached` answers read-only data from nginx's own disk, so that the
CPU of a test Swift is not what is measured; `direct` always asks Swift.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# What may enter the cache. nginx would drop Range and the conditions on the way up and turn HEAD
# into GET, which breaks signatures; so all of them pass unchanged, and only a whole GET (or an
# absence) is kept. The key has no method: a kept GET answers HEAD and every range by itself.
_HEAD = """\
{user}load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
worker_processes 1; daemon off; pid nginx.pid; error_log error.log warn;
events {{ worker_connections 4096; }}
http {{
  sendfile on; tcp_nodelay on; client_max_body_size 0;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path unused1;
  uwsgi_temp_path unused2; scgi_temp_path unused3;
  keepalive_requests 1000000; keepalive_timeout 600s;
  log_format bench '$msec $request_time $status $bytes_sent '
    '$upstream_cache_status $request_method $request_uri';
  map "$request_method:$http_range:$upstream_status" $unfit {{
    "~^GET::200$" 0;
    "~:404$" 0;
    default 1;
  }}
  proxy_cache_path cache levels=1:2 keys_zone=c:64m max_size=20g inactive=30d use_temp_path=off;
  upstream swift {{ server {swift}; keepalive 64; }}
  proxy_http_version 1.1; proxy_read_timeout 300s;
"""
_SERVER = """\
  server {{
    listen 127.0.0.1:{port}; access_log {log} bench;
    location / {{
      {wait}
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
      {cache}
      proxy_pass http://swift;
    }}
  }}
"""
_CACHE = """proxy_set_header Range $http_range; proxy_set_header If-Range $http_if_range;
      proxy_set_header If-Match $http_if_match; proxy_set_header If-None-Match $http_if_none_match;
      proxy_set_header If-Modified-Since $http_if_modified_since;
      proxy_set_header If-Unmodified-Since $http_if_unmodified_since;
      proxy_cache c; proxy_cache_key $request_uri; proxy_cache_methods GET HEAD;
      proxy_cache_convert_head off; proxy_cache_valid 200 404 30d; proxy_no_cache $unfit;
      proxy_ignore_headers Cache-Control Expires Vary Set-Cookie X-Accel-Expires;"""
_NO_CACHE = "proxy_request_buffering off; proxy_buffering off;"
MODULES = "/usr/lib/nginx/modules"


@dataclass(frozen=True)
class Port:
    """One listening port of the proxy."""

    number: int
    latency_ms: float
    cached: bool

    @property
    def log(self) -> str:
        return f"access-{self.latency_ms:g}-{'cached' if self.cached else 'direct'}.log"


def configuration(swift: str, ports: Iterable[Port], *, as_root: bool) -> str:
    """The whole nginx.conf; `swift` is host:port. As root the workers stay root: the work
    directory is the caller's, and only loopback is served."""
    head = _HEAD.format(swift=swift, modules=MODULES, user="user root;\n" if as_root else "")
    return head + "".join(_server(port) for port in ports) + "}\n"


def _server(port: Port) -> str:
    seconds = port.latency_ms / 1000
    wait = f"access_by_lua_block {{ ngx.sleep({seconds:g}) }}" if seconds else ""
    cache = _CACHE if port.cached else _NO_CACHE
    return _SERVER.format(port=port.number, log=port.log, wait=wait, cache=cache)


@dataclass(frozen=True)
class Request:
    """One line of the access log. Times are seconds of the epoch."""

    start: float
    end: float
    status: int
    sent_bytes: int
    hit: bool
    method: str
    uri: str


@dataclass(frozen=True)
class Traffic:
    """What a job asked for. `missed` went to Swift: should be 0 after the discarded round."""

    requests: int
    bytes: int
    missed: int
    errors: int


def parse_log(text: str) -> list[Request]:
    """Every whole line."""
    return [_request(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _request(line: str) -> Request:
    msec, took, status, sent, cache, method, uri = line.rstrip("\n").split(" ", 6)
    end = float(msec)
    return Request(end - float(took), end, int(status), int(sent), cache == "HIT", method, uri)


def in_a_row(requests: Iterable[Request], before: float) -> int:
    """The most requests of which each began when the one before had ended: round trips.

    Of those that were started before a time; others may have been under way beside them.
    """
    count, free = 0, 0.0
    for request in sorted(requests, key=lambda r: r.end):
        if free <= request.start <= before:
            count, free = count + 1, request.end
    return count


def traffic(requests: Sequence[Request], *, before: float | None = None) -> Traffic:
    """The sum; with `before` only of requests that were started earlier than that."""
    chosen = [r for r in requests if before is None or r.start <= before]
    return Traffic(
        requests=len(chosen),
        bytes=sum(r.sent_bytes for r in chosen),
        missed=sum(not r.hit for r in chosen),
        errors=sum(r.status >= 500 or r.status in (400, 403) for r in chosen),
    )
