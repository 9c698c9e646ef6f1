"""`zarrfuse status`: what is mounted and how it goes, for people or as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from zarrfuse.errors import ExitCode, UserError
from zarrfuse.report.socket import ask, ask_all, runtime_directory, socket_path
from zarrfuse.report.status import Status


@click.command()
@click.argument("mountpoint", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def status(mountpoint: Path | None, as_json: bool) -> int:  # noqa: FBT001 - click's way
    """Show your mounts, or the one on MOUNTPOINT: requests, cache, spool, conversions, errors."""
    directory = runtime_directory(os.environ)
    if mountpoint is None:
        found = ask_all(directory)
    else:
        here = Path(os.path.abspath(mountpoint))  # noqa: PTH100 - resolving would ask a dead mount
        one = ask(socket_path(directory, here))
        if one is None:
            raise UserError(f"no zarrfuse of yours is mounted on {here}", ExitCode.UNAVAILABLE)
        found = [one]
    if as_json:
        document = [entry.model_dump() for entry in found]
        click.echo(json.dumps(document if mountpoint is None else document[0], indent=2))
    elif not found:
        click.echo("nothing is mounted")
    for entry in found if not as_json else []:
        Console(highlight=False).print(_table(entry))
    return ExitCode.OK


def _table(shown: Status) -> Table:
    mode = "read only" if shown.read_only else "read and write"
    table = Table(title=f"{shown.source} on {shown.mountpoint}", title_justify="left", box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("daemon", f"pid {shown.pid}, {shown.binding}, {mode}, since {shown.started}")
    if shown.offline is not None:
        table.add_row("offline", f"since {shown.offline.since}: {shown.offline.reason}")
    for verb, count in shown.requests.items():
        table.add_row(
            verb,
            f"{count['requests']} requests, {count['errors']} errors, {_bytes(count['bytes'])}",
        )
    for name, counts in (
        ("requests", shown.limit),
        ("cache", shown.cache),
        ("listing", shown.listing),
        ("spool", shown.spool),
    ):
        table.add_row(name, ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in counts.items()))
    for parked in shown.parked:
        table.add_row("parked", f"{parked.key}, {_bytes(parked.size)}: {parked.reason}")
        table.add_row("", f"its bytes are {parked.path}")
    for job in shown.conversions:
        table.add_row("conversion", f"{job.name}: {job.state} {job.error}".rstrip())
    for error in shown.errors:
        table.add_row("error", f"{error.when} {error.what}: {error.error}")
    return table


def _bytes(count: int) -> str:
    """For people: three digits and a unit of 1000."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
