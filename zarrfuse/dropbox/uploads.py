"""Objects on their way into the bucket: in parallel within a stage, stage after stage.

Bounded in bytes, each answer compared with what was sent, and undone as a whole. One thread puts;
the pool's threads upload.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import structlog

from zarrfuse.convert.frames import Stage, StoreObject
from zarrfuse.core.keys import Key, ObjectMeta, Prefix, content_md5
from zarrfuse.errors import ConversionCancelled, ConversionError, StoreError
from zarrfuse.store.base import DeleteMany, Put

_log = structlog.get_logger(__name__)

#: Encoded chunks that wait in memory or are being sent; the worker waits beyond that.
_IN_FLIGHT_BYTES = 128 << 20
_POLL_S = 0.2


class UploadStore(Put, DeleteMany, Protocol):
    """What is needed to write, and to take it back."""


class Uploads:
    """Use with `with`; `put` from one thread only."""

    def __init__(
        self, store: UploadStore, root: Prefix, *, at_once: int, cancelled: Callable[[], bool]
    ) -> None:
        self._store = store
        self._root = root
        self._cancelled = cancelled
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="publish")
        self._stage = Stage.CHUNK
        self._sent: list[Key] = []
        self._stored_bytes = 0
        # Guards what follows; nothing is sent while it is held.
        self._changed = threading.Condition()
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._error: Exception | None = None
        self._stored: list[ObjectMeta] = []

    def __enter__(self) -> Uploads:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def stored(self) -> Sequence[ObjectMeta]:
        """What is in the bucket, after `finish`; in order of stages."""
        return self._stored

    @property
    def stored_bytes(self) -> int:
        return self._stored_bytes

    def put(self, item: StoreObject) -> None:
        """Sends one object; blocks while too much is under way, or an earlier stage is not whole.

        Raises what an earlier upload failed with.
        """
        if item.stage > self._stage:
            self.finish()
            self._stage = item.stage
        size = len(item.data)
        self._wait(lambda: self._in_flight_bytes == 0 or self._fits(size))
        key = self._root.file(item.key)
        self._sent.append(key)
        self._stored_bytes += size
        with self._changed:
            self._in_flight += 1
            self._in_flight_bytes += size
        self._pool.submit(self._send, key, item.data)

    def finish(self) -> None:
        """Returns when all that was put is in the bucket; raises what failed."""
        self._wait(lambda: self._in_flight == 0)

    def undo(self) -> None:
        """Removes whatever was sent, metadata first. ConversionError where some of it remains."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        left = remove(self._store, self._sent[::-1])
        if left:
            raise ConversionError(
                f"{len(left)} objects could not be removed again, such as {left[0]}"
            )

    def _fits(self, size: int) -> bool:
        return self._in_flight_bytes + size <= _IN_FLIGHT_BYTES

    def _wait(self, ready: Callable[[], bool]) -> None:
        with self._changed:
            while self._error is None and not ready():
                if self._cancelled():
                    raise ConversionCancelled("the conversion was cancelled")
                self._changed.wait(_POLL_S)
            if self._error is not None:
                raise self._error

    def _send(self, key: Key, data: bytes) -> None:
        try:
            meta = self._store.put(key, data)
            _check(meta, data)
        except Exception as error:  # noqa: BLE001 (kept, and raised by the thread that puts)
            with self._changed:
                self._error = self._error or error
        else:
            with self._changed:
                self._stored.append(meta)
        finally:
            with self._changed:
                self._in_flight -= 1
                self._in_flight_bytes -= len(data)
                self._changed.notify_all()


def remove(store: DeleteMany, keys: Sequence[Key]) -> list[Key]:
    """Deletes all of them; those that could not be are logged and answered."""
    if not keys:
        return []
    try:
        kept = store.delete_many(keys)
    except StoreError as error:
        _log.error("publish.not_removed", keys=len(keys), reason=str(error))
        return list(keys)
    for key, refusal in kept.items():
        _log.error("publish.not_removed", key=key, reason=str(refusal))
    return list(kept)


def _check(meta: ObjectMeta, data: bytes) -> None:
    """What the server says it has is what was sent (where its ETag says so)."""
    stated = content_md5(meta.etag)
    if stated is not None and stated != hashlib.md5(data, usedforsecurity=False).hexdigest():
        raise ConversionError(f"the bucket holds other bytes than were sent, in {meta.key}")
