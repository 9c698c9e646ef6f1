"""Conversions of dropped files: a queue, a few threads that wait for converter processes, results.

Knows spool files and a `convert` callable; no paths, no handles, no Zarr. A newer file of the same
name supersedes an older one: the older conversion is cancelled and has ended before the newer one
starts, so that two never mix.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import structlog

from zarrfuse.convert.frames import Progress
from zarrfuse.core.keys import Key, Prefix
from zarrfuse.errors import ConversionCrashed, ConversionError, SpoolError, ZarrfuseError
from zarrfuse.spool.files import SpoolFile

log = structlog.get_logger(__name__)

NOT_BEGUN = Progress(0, 0)


class State(Enum):
    QUEUED = "queued"
    CONVERTING = "converting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (State.DONE, State.FAILED, State.CANCELLED)


@dataclass(slots=True)
class Job:
    """One dropped file. `key` is its path in the drop box; `number` tells generations apart."""

    key: Key
    number: int
    file: SpoolFile
    size: int
    mtime_ns: int
    state: State = State.QUEUED
    error: ZarrfuseError | None = None
    error_shown: bool = True
    objects: int = 0
    progress: Progress = NOT_BEGUN
    ended_at: float = 0.0
    cancel: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def follow(self, progress: Progress) -> None:
        """How far the converter is."""
        self.progress = progress

    @property
    def error_text(self) -> str:
        """The contents of NAME.error.txt."""
        said = str(self.error)
        return f"{said}\n" if said.startswith(self.key.name) else f"{self.key.name}: {said}\n"


class Convert(Protocol):
    def __call__(self, job: Job) -> int:
        """Makes the Zarr store of `job.file`; the number of objects published. Ends early, with
        nothing published, when `job.cancel` is set."""
        ...


class Jobs:
    """Thread-safe; `_lock` guards the tables and is not held while a conversion runs. `changed` is
    told of keys that are shown otherwise than before; it must be quick, and call nothing here."""

    def __init__(
        self,
        convert: Convert,
        *,
        workers: int,
        forget_s: float,
        changed: Callable[[Key], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._convert = convert
        self._forget_s = forget_s
        self._tell_changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[Key, Job] = {}
        self._leaving: dict[Key, Job] = {}
        """The latest job of each key that is shown no more and may not have ended yet."""
        self._numbers = itertools.count(1)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="convert")

    def submit(self, key: Key, file: SpoolFile, mtime_ns: int) -> Job:
        """Queues the bytes of `file` as they are now; they are durable when this returns."""
        own = file.fork()
        try:
            own.sync()
        except SpoolError:
            own.remove()
            raise
        job = Job(key, next(self._numbers), own, own.size, mtime_ns)
        with self._lock:
            before = self._replace(key, job)
            # Under the lock: a job waits for the one before it, which must stand before it in the
            # queue, or a single worker would wait for ever.
            future = self._pool.submit(self._run, job, before)
        future.add_done_callback(_raise_defects)
        return job

    def find(self, key: Key) -> Job | None:
        self._expire()
        with self._lock:
            return self._jobs.get(key)

    def children(self, prefix: Prefix) -> list[Job]:
        self._expire()
        with self._lock:
            return [job for key, job in self._jobs.items() if key.parent == prefix]

    def all(self) -> list[Job]:
        with self._lock:
            return list(self._jobs.values())

    def forget(self, key: Key) -> None:
        """Its owner removed the file: cancelled if it is not done, and not shown any more."""
        with self._lock:
            job = self._jobs.pop(key, None)
            self._changed(key)
            if job is not None:
                job.cancel.set()
                self._note_leaving(job)
        if job is not None:
            self._remove_when_over(job)

    def fail(self, key: Key, file: SpoolFile, error: ConversionError) -> None:
        """A file that needs no converter to be refused."""
        own = file.fork()
        job = Job(key, next(self._numbers), own, own.size, time.time_ns())
        with self._lock:
            before = self._replace(key, job)
            for earlier in before:
                self._note_leaving(earlier)
        self._end(job, State.FAILED, error)
        for earlier in before:
            self._remove_when_over(earlier)

    def drain(self, deadline_s: float) -> int:
        """Waits for what is queued and running, then cancels the rest; how many were cancelled."""
        until = self._clock() + deadline_s
        for job in self.all():
            job.over.wait(max(0.0, until - self._clock()))
        late = [job for job in self.all() if not job.over.is_set()]
        for job in late:
            job.cancel.set()
        self._pool.shutdown(wait=True)
        cut_off = [job for job in late if job.state is State.CANCELLED]
        for job in cut_off:
            job.file.park("unmounted before its conversion had ended")
        return len(cut_off)

    def _replace(self, key: Key, job: Job) -> list[Job]:
        """Puts `job` into the table; those that must have ended before it begins, cancelled."""
        before = [j for j in (self._leaving.get(key), self._jobs.get(key)) if j is not None]
        self._jobs[key] = job
        self._changed(key)
        for earlier in before:
            earlier.cancel.set()
        return before

    def _note_leaving(self, job: Job) -> None:
        """A job ends after those before it: the latest that has not ended stands for all."""
        if not job.over.is_set():
            self._leaving[job.key] = job

    def _run(self, job: Job, before: list[Job]) -> None:
        for earlier in before:
            earlier.over.wait()  # it ends soon: it was cancelled
            self._remove(earlier)
        if job.cancel.is_set():
            self._end(job, State.CANCELLED, None)
            return
        job.state = State.CONVERTING
        try:
            stamp = job.file.stamp()
            job.objects = self._convert(job)
            if job.file.stamp() != stamp:
                raise ConversionCrashed(
                    "the file was changed while it was converted; drop it again"
                )
        except ZarrfuseError as error:
            state = State.CANCELLED if job.cancel.is_set() else State.FAILED
            self._end(job, state, error)
        except BaseException as error:
            self._end(job, State.FAILED, ConversionCrashed(f"a defect in zarrfuse: {error}"))
            raise
        else:
            self._end(job, State.DONE, None)

    def _end(self, job: Job, state: State, error: ZarrfuseError | None) -> None:
        job.error = error
        job.ended_at = self._clock()
        job.state = state
        self._changed(job.key)
        log.info("conversion ended", file=job.key, state=state.value, error=str(error or ""))
        try:
            if state is State.DONE:
                job.file.remove()
            elif state is State.FAILED:
                job.file.mark_parked(str(error))
        except SpoolError as trouble:  # the outcome stands; what is left the next start parks
            log.warning("the spool did not follow", file=job.key, error=str(trouble))
        finally:
            job.over.set()  # whoever waits must hear of it, whatever happens here

    def _remove_when_over(self, job: Job) -> None:
        """Nobody will ask for this job any more: its bytes go, once no converter reads them."""

        def remove() -> None:
            job.over.wait()
            self._remove(job)

        if job.over.is_set():
            remove()
        else:
            threading.Thread(target=remove, name="let-go", daemon=True).start()

    def _remove(self, job: Job) -> None:
        with self._lock:
            if self._leaving.get(job.key) is job:
                del self._leaving[job.key]
        try:
            job.file.remove()
        except SpoolError as trouble:
            log.warning("a dropped file was not removed", file=job.key, error=str(trouble))

    def _expire(self) -> None:
        """Ended jobs are shown for a while, failed ones until their owner removes them."""
        since = self._clock() - self._forget_s
        with self._lock:
            for key, job in list(self._jobs.items()):
                if job.state is State.DONE and job.ended_at < since:
                    del self._jobs[key]
                    self._changed(key)

    def _changed(self, key: Key) -> None:
        if self._tell_changed is not None:
            self._tell_changed(key)


def _raise_defects(future: Future[None]) -> None:
    """A defect in a job's thread belongs into the log with its traceback."""
    error = future.exception() if not future.cancelled() else None
    if error is not None:
        log.error("a conversion thread failed", exc_info=error)
