"""The report as Markdown: what was run, on what, the tables, and the goals. Pure text.

Names no host and no path: `about` holds numbers of cores and versions only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .datasets import ALL as DATASETS
from .goals import Verdict
from .plan import PLAN, Session
from .results import DONE, FAILED, LEFT_OUT, OVER, WRONG, Result
from .stats import Cell, Spread, Table, opening


def number(value: float) -> str:
    """Three figures, and no more than milliseconds."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def shown(spread: Spread | None, *, quartiles: bool = True) -> str:
    """`2.31 (2.20-2.41)`."""
    if spread is None:
        return ""
    text = f"{spread.bound}{number(spread.median)}"
    if not quartiles or spread.count < 2:
        return text
    return f"{text} ({number(spread.low)}-{number(spread.high)})"


def cell_text(table: Table, cell: Cell) -> str:
    """What stands in a table of times: a spread, or why there is none."""
    outcomes = {result.outcome for result in table.results(cell).values()}
    for outcome, text in ((WRONG, "WRONG DATA"), (FAILED, "failed"), (LEFT_OUT, "not run")):
        if outcome in outcomes:
            return text
    return shown(table.spread(cell))


def rows_of(table: Table, latency: float) -> list[tuple[Session, str]]:
    """Sessions and states that were measured at this latency."""
    return [
        (session, state)
        for session in PLAN
        for state in session.states
        if any(table.results(Cell(latency, session.measure(state), c)) for c in table.contestants)
    ]


def render(
    results: Sequence[Result],
    verdicts: dict[str, list[Verdict]],
    about: dict[str, Any],
    *,
    contestants: Sequence[tuple[str, str]],
    us: Sequence[str],
    peers: dict[str, tuple[str, ...]],
    plot: str | None,
) -> str:
    """The whole document. `contestants` are names with their notes, in the order of columns."""
    table = Table(results)
    present = [(name, note) for name, note in contestants if name in table.contestants]
    names = [name for name, _ in present]
    parts = ["# Benchmarks", "", *_introduction(about, present), *_wrong(results)]
    if plot is not None:
        parts += [f"![cold scans, by pattern and contestant]({plot})", ""]
    parts += _goals(verdicts)
    for latency in table.latencies:
        parts += [f"## {latency:g} ms a request", ""]
        parts += _times(table, latency, names)
        parts += _ratios(table, latency, [name for name in us if name in names], peers)
        parts += _costs(table, latency, names)
    parts += _troubles(results)
    return "\n".join(parts).rstrip() + "\n"


def _introduction(about: dict[str, Any], present: Sequence[tuple[str, str]]) -> list[str]:
    lines = [
        f"Written by `scripts/bench read{about['arguments']}`; do not edit.",
        "",
        f"{about['rounds']} alternating rounds after a discarded one (rclone, s3fs-fuse, "
        f"fsspec.fuse and s3fs took part in the first {about['peer_rounds']}); medians, in "
        "brackets the quartiles, ratios of the same round. Each job is a process of its own, and "
        "checks every value that it read.",
        "A real OpenStack Swift on the same machine; nginx before it makes every request wait, and "
        "answers read-only data from its cache, so that the test server's CPU is not measured.",
        "cold: fresh mount, empty cache. warm: a new process on the same mount. remount: a new "
        "mount on the same cache directory, whose pages were dropped from memory before.",
        f"Machine: {about['machine']}.",
        f"Versions: {about['versions']}.",
        "",
        "| contestant | what it is |",
        "|---|---|",
    ]
    lines += [f"| {name} | {note} |" for name, note in present]
    lines += ["", "| data set | |", "|---|---|"]
    lines += [f"| {DATASETS[name].name} | {DATASETS[name].title} |" for name in about["datasets"]]
    return [*lines, ""]


def _wrong(results: Iterable[Result]) -> list[str]:
    bad = sorted({(r.contestant, r.measure, r.text) for r in results if r.bad})
    lines = [f"- **{name}, {measure}: {text}**" for name, measure, text in bad]
    return ["**THIS BENCHMARK FAILED: wrong data were read.**", "", *lines, ""] if bad else []


def _goals(verdicts: dict[str, list[Verdict]]) -> list[str]:
    lines = ["## Goals", ""]
    for us, found in verdicts.items():
        if not found:
            continue
        lines += [f"### {us}", "", "| goal | wait | wanted | reached | |", "|---|---|---|---|---|"]
        for one in found:
            verdict = "met" if one.met else f"**missed** {one.miss}"
            lines.append(
                f"| {one.goal} | {one.latency_ms:g} ms | {one.wanted} | {shown(one.reached)} "
                f"| {verdict} |"
            )
        lines.append("")
    return lines


def _header(first: str, names: Sequence[str]) -> list[str]:
    return ["| " + " | ".join([first, *names]) + " |", "|---" * (len(names) + 1) + "|"]


def _row(first: str, cells: Iterable[str]) -> str:
    return "| " + " | ".join([first, *cells]) + " |"


def _times(table: Table, latency: float, names: Sequence[str]) -> list[str]:
    lines = ["Seconds; `>` is a deadline that was passed.", "", *_header("", names)]
    for session, state in rows_of(table, latency):
        measure = session.measure(state)
        cells = [Cell(latency, measure, name) for name in names]
        opened = [shown(table.spread(cell, opening)) for cell in cells]
        if any(opened):
            lines.append(_row(f"open_zarr before: {session.title}, {state}", opened))
        lines.append(_row(f"{session.title}, {state}", [cell_text(table, c) for c in cells]))
    return [*lines, ""]


def _ratios(
    table: Table, latency: float, us: Sequence[str], peers: dict[str, tuple[str, ...]]
) -> list[str]:
    if not us:
        return []
    heads = [f"{name} / {other}" for name in us for other in ("ext4", *peers)]
    lines = ["Paired ratios of time: below 1 is faster.", "", *_header("", heads)]
    for session, state in rows_of(table, latency):
        measure = session.measure(state)
        cells = []
        for name in us:
            for others in (("ext4",), *peers.values()):
                below = [Cell(latency, measure, other) for other in others]
                cells.append(shown(table.ratio(Cell(latency, measure, name), below)))
        lines.append(_row(f"{session.title}, {state}", cells))
    return [*lines, ""]


def _costs(table: Table, latency: float, names: Sequence[str]) -> list[str]:
    names = [name for name in names if name != "ext4"]
    if not names:
        return []
    lines = [
        "Requests (before the end of open_zarr), MB received, CPU seconds and peak RSS (MiB) of "
        "the daemon; `!n`: n requests that the proxy could not answer from its cache.",
        "",
        *_header("", names),
    ]
    for session, state in rows_of(table, latency):
        measure = session.measure(state)
        cells = [_cost_text(table, Cell(latency, measure, name)) for name in names]
        lines.append(_row(f"{session.title}, {state}", cells))
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
