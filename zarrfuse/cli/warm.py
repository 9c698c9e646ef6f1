"""`zarrfuse warm`: has the daemon of a mount fetch a part of it into its cache; shows how it goes.

What to fetch is told by paths or by a selection (cli/selection); the work is the daemon's.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from zarrfuse.cache.warming import ChunkBox, WarmProgress, WarmRequest, WarmState
from zarrfuse.cli.selection import Parts, Selection, is_array, select
from zarrfuse.core.zarr.boxes import Box
from zarrfuse.errors import ExitCode, UserError
from zarrfuse.report.socket import ask, converse, runtime_directory, socket_path

#: Where nobody sees a bar, so often a line.
_LINE_EVERY_S = 5.0

Show = Callable[[WarmProgress], None]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--sel", multiple=True, metavar="DIM=A:B", help="Labels along a dimension.")
@click.option("--isel", multiple=True, metavar="DIM=I:J", help="Positions along a dimension.")
@click.option("--var", multiple=True, metavar="NAME", help="Only this variable; may be repeated.")
@click.option("--limit", metavar="RATE", help="At most so many bytes a second: 50M.")
@click.option("--dry-run", is_flag=True, help="Count objects and bytes, and fetch nothing.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing unless it fails.")
def warm(
    path: Path,
    sel: tuple[str, ...],
    isel: tuple[str, ...],
    var: tuple[str, ...],
    limit: str | None,
    dry_run: bool,  # noqa: FBT001 - click's way
    quiet: bool,  # noqa: FBT001 - click's way
) -> int:
    """Fetch PATH, a file or directory of a mount, into the mount's cache ahead of time.

    What is there already is not fetched again: broken off (Ctrl-C) and begun again, it goes on.

    \b
    zarrfuse warm /mnt/ocean/sst.zarr                      a store; or an array, or all stores below
    zarrfuse warm /mnt/ocean/sst.zarr --sel time=2000-01:2000-12 --sel lat=30:60 --var sst
    zarrfuse warm /mnt/ocean/sst.zarr --isel time=0:100 --limit 50M

    --sel means what xarray's sel(dim=slice(a, b)) means: both ends belong to it, a: and :b are
    open, one label is a single one (a month, as in time=2000-01). lat=30:60 selects the same
    where latitudes run down. Times have colons of their own; time=2000-01-01T00:00:2000-01-02 is
    parted where both sides are times. a..b can always be written for a:b.
    --isel counts as Python does. With a selection, metadata and labels are always fetched.

    Exit codes: 0 all of it is in the cache; 75 some is not, and is named; 78 it does not fit;
    69 no daemon answers; 64 no such dimension, variable or label.
    """
    selection = Selection.of(sel, isel, var)
    bytes_per_s = _rate(limit)
    socket, mountpoint, path = _mount_of(path)
    if selection and path == mountpoint and is_array(path):
        raise UserError(
            f"{path} is the mount of one array, and --sel, --isel and --var want the store around "
            "it: mount that, or warm the whole array",
            ExitCode.USAGE,
        )
    parts = select(path, selection) if selection else Parts(trees=[path])
    request = _request(parts, mountpoint, bytes_per_s, dry_run=dry_run)
    with _shown(quiet=quiet) as show:
        outcome = _follow(socket, mountpoint, request, show)
    _check(outcome, path)
    if not quiet:
        click.echo(_summary(outcome, path, dry_run=dry_run))
    return ExitCode.OK


def _rate(limit: str | None) -> int | None:
    if limit is None:
        return None
    try:
        rate = TypeAdapter(ByteSize).validate_python(limit)
    except ValidationError:
        rate = ByteSize(0)
    if rate <= 0:
        raise UserError(f"--limit {limit}: bytes a second, as 50M or 800kB", ExitCode.USAGE)
    return int(rate)


def _mount_of(given: Path) -> tuple[Path, Path, Path]:
    """The socket of the daemon whose mount `given` lies in, its mount point, and the path there."""
    directory = runtime_directory(os.environ)
    # A link may lead into a mount; a mount point itself may have been named by a link.
    for path in (Path(os.path.abspath(given)), given.resolve()):  # noqa: PTH100
        for here in (path, *path.parents):
            socket = socket_path(directory, here)
            if socket.exists() and ask(socket) is not None:
                _check_path(path)
                return socket, here, path
    raise UserError(f"{given} lies in no mount of yours; see zarrfuse status", ExitCode.UNAVAILABLE)


def _check_path(path: Path) -> None:
    try:
        path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file or directory", ExitCode.NO_INPUT) from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", ExitCode.IO) from None


def _request(
    parts: Parts, mountpoint: Path, bytes_per_s: int | None, *, dry_run: bool
) -> WarmRequest:
    def inside(path: Path) -> str:
        return "" if path == mountpoint else str(path.relative_to(mountpoint))

    return WarmRequest(
        trees=tuple(map(inside, parts.trees)),
        files=tuple(map(inside, parts.files)),
        boxes=tuple(_chunks(inside(array), box) for array, box in parts.boxes),
        bytes_per_s=bytes_per_s,
        dry_run=dry_run,
    )


def _chunks(array: str, box: Box) -> ChunkBox:
    encoding = box.grid.encoding
    return ChunkBox(
        array=array,
        separator=encoding.separator,
        prefix=encoding.prefix,
        version=encoding.version,
        ranges=box.ranges,
    )


def _follow(socket: Path, mountpoint: Path, request: WarmRequest, show: Show) -> WarmProgress:
    """The outcome. UserError where the daemon refuses, ends, or speaks another language."""
    said = "ended before it was done; begin again when it is mounted"
    try:
        with closing(converse(socket, "warm", request)) as lines:
            for line in lines:
                progress = WarmProgress.model_validate_json(line)
                show(progress)
                if progress.is_last:
                    return progress
    except ValidationError:
        said = "is of another version; unmount, and mount again"
    except OSError as error:
        said = f"does not answer ({error.strerror})"
    raise UserError(f"the daemon of {mountpoint} {said}", ExitCode.UNAVAILABLE)


def _check(outcome: WarmProgress, path: Path) -> None:
    """UserError where not all of it is in the cache."""
    if outcome.state is WarmState.TOO_BIG:
        raise UserError(
            f"{path} takes {_size(outcome.needed_bytes)} in the cache, which holds at most "
            f"{_size(outcome.room_bytes)}: what was fetched first would be evicted. Mount with a "
            "larger --cache-size, make room on its disk, or warm a part (--sel, --var)",
            ExitCode.CONFIG,
        )
    for missed in outcome.missed:
        click.echo(f"{missed.key}: {missed.reason}", err=True)
    if outcome.failed > len(outcome.missed):
        click.echo(f"and {outcome.failed - len(outcome.missed)} more", err=True)
    untried = outcome.objects - outcome.cached - outcome.fetched - outcome.failed
    if outcome.state is WarmState.GAVE_UP:
        raise UserError(
            f"{outcome.failed} objects could not be fetched, one after the other, and "
            f"{untried} were not tried; the same command goes on from here",
            ExitCode.TRY_AGAIN,
        )
    if outcome.failed:
        raise UserError(
            f"{outcome.failed} of {outcome.objects} objects are not in the cache; "
            "the same command goes on from here",
            ExitCode.TRY_AGAIN,
        )


def _summary(outcome: WarmProgress, path: Path, *, dry_run: bool) -> str:
    all_of_it = f"{path}: {outcome.objects} objects, {_size(outcome.size_bytes)}"
    if dry_run:
        there = f"{outcome.cached} objects, {_size(outcome.cached_bytes)}"
        return f"{all_of_it}; in the cache: {there}"
    return f"{all_of_it}; fetched: {outcome.fetched} objects, {_size(outcome.fetched_bytes)}"


@contextmanager
def _shown(*, quiet: bool) -> Iterator[Show]:
    """A bar on a terminal, else a line now and then, on standard error."""
    if quiet:
        yield lambda progress: None
    elif not sys.stderr.isatty():
        yield _Lines().show
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task("listing", total=None)

            def show(now: WarmProgress) -> None:
                is_fetching = now.state is WarmState.FETCHING
                bars.update(
                    task,
                    description=_objects(now),
                    completed=now.cached_bytes + now.fetched_bytes if is_fetching else 0,
                    total=now.size_bytes if is_fetching else None,
                )

            yield show


class _Lines:
    """A line every few seconds."""

    def __init__(self) -> None:
        self._next_at = time.monotonic() + _LINE_EVERY_S

    def show(self, now: WarmProgress) -> None:
        if now.is_last or time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + _LINE_EVERY_S
        done = _size(now.cached_bytes + now.fetched_bytes)
        size = "" if now.state is WarmState.LISTING else f", {done} of {_size(now.size_bytes)}"
        click.echo(f"{_objects(now)}{size}", err=True)


def _objects(now: WarmProgress) -> str:
    if now.state is WarmState.LISTING:
        return f"listing: {now.objects} objects"
    failed = f", {now.failed} failed" if now.failed else ""
    return f"{now.cached + now.fetched} of {now.objects} objects{failed}"


def _size(count: int) -> str:
    """In units of 1000, as --limit takes them."""
    return ByteSize(count).human_readable(decimal=True, separator=" ")
