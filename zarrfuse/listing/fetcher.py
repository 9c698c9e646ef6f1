"""Asks the bucket for pages and has them taken in: one, or many at once until a range is known.

Decides where to cut a range (`Sweep`) and nothing about what an answer means.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import structlog

from zarrfuse.errors import StoreError
from zarrfuse.listing.known import Known
from zarrfuse.listing.memory import Area
from zarrfuse.listing.pages import Pages
from zarrfuse.listing.space import Told
from zarrfuse.listing.sweep import Sweep

log = structlog.get_logger(__name__)

#: LISTs in flight for one directory. A page costs us 15 ms of CPU (facts: swift 2), so that more
#: than this over 100 ms would only wait for the interpreter.
AT_ONCE = 8
#: Things to do ahead that may wait; a store may have thousands of small arrays.
_AHEAD = 32


class Fetcher:
    """Thread-safe. Owns the threads on which pages are asked for side by side."""

    def __init__(self, pages: Pages, known: Known, clock: Callable[[], float]) -> None:
        self._pages = pages
        self._known = known
        self._clock = clock
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="listing")
        self._room = threading.BoundedSemaphore(_AHEAD)

    @property
    def page_rows(self) -> int:
        return self._pages.page_rows

    def close(self) -> None:
        """Drops what waits; what is in flight ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def page(self, area: Area, after: str) -> Told:
        """Asks for the page of what follows `after` and takes it in."""
        told = self._pages.ask(area, after, self._clock())
        self._known.take(area, told)
        return told

    def sweep(
        self,
        area: Area,
        after: str,
        stop: str | None,
        asked_at: float,
        *,
        places: Sequence[str] | None = None,
        max_pages: int | None = None,
    ) -> None:
        """Asks for what is not known of (after, stop] as of `asked_at`, for up to `max_pages`."""
        plan = Sweep(after, stop, at_once=AT_ONCE, places=places, max_pages=max_pages)
        running: dict[Future[Told], str] = {}
        try:
            while True:
                starts = plan.starts(lambda lower, upper: self._gap(area, lower, upper, asked_at))
                if len(starts) == 1 and not running:  # most directories have one page
                    self._page_of(plan, area, starts[0], asked_at)
                    continue
                for start in starts:
                    running[self._pool.submit(self._pages.ask, area, start, self._clock())] = start
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self._take(plan, area, running.pop(future), future.result(), asked_at)
        finally:
            for future in running:
                future.cancel()

    def ahead(self, task: Callable[..., None], *args: object) -> None:
        """Does something soon that somebody will most likely want, unless much of that waits
        already; its failure is nobody's."""
        if not self._room.acquire(blocking=False):
            return
        try:
            self._pool.submit(task, *args).add_done_callback(self._ended)
        except RuntimeError:  # closed: the mount is being taken away
            self._room.release()
            log.debug("listing after the end")

    def _ended(self, future: Future[None]) -> None:
        self._room.release()
        _log_failure(future)

    def _page_of(self, plan: Sweep, area: Area, start: str, asked_at: float) -> None:
        self._take(plan, area, start, self._pages.ask(area, start, self._clock()), asked_at)

    def _take(self, plan: Sweep, area: Area, start: str, told: Told, asked_at: float) -> None:
        names = [position for position, _ in told.rows]
        useful = bool(names) and self._gap(area, start, names[0], asked_at) is not None
        self._known.take(area, told)
        plan.answered(start, names, useful=useful)

    def _gap(self, area: Area, lower: str, upper: str | None, asked_at: float) -> str | None:
        return self._known.gap(area, lower, upper, asked_at)


def _log_failure(future: Future[None]) -> None:
    """An error of the bucket meets who asks next; a defect is logged with its traceback."""
    error = None if future.cancelled() else future.exception()
    if isinstance(error, StoreError):
        log.debug("listing ahead failed", error=str(error))
    elif error is not None:
        log.error("listing ahead failed unexpectedly", exc_info=error)
