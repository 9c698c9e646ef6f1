"""`zarrfuse cache info|clear|verify`: words and exit codes for zarrfuse.cache.upkeep."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from pydantic import ByteSize
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from zarrfuse.cache.blocks import FORMAT_DIRECTORY
from zarrfuse.cache.index import IndexUnusable
from zarrfuse.cache.limits import DiskSpace, Limits
from zarrfuse.cache.opening import cache_directory
from zarrfuse.cache.upkeep import (
    Kept,
    NoCache,
    NotACache,
    NotOurs,
    Progress,
    Verified,
    clear,
    look,
    verify,
)
from zarrfuse.cli.logs import set_up_logs
from zarrfuse.config import Config
from zarrfuse.errors import ExitCode, UserError

_directory_option = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="[$XDG_CACHE_HOME/zarrfuse, ~/.cache/zarrfuse]",
)


@click.group()
def cache() -> None:
    """Look at the blocks kept on this disk, remove them, or check them; mounts may go on."""
    set_up_logs("warning")


@cache.command()
@_directory_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def info(cache_dir: Path | None, as_json: bool) -> int:  # noqa: FBT001 - click's way
    """Show where the cache is, what it holds and how big it may become."""
    directory = _directory(cache_dir)
    kept, note = None, ""
    with _told(directory):
        try:
            kept = look(directory)
        except (NoCache, NotACache) as nothing:
            note = str(nothing)
        space = DiskSpace.of(
            next(path for path in (directory, *directory.parents) if path.exists())
        )
    limits = Limits.of(Config().cache, space)
    if as_json:
        click.echo(json.dumps(_document(directory, kept, limits, space), indent=2))
    elif kept is None:
        click.echo(note)
    else:
        Console(highlight=False).print(_table(directory, kept, limits, space))
    return ExitCode.OK


@cache.command(name="clear")
@_directory_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear_command(cache_dir: Path | None, yes: bool) -> int:  # noqa: FBT001 - click's way
    """Remove all blocks. Mounts go on, and fetch again what they need."""
    directory = _directory(cache_dir)
    try:
        with _told(directory):
            if not yes and not _is_agreed(directory, look(directory)):
                click.echo("nothing was removed")
                return ExitCode.OK
            with _bar("removing") as progress:
                done = clear(directory, progress)
    except NoCache as nothing:
        click.echo(f"{nothing}: nothing to remove")
        return ExitCode.OK
    click.echo(f"{done.blocks} blocks removed, {_size(done.freed_bytes)} freed in {directory}")
    return ExitCode.OK


@cache.command(name="verify")
@_directory_option
def verify_command(cache_dir: Path | None) -> int:
    """Read every block, remove the damaged ones, and mend the index."""
    directory = _directory(cache_dir)
    try:
        with _told(directory), _bar("reading") as progress:
            done = verify(directory, progress)
    except NoCache as nothing:
        click.echo(f"{nothing}: nothing to verify")
        return ExitCode.OK
    for line in _lines(done):
        click.echo(line)
    return ExitCode.OK


def _directory(given: Path | None) -> Path:
    return Path(os.path.abspath(given or cache_directory(Config().cache)))  # noqa: PTH100


@contextmanager
def _told(directory: Path) -> Iterator[None]:
    """Trouble as one line with its cure; NoCache is for the command, which knows what it means."""
    try:
        yield
    except NotACache as error:
        raise UserError(f"{error}; see --cache-dir", ExitCode.CONFIG) from None
    except NotOurs as error:
        raise UserError(f"{error}; run this as that user", ExitCode.PERMISSION) from None
    except IndexUnusable as error:
        raise UserError(
            f"the index of the cache is not to be had ({error}); blocks are dealt with, "
            "run this again for the index",
            ExitCode.TRY_AGAIN,
        ) from None
    except OSError as error:
        code = ExitCode.PERMISSION if isinstance(error, PermissionError) else ExitCode.IO
        where = error.filename or directory
        raise UserError(f"{where}: {error.strerror}", code) from None


def _is_agreed(directory: Path, kept: Kept) -> bool:
    if not sys.stdin.isatty():
        raise UserError("nobody to ask here; --yes clears without asking", ExitCode.USAGE)
    return click.confirm(f"Remove {kept.blocks} blocks ({_size(kept.total_bytes)}) in {directory}?")


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _document(
    directory: Path, kept: Kept | None, limits: Limits, space: DiskSpace
) -> dict[str, object]:
    return {
        "directory": str(directory),
        "exists": kept is not None,
        "format": FORMAT_DIRECTORY,
        "blocks": kept.blocks if kept else 0,
        "bytes": kept.total_bytes if kept else 0,
        "reserved_bytes": kept.reserved_bytes if kept else 0,
        "default_limit_bytes": limits.size_bytes,
        "keep_free_bytes": limits.keep_free_bytes,
        "disk_bytes": space.total,
        "disk_free_bytes": space.free,
        "oldest_use": _when(kept.oldest_use_ns) if kept else None,
        "newest_use": _when(kept.newest_use_ns) if kept else None,
    }


def _table(directory: Path, kept: Kept, limits: Limits, space: DiskSpace) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("directory", str(directory))
    table.add_row("format", FORMAT_DIRECTORY)
    table.add_row("blocks", f"{kept.blocks}, {_size(kept.total_bytes)}")
    if kept.reserved_bytes:
        table.add_row("", f"{_size(kept.reserved_bytes)} more are taken for what mounts fetch")
    table.add_row("limit", f"{_size(limits.size_bytes)}, unless a mount has --cache-size")
    free = f"{_size(space.free)} of {_size(space.total)} are free"
    table.add_row("left free", f"{_size(limits.keep_free_bytes)} of the disk; {free}")
    if kept.blocks:
        table.add_row("last used", f"{_when(kept.oldest_use_ns)} to {_when(kept.newest_use_ns)}")
    return table


def _lines(done: Verified) -> Iterator[str]:
    yield f"{done.good} blocks are good, {_size(done.good_bytes)}"
    for reason, count in done.damaged.items():
        yield f"{count} damaged removed: {reason}"
    if done.adopted:
        yield f"{done.adopted} were not in the index, and are now"
    if done.rows_removed:
        yield f"{done.rows_removed} rows of the index had no block, and are removed"
    if done.temporaries_removed:
        yield f"{done.temporaries_removed} abandoned temporary files removed"
    yield f"{done.damaged.total()} were damaged"


def _when(ns: int | None) -> str | None:
    """In UTC, to the second."""
    if ns is None:
        return None
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="seconds")


def _size(count: int) -> str:
    """In units of 1024, as --cache-size is mostly given."""
    return ByteSize(count).human_readable(separator=" ")
