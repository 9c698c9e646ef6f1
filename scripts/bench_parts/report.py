"""The report as Markdown: the goals, and all tables; `preface` begins it. Pure text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from . import preface
from .cells import cell_text, header, line, number, rows_of, shown
from .goals import Verdict
from .notes import reason
from .results import DONE, FAILED, LEFT_OUT, OVER, Result, Run
from .stats import Cell, Table, opening


def render(
    runs: Sequence[Run],
    verdicts: dict[str, list[Verdict]],
    *,
    contestants: Sequence[tuple[str, str]],
    us: Sequence[str],
    peers: dict[str, tuple[str, ...]],
    plot: str | None,
    reasons: Mapping[str, str],
) -> str:
    """The whole document. `contestants` are names with their notes, in the order of columns."""
    results = [result for run in runs for result in run.results]
    table = Table(results)
    present = [(name, note) for name, note in contestants if name in table.contestants]
    names = [name for name, _ in present]
    parts = [
        "# Benchmarks",
        "",
        *preface.purpose(),
        *_wrong(results),
        *preface.in_short(table, names),
    ]
    if plot is not None:
        parts += [f"![cold reads, by pattern and contestant]({plot})", ""]
    parts += [
        *_goals(verdicts, reasons),
        *preface.how(),
        *preface.contestants(present),
        *preface.runs(runs),
    ]
    for latency in table.latencies:
        parts += [f"## All figures, {latency:g} ms a request", ""]
        parts += _times(table, latency, names)
        parts += _ratios(table, latency, [name for name in us if name in names], peers)
        parts += _costs(table, latency, names)
    parts += _troubles(results)
    return "\n".join(parts).rstrip() + "\n"


def _wrong(results: Iterable[Result]) -> list[str]:
    bad = sorted({(r.contestant, r.measure, r.text) for r in results if r.bad})
    lines = [f"- **{name}, {measure}: {text}**" for name, measure, text in bad]
    return ["**THIS BENCHMARK FAILED: wrong data were read.**", "", *lines, ""] if bad else []


def _goals(verdicts: dict[str, list[Verdict]], reasons: Mapping[str, str]) -> list[str]:
    lines = ["## Goals", ""]
    for us, found in verdicts.items():
        if not found:
            continue
        met = sum(one.met is True for one in found)
        lines += [f"### {us}: {met} of {len(found)} reached", ""]
        lines += ["| goal | wait | wanted | reached | |", "|---|---|---|---|---|"]
        for one in found:
            verdict = (
                "met" if one.met else f"**missed** {one.miss}" if one.met is False else one.miss
            )
            lines.append(
                f"| {one.goal} | {one.latency_ms:g} ms | {one.wanted} | {shown(one.reached)} "
                f"| {verdict} |"
            )
        lines += ["", *_misses(us, found, reasons)]
    return lines


def _misses(us: str, found: Iterable[Verdict], reasons: Mapping[str, str]) -> list[str]:
    lines = []
    for one in found:
        if one.met is False:
            why = reason(reasons, us, one.goal) or "(the reason is not noted yet)"
            lines.append(f"- {one.goal}, {one.latency_ms:g} ms: missed {one.miss}, because {why}")
    return [*lines, ""] if lines else []


def _times(table: Table, latency: float, names: Sequence[str]) -> list[str]:
    lines = ["Seconds; `>` is a deadline that was passed.", "", *header("", names)]
    for session, state in rows_of(table, latency):
        measure = session.measure(state)
        cells = [Cell(latency, measure, name) for name in names]
        opened = [shown(table.spread(cell, opening)) for cell in cells]
        if any(opened):
            lines.append(line(f"open_zarr before: {session.title}, {state}", opened))
        lines.append(line(f"{session.title}, {state}", [cell_text(table, c) for c in cells]))
    return [*lines, ""]


def _ratios(
    table: Table, latency: float, us: Sequence[str], peers: dict[str, tuple[str, ...]]
) -> list[str]:
    if not us:
        return []
    heads = [f"{name} / {other}" for name in us for other in ("ext4", *peers)]
    lines = ["Paired ratios of time: below 1 is faster.", "", *header("", heads)]
    for session, state in rows_of(table, latency):
        measure = session.measure(state)
        cells = []
        for name in us:
            for others in (("ext4",), *peers.values()):
                below = [Cell(latency, measure, other) for other in others]
                cells.append(shown(table.ratio(Cell(latency, measure, name), below)))
        lines.append(line(f"{session.title}, {state}", cells))
    return [*lines, ""]


def _costs(table: Table, latency: float, names: Sequence[str]) -> list[str]:
    names = [name for name in names if name != "ext4"]
    if not names:
        return []
    lines = [
        "Requests (before the end of open_zarr), MB received, CPU seconds and peak RSS (MiB) of "
        "the daemon; `!n`: n requests that the proxy could not answer from its cache.",
        "",
        *header("", names),
    ]
    for session, state in rows_of(table, latency):
        measure = session.measure(state)
        cells = [_cost_text(table, Cell(latency, measure, name)) for name in names]
        lines.append(line(f"{session.title}, {state}", cells))
    return [*lines, ""]


def _cost_text(table: Table, cell: Cell) -> str:
    results = [r for r in table.results(cell).values() if r.outcome == DONE]
    requests = table.spread(cell, lambda r: r.requests if r in results else None)
    if requests is None:
        return ""
    text = f"{requests.median:.0f}"
    opened = table.spread(cell, lambda r: r.open_requests if r in results else None)
    if opened is not None:
        text += f" ({opened.median:.0f})"
    received = table.spread(cell, lambda r: r.bytes if r in results else None)
    text += f", {(received.median if received else 0) / 1e6:.1f} MB"
    cpu = table.spread(cell, lambda r: r.cpu_seconds if r in results else None)
    peak = max((r.peak_rss or 0 for r in results), default=0)
    if cpu is not None:
        text += f", {number(cpu.median)} s, {peak / 2**20:.0f} MiB"
    missed = max((r.missed or 0 for r in results), default=0)
    return f"{text}, !{missed}" if missed else text


def _troubles(results: Iterable[Result]) -> list[str]:
    """Every kind of failure once."""
    found = {
        (r.contestant, r.measure, f"{r.latency_ms:g} ms", r.outcome, _harmless(r.text))
        for r in results
        if r.outcome in (OVER, FAILED, LEFT_OUT) and r.round > 0
    }
    if not found:
        return []
    lines = ["## Not measured", "", "| contestant | job | wait | | |", "|---|---|---|---|---|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in sorted(found)), ""]


def _harmless(text: str) -> str:
    """Without paths of the machine, and fit for a table."""
    words = ("..." if word.count("/") > 1 else word for word in text.replace("|", "/").split())
    return " ".join(words)
