"""One converter at a time for one store: a lock object beside it, made with if-absent.

The store itself cannot be the lock: its root metadata must come last, and chunks of two converters
under one root would mix. So `x.zarr.zarrfuse-ingest` is put first, and only one process can have
put it; it is removed at the end. A holder that died is recognised by its process (same machine)
or by the time it had, and what it left half-done is then its successor's to remove.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog

from zarrfuse.core.keys import ETag, Key, Prefix
from zarrfuse.errors import (
    AlreadyExists,
    NotFound,
    RequestRejected,
    StoreError,
    TargetExists,
    VersionChanged,
)
from zarrfuse.store.base import Delete, Get, Put

_log = structlog.get_logger(__name__)

SUFFIX = ".zarrfuse-ingest"
#: What a holder may need beyond its conversion's deadline: the last uploads, clocks that differ.
_GRACE_S = 600.0


class LockStore(Put, Get, Delete, Protocol):
    """What a lock needs of a bucket."""


@dataclass(frozen=True, slots=True)
class _Held:
    """The lock of another, as it was read."""

    etag: ETag
    fields: dict[str, Any]


class Lock:
    """Held. `inherited` is true after a dead holder that had found nothing under the root:
    what is there without root metadata is its rubbish."""

    def __init__(self, store: LockStore, key: Key, fields: dict[str, Any], etag: ETag) -> None:
        self._store = store
        self._key = key
        self._fields = fields
        self._etag = etag
        self.inherited = False

    def begin_writing(self) -> None:
        """Says for a successor that nothing stood under the root before this holder."""
        self._fields["began_empty"] = True
        self._etag = self._store.put(self._key, _body(self._fields)).etag

    def release(self) -> None:
        """Removes the lock object; what cannot be removed expires."""
        try:
            self._store.delete(self._key, if_match=self._etag)
        except StoreError as error:
            _log.warning("ingest.lock_left", key=self._key, reason=str(error))


@contextmanager
def hold(store: LockStore, root: Prefix, *, name: str, deadline_s: float) -> Iterator[Lock]:
    """The lock of the store at `root`, for the time of the block. TargetExists if it is taken."""
    key = Key(root.as_key + SUFFIX)
    fields = {
        "id": uuid.uuid4().hex,
        "file": name,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "expires": time.time() + deadline_s + _GRACE_S,
        **_this_process(),
    }
    lock = _acquire(store, key, fields)
    try:
        yield lock
    finally:
        lock.release()


def _acquire(store: LockStore, key: Key, fields: dict[str, Any]) -> Lock:
    inherited = False
    for _ in range(2):
        try:
            etag = _put_new(store, key, fields)
        except AlreadyExists:
            held = _read(store, key)
            if held is None:
                continue
            if held.fields.get("id") == fields["id"]:  # our own PUT, whose answer was lost
                etag = held.etag
            elif _is_dead(held.fields):
                inherited = held.fields.get("began_empty") is True
                _take_away(store, key, held)
                continue
            else:
                raise _taken(key, held.fields) from None
        lock = Lock(store, key, fields, etag)
        lock.inherited = inherited
        return lock
    raise _taken(key, {})


def _put_new(store: LockStore, key: Key, fields: dict[str, Any]) -> ETag:
    try:
        return store.put(key, _body(fields), if_absent=True).etag
    except RequestRejected as error:
        if error.status != 501:  # Swift before 2.36 knows no If-None-Match
            raise
    if _read(store, key) is not None:
        raise AlreadyExists(key)
    etag = store.put(key, _body(fields)).etag
    held = _read(store, key)  # of two that put at once, the later one holds it
    if held is None or held.fields.get("id") != fields["id"]:
        raise AlreadyExists(key)
    return etag


def _take_away(store: LockStore, key: Key, held: _Held) -> None:
    _log.warning("ingest.lock_of_the_dead", key=key, file=held.fields.get("file"))
    try:
        store.delete(key, if_match=held.etag)
    except VersionChanged:
        raise _taken(key, held.fields) from None


def _read(store: LockStore, key: Key) -> _Held | None:
    try:
        fetched = store.get(key)
    except NotFound:
        return None
    try:
        fields = json.loads(fetched.data)
    except ValueError:
        fields = None
    return _Held(fetched.meta.etag, fields if isinstance(fields, dict) else {})


def _body(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


def _taken(key: Key, fields: dict[str, Any]) -> TargetExists:
    what = f" of {fields['file']} since {fields['since']}" if "since" in fields else ""
    return TargetExists(
        f"another conversion{what} is writing there; if it is not running any more, remove {key}"
    )


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": _host(), "pid": pid, "started": _start_time(pid)}


def _is_dead(fields: dict[str, Any]) -> bool:
    expires, pid = fields.get("expires"), fields.get("pid")
    if isinstance(expires, int | float) and expires < time.time():
        return True
    if fields.get("host") != _host() or not isinstance(pid, int):
        return False
    return _start_time(pid) != fields.get("started")


def _host() -> str:
    """This boot of this machine and this PID namespace, without its name: buckets are shared."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = Path("/proc/self/ns/pid").readlink()
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:32]


def _start_time(pid: int) -> int | None:
    """In clock ticks since boot (proc(5), field 22): a PID alone may be another process by now."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None
    return int(status.rpartition(")")[2].split()[19])
