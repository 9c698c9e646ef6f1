"""A stand-in for memcached inside the one Swift process, as a filter of its pipeline.

Offers the methods Swift and Keystone's middleware call on `env["swift.cache"]`. Values go through
JSON as they do on the way to a real memcached, so that nobody shares a mutable object by accident.
"""

import json
import time as clock
from collections.abc import Callable, Iterable, Mapping
from typing import Any

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# memcached takes a longer expiry for a point in time.
_LONGEST_RELATIVE_S = 30 * 24 * 3600


class MemoryCache:
    """One dictionary with expiry; only green threads of one process use it, so no lock."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, float]] = {}

    def __bool__(self) -> bool:
        # Middleware asks `if not memcache` to learn whether there is one at all.
        return True

    def get(self, key: str, raise_on_error: object = None) -> Any:
        text, expires = self._values.get(key, ("null", 0.0))
        if expires and expires < clock.time():
            del self._values[key]
            return None
        return json.loads(text)

    def set(self, key: str, value: Any, time: float = 0, **_transport: object) -> None:
        # Swift's client of memcached does the same with bytes.
        plain = value.decode("utf-8") if isinstance(value, bytes) else value
        self._values[key] = (json.dumps(plain), _expiry(time))

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        value = max(0, int(self.get(key) or 0) + int(delta))
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        return self.incr(key, -int(delta), time)

    def delete(self, key: str, server_key: object = None) -> None:
        self._values.pop(key, None)

    def get_multi(self, keys: Iterable[str], server_key: object = None) -> list[Any]:
        return [self.get(key) for key in keys]

    def set_multi(
        self, mapping: Mapping[str, Any], server_key: object = None, time: float = 0, **_: object
    ) -> None:
        for key, value in mapping.items():
            self.set(key, value, time=time)


def filter_factory(_global_conf: object, **_conf: object) -> Callable[[WsgiApp], WsgiApp]:
    """Put one cache into the environment of every request (the paste.deploy interface)."""
    cache = MemoryCache()

    def add_cache(app: WsgiApp) -> WsgiApp:
        def cached_app(env: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            env["swift.cache"] = cache
            return app(env, start_response)

        return cached_app

    return add_cache


def _expiry(time: float) -> float:
    """0 is never; small numbers are seconds from now, large ones seconds since 1970."""
    return time if time == 0 or time > _LONGEST_RELATIVE_S else clock.time() + time
