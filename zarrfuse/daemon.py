"""Composition only: builds every part of one mount, hands each what it needs, and takes them down.

The one place that knows all layers. What must go up goes by the callables made here: published
bytes -> listing, failures -> errors seen.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from zarrfuse import __version__
from zarrfuse.cache.memory import MemoryBlocks
from zarrfuse.cache.opening import open_disk_tier, room_of
from zarrfuse.cache.prefetch import Names, Prefetcher, PrefetchingReader
from zarrfuse.cache.reader import CachingReader
from zarrfuse.cache.warm import Warmer
from zarrfuse.cache.warming import WarmProgress, WarmRequest
from zarrfuse.config import Config
from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.core.zarr.metadata import ArrayGrid
from zarrfuse.core.zarr.names import store_root
from zarrfuse.core.zarr.splits import splits_of
from zarrfuse.dropbox.jobs import Job, Jobs
from zarrfuse.dropbox.publish import publish_store
from zarrfuse.dropbox.worker import Limits
from zarrfuse.errors import Busy, ExitCode, NotFound, UserError, ZarrfuseError
from zarrfuse.listing.listing import Listing
from zarrfuse.mount.binding import load_binding
from zarrfuse.mount.life import Mounting, check_mountpoint, serve
from zarrfuse.mount.notify import Notifier
from zarrfuse.mount.operations import Ownership
from zarrfuse.places import state_home
from zarrfuse.report.errors_seen import ErrorsSeen
from zarrfuse.report.socket import Server, runtime_directory, socket_path
from zarrfuse.report.status import Conversion, OfflineSince, ParkedFile, Status
from zarrfuse.spool.files import Spool
from zarrfuse.spool.publisher import Publisher
from zarrfuse.spool.written import WrittenFiles
from zarrfuse.spool.written_file import Rules
from zarrfuse.store.base import Store
from zarrfuse.store.open import Traffic, open_checked
from zarrfuse.store.outage import Silence
from zarrfuse.tree import bucket, dropbox_view
from zarrfuse.tree.base import Tree
from zarrfuse.tree.bucket import BucketTree, Reader, Times
from zarrfuse.tree.dropbox_view import DropBoxTree, Intake
from zarrfuse.tree.readonly import ReadOnlyTree
from zarrfuse.tree.router import RouterTree

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What a user asked for."""

    source: str
    mountpoint: Path
    endpoint_url: str | None
    region: str | None
    profile: str | None
    anonymous: bool
    non_empty: bool
    config: Config


