"""Format version 1 of a block's file, byte by byte: later versions must still read it, or move on
to another directory than v1."""

from __future__ import annotations

from zarrfuse.cache.format import BlockId, allocated, disk_bytes, header, header_bytes
from zarrfuse.core.keys import ETag, Key

BLOCK = BlockId(
    "http://localhost:8080/my_bucket",
    Key("é/0.0"),
    ETag("d41d8cd98f00b204e9800998ecf8427e"),
    4194304,
    4194309,
)


def test_the_name_stays() -> None:
    assert BLOCK.name.hex() == "687cfe20ef43755ec7ea8ea7828e4a6a"


def test_the_header_stays() -> None:
    identity = (
        b"4194304\x004194309\x00d41d8cd98f00b204e9800998ecf8427e\x00"
        b"\xc3\xa9/0.0\x00http://localhost:8080/my_bucket"
    )
    fixed = bytes.fromhex(
        "7a66626c6f636b0a 01000000 57000000 0500000000000000 b5e9c1ad071b3e7fc779cfaa5e523818"
    )
    assert header(BLOCK.encoded, b"hello") == fixed + identity
    assert header_bytes(BLOCK) == len(fixed) + len(identity)


def test_space_is_counted_as_the_disk_hands_it_out() -> None:
    assert [allocated(size) for size in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]
    assert disk_bytes(BLOCK) == 4096


def test_fields_cannot_run_into_each_other() -> None:
    one = BLOCK._replace(etag=ETag("a"), key=Key("b/c"), bucket="d")
    other = BLOCK._replace(etag=ETag("a"), key=Key("b"), bucket="c/d")
    assert one.name != other.name
