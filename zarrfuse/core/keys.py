"""Keys, prefixes and ETags: what names a version of an object, and which keys can be file names.

Pure. The only module that knows that "/" parts a key; nothing here asks a bucket or a disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: Longest key that S3 and Swift take, in bytes of UTF-8 (measured: 1025 answers KeyTooLongError).
MAX_KEY_BYTES = 1024
#: Longest name of one component on Linux (NAME_MAX), in bytes.
MAX_NAME_BYTES = 255


class ETag(str):
    """The server's name for one version of an object: opaque, compared, never parsed. Unquoted."""

    __slots__ = ()

    @classmethod
    def parse(cls, header: str | None) -> ETag:
        """From a header or a listing, with or without quotes or the weak mark."""
        text = (header or "").strip().removeprefix("W/")
        return cls(text.strip('"'))

    @property
    def quoted(self) -> str:
        """As If-Match wants it."""
        return f'"{self}"'


class Prefix(str):
    """The part of the key space under one directory: "" for the root, else it ends in "/"."""

    __slots__ = ()

    @property
    def is_root(self) -> bool:
        return self == ""

    @property
    def name(self) -> str:
        """Last component, "" for the root."""
        return self[:-1].rpartition("/")[2]

    @property
    def parent(self) -> Prefix:
        """The prefix one level up; the root is its own parent."""
        return Prefix(self[: self.rfind("/", 0, -1) + 1])

    @property
    def marker(self) -> Key:
        """The key of an object that stands for the directory itself, as some tools make."""
        return Key(self)

    @property
    def as_key(self) -> Key:
        """The key of an object with the directory's own name."""
        return Key(self[:-1])

    def file(self, name: str) -> Key:
        return Key(self + name)

    def directory(self, name: str) -> Prefix:
        return Prefix(f"{self}{name}/")

    def lineage(self) -> Iterator[Prefix]:
        """Itself, then each prefix above it, the root last."""
        here = self
        while here:
            yield here
            here = here.parent
        yield here


class Key(str):
    """The full name of an object in its bucket, as the server has it: never normalised."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Last component."""
        return self.rpartition("/")[2]

    @property
    def parent(self) -> Prefix:
        head, slash, _ = self.rpartition("/")
        return Prefix(head + slash)

    @property
    def as_prefix(self) -> Prefix:
        """The directory of the same name."""
        return Prefix(f"{self}/") if self else Prefix("")

    def under(self, prefix: Prefix) -> str:
        """What follows `prefix`; the key must lie under it."""
        return self[len(prefix) :]


ROOT = Prefix("")


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What a listing row or a HEAD says of one object.

    `size` in bytes; `modified_ns` since the epoch (Swift rounds LastModified up to a second, so it
    can lie up to a second ahead). Only (key, etag) names a version; times never do.
    """

    key: Key
    size: int
    etag: ETag
    modified_ns: int


def is_file_name(name: str) -> bool:
    """Whether one component of a key can be the name of a directory entry on Linux."""
    return (
        name not in ("", ".", "..")
        and "\0" not in name
        and "/" not in name
        and len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES
    )


def is_key_text(text: str) -> bool:
    """Whether `text` can be sent as a key: UTF-8, not empty, short enough, without NUL."""
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:  # a path that is not UTF-8 arrives with surrogate escapes
        return False
    return 0 < size <= MAX_KEY_BYTES and "\0" not in text


def path_key(path: str) -> Key:
    """The key that an absolute path inside the mount names; "" for the root."""
    return Key(path.lstrip("/"))


def content_md5(etag: ETag) -> str | None:
    """The MD5 that an ETag states, or None where it states none (multipart, SLO, other stores)."""
    text = etag.lower()
    return str(text) if len(text) == 32 and set(text) <= set("0123456789abcdef") else None


def is_other_form(listed: ObjectMeta, head: ObjectMeta) -> bool:
    """Whether `head` is the version that a listing gave another ETag: a copied multipart object.

    Its listing has the MD5 of its bytes, HEAD the form "...-N" (measured on Swift). Anything less
    could take two versions of one size, written in one second, for one.
    """
    return (
        head.size == listed.size
        and head.modified_ns // 10**9 == listed.modified_ns // 10**9
        and content_md5(listed.etag) is not None
        and content_md5(head.etag) is None
    )
