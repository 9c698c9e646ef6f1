"""What is kept of a published file: nothing that is not the version it is kept as."""

from __future__ import annotations

from pathlib import Path

import pytest

from zarrfuse.core.keys import ETag, Key, ObjectMeta
from zarrfuse.spool.files import Spool
from zarrfuse.spool.publisher import Publisher
from zarrfuse.store.base import Body
from zarrfuse.store.memory import MemoryStore

KEY = Key("k")
OURS = b"ours"


class Answering(MemoryStore):
    """Answers a PUT with what a HEAD says after it, as stores do that give no ETag."""

    def __init__(self, *, theirs: bytes = b"", etag: str = "") -> None:
        super().__init__()
        self._theirs = theirs
        self._etag = etag

    def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
        meta = super().put(key, self._theirs or body, if_absent=if_absent)
        return ObjectMeta(key, meta.size, ETag(self._etag or meta.etag), meta.modified_ns)


@pytest.mark.parametrize(
    ("store", "kept"),
    [
        (Answering(), [OURS]),
        (Answering(theirs=b"them"), []),  # another client's PUT came in between
        (Answering(theirs=b"longer"), []),
        (Answering(etag="0123456789abcdef-1"), []),  # proves nothing
    ],
)
def test_bytes_are_kept_only_as_their_own_version(
    tmp_path: Path, store: Answering, kept: list[bytes]
) -> None:
    spool = Spool(tmp_path, keep_free_fraction=0, keep_free_bytes=0)
    seen: list[bytes] = []
    told: list[ObjectMeta] = []
    publisher = Publisher(store, told.append, keep=lambda meta, data: seen.append(data))
    file = spool.create(KEY, None)
    file.write(0, OURS)
    meta = publisher.publish(KEY, file)
    assert seen == kept
    assert told == [meta]
