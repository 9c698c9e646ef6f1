"""Conversion jobs: generations never mix, an end is always told, no dropped byte is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zarrfuse.core.keys import Key, Prefix
from zarrfuse.dropbox.jobs import Job, Jobs, State
from zarrfuse.errors import ConversionCancelled, ConversionCrashed, NotNetCDF, SpoolFull
from zarrfuse.spool.files import Spool, SpoolFile

KEY = Key("a/b.nc")
DEADLINE_S = 10.0


class Converter:
    """Converts when it is told to, or at once; ends early when it is cancelled."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.may_end.set()
        self.error: BaseException | None = None
        self.seen: list[bytes] = []
        self.running = 0
        self.most_running = 0
        self.begun = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self, job: Job) -> int:
        with self._lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.begun.release()
        try:
            while not self.may_end.wait(0.005):
                if job.cancel.is_set():
                    time.sleep(0.05)  # ending takes a while
                    raise ConversionCancelled("superseded")
            self.seen.append(job.file.path.read_bytes())
            if self.error is not None:
                raise self.error
            return 3
        finally:
            with self._lock:
                self.running -= 1


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", keep_free_fraction=0, keep_free_bytes=0)


@pytest.fixture
def converter() -> Converter:
    return Converter()


@pytest.fixture
def jobs(converter: Converter) -> Iterator[Jobs]:
    made = Jobs(converter, workers=2, forget_s=60)
    yield made
    converter.may_end.set()
    made.drain(DEADLINE_S)


def dropped(spool: Spool, data: bytes) -> SpoolFile:
    file = spool.create(KEY, None)
    file.write(0, data)
    return file


def over(job: Job) -> Job:
    assert job.over.wait(DEADLINE_S)
    return job


def wait_until(happened: Callable[[], object]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.005)


def left(spool: Spool) -> int:
    return len(list(spool.directory.glob("*.data")))


def test_a_job_converts_the_bytes_and_leaves_none(
    jobs: Jobs, spool: Spool, converter: Converter
) -> None:
    file = dropped(spool, b"netcdf")
    job = over(jobs.submit(KEY, file, 1))
    file.remove()
    assert (job.state, job.objects, converter.seen) == (State.DONE, 3, [b"netcdf"])
    assert jobs.children(Prefix("a/")) == [job]
    assert left(spool) == 0


@pytest.mark.parametrize("error", [NotNetCDF("is text"), ZeroDivisionError("a defect")])
def test_a_failure_is_told_and_its_bytes_are_parked(
    jobs: Jobs, spool: Spool, converter: Converter, error: Exception
) -> None:
    converter.error = error
    job = over(jobs.submit(KEY, dropped(spool, b"text"), 1))
    assert job.state is State.FAILED and job.error is not None
    assert str(error) in job.error_text and job.error_text.startswith("b.nc: ")
    assert [p.size for p in spool.parked()] == [4]


@pytest.mark.parametrize("method", ["mark_parked", "remove"])
def test_an_end_is_told_also_where_the_spool_fails(
    jobs: Jobs,
    spool: Spool,
    converter: Converter,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    def full(*_: Any) -> None:
        raise SpoolFull("no room")

    converter.error = NotNetCDF("is text") if method == "mark_parked" else None
    monkeypatch.setattr(SpoolFile, method, full)
    job = over(jobs.submit(KEY, dropped(spool, b"text"), 1))
    assert job.state is (State.FAILED if converter.error else State.DONE)
    monkeypatch.undo()


def test_a_newer_file_ends_the_older_conversion_first(
    jobs: Jobs, spool: Spool, converter: Converter
) -> None:
    converter.may_end.clear()
    old = jobs.submit(KEY, dropped(spool, b"old"), 1)
    assert converter.begun.acquire(timeout=DEADLINE_S)
    new = jobs.submit(KEY, dropped(spool, b"new"), 2)
    over(old)
    converter.may_end.set()
    assert over(new).state is State.DONE and old.state is State.CANCELLED
    assert converter.most_running == 1 and converter.seen == [b"new"]


@pytest.mark.parametrize("how", ["forget", "fail"])
def test_removed_and_dropped_again_the_conversions_do_not_mix(
    jobs: Jobs, spool: Spool, converter: Converter, how: str
) -> None:
    converter.may_end.clear()
    old = jobs.submit(KEY, dropped(spool, b"old"), 1)
    assert converter.begun.acquire(timeout=DEADLINE_S)
    if how == "forget":
        jobs.forget(KEY)
        assert jobs.find(KEY) is None
    else:
        jobs.fail(KEY, dropped(spool, b""), NotNetCDF("the file is empty"))
    new = jobs.submit(KEY, dropped(spool, b"new"), 2)
    over(old)
    converter.may_end.set()
    assert over(new).state is State.DONE
    assert converter.most_running == 1 and converter.seen == [b"new"]
    wait_until(lambda: not old.file.path.exists())


def test_one_worker_takes_many_generations(spool: Spool, converter: Converter) -> None:
    jobs = Jobs(converter, workers=1, forget_s=60)
    threads = [
        threading.Thread(target=jobs.submit, args=(KEY, dropped(spool, b"x"), n)) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    job = jobs.find(KEY)
    assert job is not None and over(job).state is State.DONE
    assert jobs.drain(DEADLINE_S) == 0


def test_a_file_changed_while_it_is_converted_is_no_store(
    jobs: Jobs, spool: Spool, converter: Converter
) -> None:
    converter.may_end.clear()
    file = dropped(spool, b"first")
    job = jobs.submit(KEY, file, 1)
    assert converter.begun.acquire(timeout=DEADLINE_S)
    time.sleep(0.02)  # the kernel's clock for files ticks every few ms
    file.write(0, b"second")
    converter.may_end.set()
    assert over(job).state is State.FAILED
    assert isinstance(job.error, ConversionCrashed)


def test_unmounting_waits_then_parks_what_was_cut_off(spool: Spool, converter: Converter) -> None:
    jobs = Jobs(converter, workers=1, forget_s=60)
    converter.may_end.clear()
    jobs.submit(KEY, dropped(spool, b"late"), 1)
    assert jobs.drain(0.0) == 1
    assert "unmounted" in " ".join(p.reason for p in spool.parked())


def test_a_job_that_ends_at_the_last_moment_is_no_cut_off(spool: Spool) -> None:
    """Cancelled at the deadline, but done before it looked."""

    def deaf(job: Job) -> int:
        assert job.cancel.wait(DEADLINE_S)
        return 1

    jobs = Jobs(deaf, workers=1, forget_s=60)
    job = jobs.submit(KEY, dropped(spool, b"late"), 1)
    assert jobs.drain(0.0) == 0
    assert job.state is State.DONE


def test_done_jobs_are_forgotten_after_a_while_and_failed_ones_are_not(
    spool: Spool, converter: Converter
) -> None:
    now = [0.0]
    jobs = Jobs(converter, workers=1, forget_s=60, clock=lambda: now[0])
    over(jobs.submit(KEY, dropped(spool, b"x"), 1))
    converter.error = NotNetCDF("is text")
    over(jobs.submit(Key("bad.nc"), dropped(spool, b"x"), 1))
    now[0] = 61.0
    assert jobs.find(KEY) is None
    assert jobs.find(Key("bad.nc")) is not None
