"""From a NetCDF file to a Zarr store in the bucket: whole, verified, or not at all.

Chunks go up first and `.zmetadata` last, after the worker has said that all is well; whatever
fails before removes what was put, and nothing else. What stands at the target is never touched,
unless the caller says so. Never imports the converter: that is a process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from zarrfuse.convert.frames import Progress, Stage, StoreObject
from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.dropbox.lock import Lock, LockStore, hold
from zarrfuse.dropbox.target import Standing, TargetStore, look
from zarrfuse.dropbox.uploads import Uploads, UploadStore, remove
from zarrfuse.dropbox.worker import CONVERTER, Command, Limits, Origin, run_worker
from zarrfuse.errors import ConversionError, TargetExists
from zarrfuse.store.base import list_all


class PublishStore(TargetStore, UploadStore, LockStore, Protocol):
    """All verbs but copy."""


@dataclass(frozen=True, slots=True)
class Summary:
    """`unchanged`: the store was there already, made from the same bytes; nothing was sent."""

    root: Prefix
    sha256: str
    unchanged: bool
    objects: int = 0
    arrays: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0


def _unheard(_: Key) -> None:
    """For callers that keep no listing."""


def publish_store(
    store: PublishStore,
    root: Prefix,
    source: Path,
    *,
    name: str,
    limits: Limits,
    at_once: int,
    published: Callable[[ObjectMeta], None],
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
    overwrite: bool,
    removed: Callable[[Key], None] = _unheard,
    command: Command = CONVERTER,
) -> Summary:
    """Makes the store at `root` from `source`, which its owner calls `name`.

    `published` gets every object once the store is whole, `.zmetadata` last; `removed` each key
    of an old store as it goes. Blocks. Raises TargetExists, what run_worker raises, StoreError.
    """
    with source.open("rb") as file:
        origin = Origin(name, hashlib.file_digest(file, "sha256").hexdigest())
    with hold(store, root, name=name, deadline_s=limits.deadline_s) as lock:
        standing = look(store, root)
        if _is_same(standing, origin):
            return Summary(root, origin.sha256, unchanged=True)
        if standing is not None and not overwrite and not (lock.inherited and standing.is_rubbish):
            raise _exists(standing, origin, root)
        old = _Old(store, root, standing, lock, removed)
        with Uploads(store, root, at_once=at_once, cancelled=cancelled) as uploads:
            publication = _Publication(uploads, old)
            try:
                done = run_worker(
                    source,
                    origin=origin,
                    limits=limits,
                    sink=publication.put,
                    progress=progress,
                    cancelled=cancelled,
                    command=command,
                )
                publication.commit()
            except BaseException as error:
                _undo(uploads, error)
                raise
        for meta in uploads.stored:
            published(meta)
        return Summary(
            root,
            origin.sha256,
            unchanged=False,
            objects=done.objects,
            arrays=done.arrays,
            raw_bytes=done.raw_bytes,
            stored_bytes=uploads.stored_bytes,
        )


@dataclass(slots=True)
class _Old:
    """What stood there: removed, if at all, when the new file has proved readable."""

    store: PublishStore
    root: Prefix
    standing: Standing | None
    lock: Lock
    removed: Callable[[Key], None]

    def clear(self) -> None:
        """The commit goes first, then other metadata, then chunks: no reader sees half a store."""
        if self.standing is not None:
            keys = [row.key for row in list_all(self.store, self.root)]
            if self.standing.is_object:
                keys = [self.root.as_key]
            for wave in _waves(self.root, keys):
                left = set(remove(self.store, wave))
                for key in wave:
                    if key not in left:
                        self.removed(key)
                if left:
                    raise ConversionError(f"the old {min(left)} could not be removed")
        self.lock.begin_writing()


def _waves(root: Prefix, keys: list[Key]) -> list[list[Key]]:
    heads = {".zmetadata", "zarr.json", ".zgroup", ".zattrs", ".zarray"}
    first = [key for key in keys if key.under(root) in heads]
    second = [key for key in keys if key.under(root) not in heads and key.name in heads]
    known = {*first, *second}
    return [first, second, [key for key in keys if key not in known]]


@dataclass(slots=True)
class _Publication:
    """Passes objects on; keeps the last one back until the worker is done."""

    uploads: Uploads
    old: _Old
    begun: bool = False
    last: list[StoreObject] = field(default_factory=list)

    def put(self, item: StoreObject) -> None:
        if not self.begun:
            self.old.clear()
            self.begun = True
        if item.stage is Stage.CONSOLIDATED:
            self.last.append(item)
        else:
            self.uploads.put(item)

    def commit(self) -> None:
        for item in self.last:
            self.uploads.put(item)
        self.uploads.finish()


def _is_same(standing: Standing | None, origin: Origin) -> bool:
    if standing is None or standing.source is None or not standing.is_complete:
        return False
    return (standing.source.name, standing.source.sha256) == (origin.name, origin.sha256)


def _exists(standing: Standing, origin: Origin, root: Prefix) -> TargetExists:
    other = ""
    if standing.source is not None and standing.source.name == origin.name:
        other = ", with other content"
    return TargetExists(
        f"{origin.name}: at {root.as_key} stands {standing.words}{other}; it was left as it is. "
        "Rename the file, remove what stands there, or replace it with "
        "`zarrfuse convert --overwrite`"
    )


def _undo(uploads: Uploads, error: BaseException) -> None:
    try:
        uploads.undo()
    except ConversionError as rest:
        raise ConversionError(f"{error}; {rest}") from error
