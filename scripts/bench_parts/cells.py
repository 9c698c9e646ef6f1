"""Figures as text, and lines of Markdown tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .plan import PLAN, Session
from .results import FAILED, LEFT_OUT, WRONG
from .stats import Cell, Spread, Table


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


def header(first: str, names: Sequence[str]) -> list[str]:
    """The two lines above a table."""
    return ["| " + " | ".join([first, *names]) + " |", "|---" * (len(names) + 1) + "|"]


def line(first: str, cells: Iterable[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join([first, *cells]) + " |"
