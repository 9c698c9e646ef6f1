"""A cached block: its identity, its name on disk and the bytes of its file. Format version 1.

Pure. A file is a header, the identity in UTF-8, then the payload:

    8 s   magic "zfblock\\n"
    u32   format version
    u32   length of the identity
    u64   length of the payload
    16 s  xxh3_128 of the payload, big-endian

Integers are little-endian. The name of the file is a digest of the identity, so a collision, a
foreign file and a misplaced one all show as another identity than the one expected.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

import xxhash

from zarrfuse.core.keys import ETag, Key

HEADER = struct.Struct("<8sIIQ16s")
_MAGIC = b"zfblock\n"
_VERSION = 1
#: Length of a block's name, in bytes: 128 bits, so that a chance collision is out of question.
NAME_BYTES = 16
#: What a file takes on disk is counted in units of this, as most file systems hand it out.
_ALLOCATION_BYTES = 4096


class BlockId(NamedTuple):
    """The bytes [start, stop) of one version of one object of one bucket.

    `bucket` is whatever tells buckets apart that may share a cache: endpoint and name.
    """

    bucket: str
    key: Key
    etag: ETag
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def encoded(self) -> bytes:
        """The identity as it is hashed and stored; keys and ETags hold no NUL, numbers neither."""
        text = f"{self.start}\0{self.stop}\0{self.etag}\0{self.key}\0{self.bucket}"
        return text.encode("utf-8", "surrogatepass")

    @property
    def name(self) -> bytes:
        """What the block is called in the index and, in hexadecimal, on disk."""
        return name_of(self.encoded)


def name_of(identity: bytes) -> bytes:
    """The name of the block with that encoded identity."""
    return hashlib.blake2b(identity, digest_size=NAME_BYTES).digest()


def header(identity: bytes, payload: bytes) -> bytes:
    """All that precedes `payload` in the file of the block with that encoded identity.

    A reader makes it again from what it found and compares: each field is checked by that.
    """
    checksum = xxhash.xxh3_128_digest(payload)
    return HEADER.pack(_MAGIC, _VERSION, len(identity), len(payload), checksum) + identity


def header_bytes(block: BlockId) -> int:
    """Length of `header`."""
    return HEADER.size + len(block.encoded)


def allocated(file_bytes: int) -> int:
    """What a file of that length is counted as."""
    return -(-file_bytes // _ALLOCATION_BYTES) * _ALLOCATION_BYTES


def disk_bytes(block: BlockId) -> int:
    """What the block's file will be counted as."""
    return allocated(header_bytes(block) + block.size)
