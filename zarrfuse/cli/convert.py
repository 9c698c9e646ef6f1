"""`zarrfuse convert`: the drop box's converter without a mount, with progress.

Each file is converted by a process of its own and published as the drop box does it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from zarrfuse.cli.logs import LEVELS, set_up_logs
from zarrfuse.cli.options import bucket_options
from zarrfuse.config import Config
from zarrfuse.convert.frames import Progress
from zarrfuse.core.keys import ROOT, Key, ObjectMeta, Prefix
from zarrfuse.core.zarr.names import store_root
from zarrfuse.dropbox.publish import Summary, publish_store
from zarrfuse.dropbox.worker import Limits
from zarrfuse.errors import ExitCode, UserError, ZarrfuseError, user_error_of
from zarrfuse.store.base import Store
from zarrfuse.store.open import open_checked


@dataclass(frozen=True, slots=True)
class Order:
    """One file, and the root of its store in the opened store."""

    source: Path
    root: Prefix


@dataclass(frozen=True, slots=True)
class Destination:
    """`parent` is what is opened; `name` is the store in it, None: each file gives its own."""

    parent: str
    name: str | None


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="SRC.nc... DEST")
@click.option("--overwrite", is_flag=True, help="Replace a store that stands there.")
@click.option("--log-level", type=click.Choice(LEVELS), default="warning", show_default=True)
@bucket_options
def convert(
    paths: tuple[str, ...],
    overwrite: bool,  # noqa: FBT001 - click's way
    log_level: str,
    endpoint_url: str | None,
    region: str | None,
    profile: str | None,
    anonymous: bool,  # noqa: FBT001 - click's way
) -> int:
    """Convert NetCDF files to Zarr stores: raw values, verified, published whole.

    \b
    DEST is s3://bucket/x.zarr, a local path, or any URL that fsspec knows. With several
    files, or where DEST ends in "/", it is a directory, and x.nc becomes x.zarr in it.
    """
    set_up_logs(log_level)
    *sources, target = paths
    if not sources:
        raise UserError("give a NetCDF file and a destination", ExitCode.USAGE)
    destination = destination_of(target, many=len(sources) > 1)
    orders = orders_of([Path(source) for source in sources], destination)
    config = Config()
    store = open_checked(
        destination.parent,
        endpoint_url=endpoint_url,
        region=region,
        profile=profile,
        anonymous=anonymous,
        config=config,
        environ=os.environ,
    )
    try:
        return _convert_all(store, orders, destination.parent, config, overwrite=overwrite)
    finally:
        store.close()


def destination_of(target: str, *, many: bool) -> Destination:
    """What DEST means. UserError where it cannot be a place for a store."""
    # Not as_uri(): a path in a file URL is taken as it is, so that any name can be given.
    url = target if "://" in target else f"file://{Path(target).absolute()}"
    parts = urlsplit(url)
    is_bucket = parts.scheme in ("s3", "s3a") and not parts.path.strip("/")
    if many or target.endswith("/") or is_bucket:
        return Destination(url.rstrip("/") + "/", None)
    parent, _, name = url.rpartition("/")
    if not name:
        raise UserError(f"{target}: no name for a store", ExitCode.USAGE)
    return Destination(f"{parent}/", name)


def orders_of(sources: list[Path], destination: Destination) -> list[Order]:
    """One order per file. UserError for a file that is not there, or two of the same store."""
    orders: dict[Prefix, Order] = {}
    for source in sources:
        if not source.is_file():
            raise UserError(f"{source}: no such file", ExitCode.NO_INPUT)
        root = store_root(Key(source.name))
        if destination.name is not None:
            root = ROOT.directory(destination.name)
        if root in orders:
            raise UserError(
                f"{orders[root].source} and {source} would both become {root.name}", ExitCode.USAGE
            )
        orders[root] = Order(source, root)
    return list(orders.values())


def _convert_all(
    store: Store, orders: list[Order], where: str, config: Config, *, overwrite: bool
) -> int:
    """Converts one after the other; the first failure's exit code, after all were tried."""
    failures: list[UserError] = []
    cancel = threading.Event()
    for order in orders:
        try:
            summary = _convert_one(store, order, config, cancel, overwrite=overwrite)
        except ZarrfuseError as error:
            failure = user_error_of(error, "not converted")
            if len(orders) == 1:
                raise failure from error
            failures.append(failure)
            click.echo(f"zarrfuse: {failure}", err=True)
        except OSError as error:
            raise UserError(f"{order.source}: {error.strerror}", ExitCode.NO_INPUT) from error
        else:
            click.echo(_line(order, where, summary))
    return failures[0].exit_code if failures else ExitCode.OK


def _convert_one(
    store: Store, order: Order, config: Config, cancel: threading.Event, *, overwrite: bool
) -> Summary:
    limits = Limits(memory_bytes=int(config.ingest.memory), deadline_s=config.ingest.deadline_s)
    with _bar(order.source.name) as show:
        return publish_store(
            store,
            order.root,
            order.source,
            name=order.source.name,
            limits=limits,
            at_once=config.requests.most_at_once,
            published=_unheard,
            progress=show.update,
            cancelled=cancel.is_set,
            overwrite=overwrite,
        )


class _Show:
    """The bar of one file; nothing where nobody watches."""

    def __init__(self, bars: Bars | None, name: str) -> None:
        self._bars = bars
        self._task = None if bars is None else bars.add_task(name, total=None)

    def update(self, progress: Progress) -> None:
        if self._bars is not None and self._task is not None:
            total = progress.total_bytes or None
            self._bars.update(self._task, completed=progress.done_bytes, total=total)


@contextmanager
def _bar(name: str) -> Iterator[_Show]:
    if not sys.stderr.isatty():
        yield _Show(None, name)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Show(bars, name)


def _line(order: Order, where: str, summary: Summary) -> str:
    target = f"{where}{order.root.as_key}"
    if summary.unchanged:
        return f"{order.source} -> {target}: unchanged, it was made from the same file"
    percent = 100 * summary.stored_bytes / summary.raw_bytes if summary.raw_bytes else 100
    return (
        f"{order.source} -> {target}: {summary.arrays} arrays, {summary.objects} objects, "
        f"{_size(summary.stored_bytes)} ({percent:.0f} % of the raw values), verified"
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def _unheard(_: ObjectMeta) -> None:
    """No listing is kept here."""
