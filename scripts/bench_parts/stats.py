"""Medians, quartiles and paired ratios of what was measured. Pure.

A pair is two contestants in the same round, so that what else the machine did meets both. A result
that passed its deadline counts as the deadline, and its summary says that it is a lower bound.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .results import DONE, OVER, Result

Value = Callable[[Result], float | None]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles; `bound` is "" or, where deadlines were passed, ">" or "<"."""

    median: float
    low: float
    high: float
    count: int
    bound: str = ""


@dataclass(frozen=True)
class Cell:
    """What is compared: a measure at a latency, as one contestant did it."""

    latency_ms: float
    measure: str
    contestant: str


def seconds(result: Result) -> float | None:
    return result.seconds if result.outcome in (DONE, OVER) else None


def opening(result: Result) -> float | None:
    return result.open_seconds if result.outcome == DONE else None


def spread(values: Sequence[float], *, bound: str = "") -> Spread | None:
    """None of nothing."""
    if not values:
        return None
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1, bound)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, len(values), bound)


class Table:
    """The counted results of a run, by cell and round; the discarded round is not in it."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._by_cell: dict[Cell, dict[int, Result]] = {}
        for result in results:
            if result.round > 0:
                cell = Cell(result.latency_ms, result.measure, result.contestant)
                self._by_cell.setdefault(cell, {})[result.round] = result

    @property
    def latencies(self) -> list[float]:
        return sorted({cell.latency_ms for cell in self._by_cell})

    @property
    def contestants(self) -> set[str]:
        return {cell.contestant for cell in self._by_cell}

    def results(self, cell: Cell) -> dict[int, Result]:
        """By round."""
        return self._by_cell.get(cell, {})

    def spread(self, cell: Cell, value: Value = seconds) -> Spread | None:
        results = list(self.results(cell).values())
        found = [(number, r.outcome) for r in results if (number := value(r)) is not None]
        over = any(outcome == OVER for _, outcome in found)
        return spread([number for number, _ in found], bound=">" if over else "")

    def ratio(self, above: Cell, below: Sequence[Cell], value: Value = seconds) -> Spread | None:
        """`above` divided by the best (smallest) of `below` in the same round."""
        ratios = []
        bounds = set()
        for number, result in self.results(above).items():
            upper = value(result)
            best = self._best(number, below, value)
            if upper is None or best is None or best[0] <= 0:
                continue
            ratios.append(upper / best[0])
            bounds.add((result.outcome == OVER, best[1]))
        return spread(ratios, bound=_bound(bounds))

    def _best(self, number: int, cells: Sequence[Cell], value: Value) -> tuple[float, bool] | None:
        """The smallest value of the round, and whether that is only a lower bound."""
        found = []
        for cell in cells:
            result = self.results(cell).get(number)
            measured = value(result) if result is not None else None
            if result is not None and measured is not None:
                found.append((measured, result.outcome == OVER))
        return min(found, default=None)


def _bound(bounds: set[tuple[bool, bool]]) -> str:
    """Above over its deadline: the ratio is at least so; below over it: at most so."""
    upper, lower = any(a for a, _ in bounds), any(b for _, b in bounds)
    if upper and lower:
        return "?"
    return ">" if upper else "<" if lower else ""
