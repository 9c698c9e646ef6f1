"""Whatever fsspec can open, as a bucket: s3:// through s3fs, memory://, and the rest.

Slower than the adapters of our own, and weaker where fsspec is: a version is looked at before and
after, not asked for, and a delete or copy with `if_match` looks only before. Listings are never
cached. Keys that a file system cannot hold are refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from fsspec.core import url_to_fs

from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix, is_key_text
from zarrfuse.errors import (
    AlreadyExists,
    KeyRefused,
    NotFound,
    StoreError,
    Unavailable,
    VersionChanged,
    ZarrfuseError,
)
from zarrfuse.store.base import Body, Fetched, Page, delete_each
from zarrfuse.store.fsspec_errors import from_fsspec
from zarrfuse.store.order import cut_page

_TIME_FIELDS = ("LastModified", "mtime", "last_modified", "updated", "modified", "created")


class FsspecStore:
    """`url` names the directory that is the bucket; `storage_options` go to the file system."""

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        options = {"skip_instance_cache": True, "use_listings_cache": False}
        self._fs, root = url_to_fs(url, **options, **(storage_options or {}))
        self._root = str(root).rstrip("/")
        self._url = url

    @property
    def describe(self) -> str:
        return self._url

    def close(self) -> None:
        """fsspec closes its own connections when the object goes."""

    # reading

    def head(self, key: Key) -> ObjectMeta:
        path = self._path(key)
        with _told(key):
            return _meta(key, self._fs.info(path))

    def get(
        self,
        key: Key,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: ETag | None = None,
    ) -> Fetched:
        before = self.head(key)
        _require(before, if_match)
        end = before.size if stop is None else min(stop, before.size)
        if start >= end:
            return Fetched(before, b"")
        with _told(key):
            data = bytes(self._fs.cat_file(self._path(key), start=start, end=end))
        after = self.head(key)
        _require(after, if_match)
        if after.etag != before.etag or len(data) != end - start:
            raise Unavailable(f"{key}: changed while it was being read")
        return Fetched(after, data)

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        """fsspec lists whole directories, or whole trees; a page is cut from that."""
        top = f"{self._root}/{Key(prefix).parent}".rstrip("/")
        list_entries = self._entries if delimiter else self._files
        objects: dict[Key, ObjectMeta] = {}
        prefixes: dict[Prefix, None] = {}
        with _told(Key(prefix)):
            for info in list_entries(top):
                key = self._key(info["name"])
                if info["type"] == "directory" and Prefix(f"{key}/").startswith(prefix):
                    prefixes[Prefix(f"{key}/")] = None
                elif info["type"] != "directory" and key.startswith(prefix):
                    objects[key] = _meta(key, info)
        prefixes.pop(Prefix(prefix), None)  # some list a directory as an entry of itself
        rows = (meta for key, meta in objects.items() if Prefix(key) not in prefixes and key)
        return cut_page(rows, prefixes, after, limit)

    def _entries(self, top: str) -> list[dict[str, Any]]:
        try:
            found = self._fs.ls(top, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [info for info in found if str(info["name"]).startswith(f"{top}/")]

    def _files(self, top: str) -> list[dict[str, Any]]:
        found = self._fs.find(top, detail=True, withdirs=False)
        return [info for name, info in found.items() if name.startswith(f"{top}/")]

    # writing

    def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
        path = self._path(key)
        self._refuse_directory(key, path)
        mode = "create" if if_absent else "overwrite"
        if if_absent:  # not every file system knows the mode
            self._refuse_existing(key)
        with _told(key, if_absent=if_absent):
            if isinstance(body, bytes):
                self._fs.pipe_file(path, body, mode=mode)
            else:
                self._fs.put_file(str(body), path, mode=mode)
        return self.head(key)

    def _refuse_existing(self, key: Key) -> None:
        try:
            self.head(key)
        except NotFound:
            return
        raise AlreadyExists(f"{key}: an object of that key exists")

    def _refuse_directory(self, key: Key, path: str) -> None:
        """Object stores hold "a" beside "a/b"; a file system does not, and some would lose it."""
        if not self._is_object_store and self._fs.isdir(path):
            raise KeyRefused(f"{key}: is a directory here")

    @property
    def _is_object_store(self) -> bool:
        protocols = self._fs.protocol
        names = {protocols} if isinstance(protocols, str) else set(protocols)
        return bool(names & {"s3", "s3a", "gs", "gcs", "abfs", "az"})

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        try:
            _require(self.head(key), if_match)
        except NotFound:
            return
        with _told(key):
            try:
                self._fs.rm_file(self._path(key))
            except FileNotFoundError:  # gone since we looked: what was wanted
                return

    def delete_many(self, keys: Sequence[Key]) -> Mapping[Key, StoreError]:
        return delete_each(self, keys)

    def copy(self, source: Key, target: Key, *, if_match: ETag | None = None) -> ObjectMeta:
        _require(self.head(source), if_match)
        path = self._path(target)
        self._refuse_directory(target, path)
        with _told(source):
            self._fs.cp_file(self._path(source), path)
        return self.head(target)

    def _path(self, key: Key) -> str:
        """KeyRefused for what fsspec would take for another path."""
        if not is_key_text(key):
            raise KeyRefused(f"{key!a}: not UTF-8, empty, or longer than 1024 bytes")
        path = f"{self._root}/{key}"
        lineage = [part.name for part in key.parent.lineage() if part]
        odd = any(name in ("", ".", "..") for name in (key.name, *lineage))
        if odd or "::" in key or "://" in key:
            raise KeyRefused(f"{key!a}: cannot be a path of {self._url}")
        return path

    def _key(self, name: str) -> Key:
        return Key(name[len(self._root) + 1 :])


def _meta(key: Key, info: Mapping[str, Any]) -> ObjectMeta:
    if info["type"] == "directory":
        raise NotFound(f"{key}: is a directory")
    size = int(info["size"])
    modified_ns = next((_time_ns(info[name]) for name in _TIME_FIELDS if info.get(name)), 0)
    stated = info.get("ETag") or info.get("etag")
    etag = ETag.parse(stated) if stated else ETag(f"{modified_ns:x}-{size:x}")
    return ObjectMeta(key, size, etag, modified_ns)


def _time_ns(value: Any) -> int:
    if isinstance(value, datetime):
        return int(value.timestamp()) * 10**9 + value.microsecond * 1000
    if isinstance(value, str):
        return _time_ns(datetime.fromisoformat(value))
    return round(float(value) * 10**6) * 1000  # a float holds microseconds, and no more


def _require(meta: ObjectMeta, etag: ETag | None) -> None:
    if etag is not None and meta.etag != etag:
        raise VersionChanged(f"{meta.key}: is another version by now")


@contextmanager
def _told(key: Key, *, if_absent: bool = False) -> Iterator[None]:
    """Whatever a file system raises, as ours; it may be any exception at all."""
    try:
        yield
    except ZarrfuseError:
        raise
    except Exception as error:
        raise from_fsspec(key, error, if_absent=if_absent) from error
