"""What the person at the terminal sees: every step as it ends, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table as Grid
from rich.text import Text

from .cells import cell_text, number, rows_of, shown
from .goals import Verdict
from .results import DONE, Result
from .stats import Cell, Table

_FILE_WIDTH = 220


class Terminal:
    """Line by line; a bar below the lines where it is a terminal."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        if not self.console.is_terminal:
            # Else 80 columns, which the table does not fit into.
            self.console.width = _FILE_WIDTH
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None)

    def say(self, line: str, style: str = "") -> None:
        at = f"[{time.monotonic() - self._started:6.1f} s] "
        self.console.print(Text(at, style="dim") + Text(line, style=style))

    def start(self, steps: int) -> None:
        self._progress.update(self._task, total=steps)
        self._progress.start()

    def begin(self, step: Result) -> None:
        self._progress.update(self._task, description=_name(step))

    def done(self, result: Result) -> None:
        good = result.outcome == DONE
        said = _numbers(result) if good else f"{result.outcome.upper()}: {result.text}"
        self.say(f"{_name(result)}: {said}", style="" if good else "red")
        self._progress.advance(self._task)

    def stop(self) -> None:
        self._progress.stop()

    def error(self, line: str) -> None:
        self.console.print(Text(f"bench: {line}", style="bold red"))

    def tables(
        self, table: Table, names: Sequence[str], us: str, peers: dict[str, tuple[str, ...]]
    ) -> None:
        """A table for each latency: the times, and our ratios."""
        for latency in table.latencies:
            title = f"{latency:g} ms a request: median seconds (quartiles), and ratios of {us}"
            grid = Grid(title=title)
            ratios = [f"/ {other}" for other in ("ext4", *peers)] if us in names else []
            for head in ("", *names, *ratios):
                grid.add_column(head)
            for session, state in rows_of(table, latency):
                measure = session.measure(state)
                times = [cell_text(table, Cell(latency, measure, name)) for name in names]
                grid.add_row(
                    f"{session.name} {state}",
                    *times,
                    *_ratios(table, latency, measure, us, peers)[: len(ratios)],
                )
            self.console.print(grid)

    def goals(self, verdicts: Sequence[Verdict]) -> None:
        for one in verdicts:
            word = "met   " if one.met else "missed"
            line = f"{word} {one.goal}, {one.latency_ms:g} ms: {shown(one.reached)}"
            line += f" ({one.wanted}) {one.miss}"
            self.console.print(Text(line, style="green" if one.met else "yellow"))


def _ratios(
    table: Table, latency: float, measure: str, us: str, peers: dict[str, tuple[str, ...]]
) -> list[str]:
    ours = Cell(latency, measure, us)
    return [
        shown(table.ratio(ours, [Cell(latency, measure, name) for name in names]))
        for names in (("ext4",), *peers.values())
    ]


def _name(step: Result) -> str:
    which = f"round {step.round}" if step.round else "discarded round"
    return f"{which}, {step.latency_ms:g} ms, {step.measure}, {step.contestant}"


def _numbers(result: Result) -> str:
    assert result.seconds is not None
    text = f"{number(result.seconds)} s"
    if result.open_seconds is not None:
        text = f"open {number(result.open_seconds)} s, read {text}"
    if result.requests:
        text += f", {result.requests} requests, {(result.bytes or 0) / 1e6:.1f} MB"
    if result.open_requests:
        text += f" ({result.open_requests} to open)"
    if result.missed:
        text += f", {result.missed} not from the proxy's cache"
    if result.cpu_seconds is not None:
        text += f", daemon {number(result.cpu_seconds)} s CPU"
    if result.peak_rss is not None:
        text += f", {result.peak_rss / 2**20:.0f} MiB"
    return text
