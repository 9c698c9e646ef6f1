"""How spooled bytes become an object: one PUT, whole or not at all, and everyone told.

Knows the store's `put` and nothing of handles or paths.
"""

from __future__ import annotations

from collections.abc import Callable

from zarrfuse.core.keys import Key, ObjectMeta, content_md5
from zarrfuse.spool.files import SpoolFile
from zarrfuse.store.base import Put
from zarrfuse.store.bodies import md5_of

#: Up to this size the bytes are sent from memory, which spares the client opening the file.
_INLINE_BYTES = 16 * 1024**2


class Publisher:
    """`published` is called with what stands in the bucket, after it does and before we return;
    `keep` before that, with the bytes as well, where they are in memory and are that version's."""

    def __init__(
        self,
        store: Put,
        published: Callable[[ObjectMeta], None],
        *,
        keep: Callable[[ObjectMeta, bytes], None],
    ) -> None:
        self._store = store
        self._published = published
        self._keep = keep

    def publish(self, key: Key, file: SpoolFile, *, if_absent: bool = False) -> ObjectMeta:
        """The file's bytes as the object `key`. AlreadyExists only with `if_absent`."""
        body = file.read(0, file.size) if file.size <= _INLINE_BYTES else file.path
        meta = self._store.put(key, body, if_absent=if_absent)
        if isinstance(body, bytes) and _is_version(meta, body):
            self._keep(meta, body)
        self._published(meta)
        return meta


def _is_version(meta: ObjectMeta, data: bytes) -> bool:
    """Whether the ETag proves it. Some stores answer a PUT with what a HEAD says after it: another
    client may have put its own bytes in between. Hashed once more: 30 ms for 16 MiB (measured)."""
    return meta.size == len(data) and content_md5(meta.etag) == md5_of(data)