class Daemon:
    """One mount from its checks to its drain. Errors before the mount is live are UserErrors."""

    def __init__(self, request: MountRequest, environ: Mapping[str, str]) -> None:
        self._request = request
        self._config = request.config
        self._started = datetime.now(UTC)
        self._errors = ErrorsSeen()
        check_mountpoint(request.mountpoint, non_empty=request.non_empty)
        self._binding = load_binding(self._config.mount.binding)
        self._socket = socket_path(runtime_directory(environ), request.mountpoint)
        self._traffic = Traffic(self._config.requests)
        self._store = self._open_store(environ)
        self._notifier = Notifier(request.mountpoint)
        self._listing = Listing(
            self._store,
            ttl_s=math.inf if self._config.mount.immutable else self._config.metadata.ttl_s,
            settle_s=self._config.listing.settle_s,
            page_rows=self._config.listing.page_rows,
            max_keys=self._config.listing.max_keys,
            changed=lambda parent, name: self._notifier.changed(parent.file(name)),
        )
        self._disk = open_disk_tier(self._config.cache)
        self._cached = CachingReader(
            self._store,
            self._disk,
            MemoryBlocks(int(self._config.cache.memory)),
            self._config.cache,
            bucket=self._store.describe,
        )
        self._warmer = Warmer(
            self._store,
            self._listing,
            self._disk,
            self._config.cache,
            self._config.warm,
            bucket=self._store.describe,
            room_bytes=partial(room_of, self._config.cache, self._disk),
        )
        self._prefetcher = self._start_prefetching()
        self._reader = self._watched_reader()
        self._spool = self._open_spool()
        self._times = Times()
        self._written = self._written_files()
        self._jobs = Jobs(
            self._convert,
            workers=self._config.ingest.workers,
            forget_s=self._config.ingest.forget_s,
            changed=self._drop_changed,
        )
        self._tree = self._compose_tree()

    def notes(self) -> list[str]:
        """What a user should know when the mount is live."""
        parked = self._spool.parked()
        if not parked:
            return []
        return [
            f"{len(parked)} files of an earlier run are not in the bucket; "
            f"zarrfuse status {self._request.mountpoint} names them"
        ]

    def run(self, ready: Callable[[], None]) -> int:
        """Serves until unmounted; the exit code: 75 if something could not be published."""
        before = {parked.path for parked in self._spool.parked()}
        answers = {"status": lambda body: iter([self.status()]), "warm": self._warm}
        server = Server(self._socket, answers)
        try:
            serve(
                self._mounting(),
                self._tree,
                self._notifier,
                ready=ready,
                changed=self._path_changed,
                ended=self._drain,
            )
        finally:
            server.close()
        self._spool.park_leftovers()
        left = {parked.path for parked in self._spool.parked()} - before
        self._spool.close()
        self._disk.close()
        self._listing.close()
        self._store.close()
        return ExitCode.TRY_AGAIN if left else ExitCode.OK

    def status(self) -> Status:
        """The mount as of now."""
        return Status(
            pid=os.getpid(),
            version=__version__,
            mountpoint=str(self._request.mountpoint),
            source=self._store.describe,
            read_only=self._read_only,
            binding=f"{self._binding.name} on libfuse {self._binding.libfuse}",
            started=self._started.isoformat(timespec="seconds"),
            requests=self._traffic.counters.snapshot(),
            limit=self._traffic.limit.snapshot(),
            offline=_offline(self._traffic.outage.silence),
            cache=self._cached.snapshot()
            | (self._prefetcher.snapshot() if self._prefetcher is not None else {}),
            listing=self._listing.snapshot(),
            spool=self._written.snapshot(),
            spool_directory=str(self._spool.directory),
            parked=[
                ParkedFile(key=p.key, size=p.size, reason=p.reason, path=str(p.path))
                for p in self._spool.parked()
            ],
            conversions=[_conversion(job) for job in self._jobs.all()],
            errors=self._errors.all(),
        )

    def _warm(self, body: object) -> Iterator[WarmProgress]:
        return self._warmer.run(WarmRequest.model_validate(body))

    @property
    def _read_only(self) -> bool:
        return self._config.mount.read_only or self._config.mount.immutable

    @property
    def _drop_box(self) -> Prefix:
        return Prefix(f"{self._config.ingest.name}/")

    # Parts ---------------------------------------------------------------------------------

    def _open_store(self, environ: Mapping[str, str]) -> Store:
        request = self._request
        store = open_checked(
            request.source,
            endpoint_url=request.endpoint_url,
            region=request.region,
            profile=request.profile,
            anonymous=request.anonymous,
            config=self._config,
            environ=environ,
            traffic=self._traffic,
        )
        if not self._read_only:
            self._refuse_clash(store)
        return store

    def _refuse_clash(self, store: Store) -> None:
        """The drop box must not hide what is in the bucket."""
        name = self._config.ingest.name
        taken = bool(store.list_page(f"{name}/", limit=1).objects)
        try:
            store.head(Key(name))
            taken = True
        except NotFound:
            pass
        if taken:
            raise UserError(
                f"the bucket has something called {name!r}, which the drop box would hide; "
                "give the drop box another name: -o ingest.name=NAME",
                ExitCode.CONFIG,
            )

    def _start_prefetching(self) -> Prefetcher | None:
        if self._config.prefetch.at_once == 0:
            return None
        listing = self._listing
        names = Names(listing.listed, listing.fresh, listing.children, self._flatten)
        return Prefetcher(self._cached, names, self._config.prefetch, self._config.cache)

    def _flatten(self, array: Prefix, grid: ArrayGrid) -> None:
        self._listing.flatten(array, objects=grid.count, splits=partial(splits_of, grid))

    def _watched_reader(self) -> Reader:
        if self._prefetcher is None:
            return self._cached
        return PrefetchingReader(self._cached, self._prefetcher)

    def _open_spool(self) -> Spool:
        config = self._config.spool
        base = config.directory or state_home() / "spool"
        identity = f"{self._store.describe}\n{self._request.mountpoint}"
        directory = base / hashlib.sha256(identity.encode()).hexdigest()[:16]
        try:
            return Spool(
                directory,
                keep_free_fraction=config.keep_free_fraction,
                keep_free_bytes=int(config.keep_free_bytes),
            )
        except Busy as error:
            raise UserError(str(error), ExitCode.TRY_AGAIN) from None

    def _written_files(self) -> WrittenFiles:
        publisher = Publisher(self._store, self._listing.note_put, keep=self._cached.keep)
        rules = Rules(
            spool=self._spool,
            publish=publisher.publish,
            read_base=self._reader.read,
            failed=partial(self._failed, "publishing", Prefix("")),
            settle_s=self._config.spool.settle_s,
        )
        return WrittenFiles(rules, self._times.give)

    def _compose_tree(self) -> Tree:
        outer = BucketTree(
            bucket.Parts(
                listing=self._listing,
                reader=self._reader,
                written=self._written,
                changes=self._store,
                times=self._times,
                rename_max_objects=self._config.tree.rename_max_objects,
                watch=self._prefetcher,
            )
        )
        if self._read_only:
            return ReadOnlyTree(outer)
        intake = Intake(self._jobs)
        rules = Rules(
            spool=self._spool,
            publish=intake.publish,
            read_base=intake.read,
            failed=partial(self._failed, "drop box", self._drop_box),
            settle_s=None,  # what was never renamed may be half a file: it is no drop
        )
        inner = DropBoxTree(
            dropbox_view.Parts(
                bucket=outer,
                listing=self._listing,
                written=WrittenFiles(rules, _no_times),
                jobs=self._jobs,
                wait_s=self._config.ingest.wait_s,
            )
        )
        return RouterTree(outer, inner, self._config.ingest.name)

    def _convert(self, job: Job) -> int:
        config = self._config.ingest
        summary = publish_store(
            self._store,
            store_root(job.key),
            job.file.path,
            name=job.key.name,
            limits=Limits(deadline_s=config.deadline_s, memory_bytes=int(config.memory)),
            at_once=self._config.requests.most_at_once,
            published=self._listing.announce_put,
            removed=self._listing.announce_deleted,
            progress=job.follow,
            cancelled=job.cancel.is_set,
            overwrite=False,
        )
        return summary.objects

    def _mounting(self) -> Mounting:
        mount = self._config.mount
        return Mounting(
            binding=self._binding,
            mountpoint=self._request.mountpoint,
            source=self._request.source,
            owner=Ownership(
                uid=os.getuid() if mount.uid is None else mount.uid,
                gid=os.getgid() if mount.gid is None else mount.gid,
                umask=mount.umask,
                shared=mount.allow_other,
                read_only=self._read_only,
            ),
            kept_s=self._config.metadata.ttl_s / 2 if mount.attr_s is None else mount.attr_s,
            immutable=mount.immutable,
            non_empty=self._request.non_empty,
        )

    def _drain(self) -> None:
        """After the unmount: everything that can go into the bucket goes."""
        self._warmer.close()
        if self._prefetcher is not None:
            self._prefetcher.close()
        try:
            self._tree.drain()
        finally:
            late = self._jobs.drain(self._config.mount.drain_s)
        if late:
            log.warning("conversions were cut off by the unmount", files=late)

    def _failed(self, what: str, place: Prefix, key: Key, error: ZarrfuseError) -> None:
        log.warning("failed with nobody to tell", what=what, key=key, error=str(error))
        self._errors.note(f"{what} {key}", error)
        self._notifier.changed(place.file(key))

    def _path_changed(self, path: Key) -> None:
        """The drop box shows the bucket's directories, and the kernel takes them for others."""
        self._notifier.changed(path)
        if path.startswith(self._drop_box):
            self._notifier.changed(Key(path.under(self._drop_box)))
        else:
            self._notifier.changed(self._drop_box.file(path))

    def _drop_changed(self, key: Key) -> None:
        self._notifier.changed(self._drop_box.file(key))
        self._notifier.changed(self._drop_box.file(key + dropbox_view.ERROR_ENDING))


def log_path(mountpoint: Path) -> Path:
    """The log of a mount that was started in the background."""
    name = str(mountpoint.absolute()).strip("/").replace("/", "-") or "root"
    return state_home() / "log" / f"{name}.log"


def _conversion(job: Job) -> Conversion:
    return Conversion(
        name=job.key,
        state=job.state.value,
        size=job.size,
        objects=job.objects,
        done_bytes=job.progress.done_bytes,
        total_bytes=job.progress.total_bytes,
        error=str(job.error or ""),
    )


def _offline(silence: Silence | None) -> OfflineSince | None:
    if silence is None:
        return None
    return OfflineSince(since=silence.since.isoformat(timespec="seconds"), reason=silence.reason)


def _no_times(meta: ObjectMeta, mtime_ns: int) -> None:
    """Times of dropped files are kept by their jobs."""
