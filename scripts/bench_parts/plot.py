"""The picture of the report: cold scans, a group of bars for each pattern, on a log scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .plan import COLD, PLAN
from .stats import Cell, Spread, Table

_SHORT = {
    "row": "row-major", "reverse": "reverse", "dask": "dask", "series": "time\nseries",
    "tiles": "2-D tiles", "random": "random", "row-v2": "row-major\nv2", "small": "10 000 x\n20 kB",
    "cat-row": "cat\nrow-major", "cat-reverse": "cat\nreverse", "cat-random": "cat\nrandom",
}  # fmt: skip


def draw(table: Table, names: Sequence[str], latency: float, path: Path) -> bool:
    """Write the PNG; False where nothing that it shows was measured."""
    patterns = [
        session.name
        for session in PLAN
        if session.name in _SHORT and any(_spread(table, session.name, n, latency) for n in names)
    ]
    if not patterns:
        return False
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(max(7.0, 1.6 + 1.25 * len(patterns)), 5.0), layout="constrained")
        axes = figure.add_subplot()
        _bars(axes, table, patterns, names, latency)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.margins(y=0.08)
        axes.set_ylabel("seconds (log scale)")
        axes.set_title(f"Cold reads of the same data, {latency:g} ms a request; lower is better")
        axes.set_xticks(range(len(patterns)), [_SHORT[name] for name in patterns])
        axes.grid(axis="y", which="major", alpha=0.4)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=5, frameon=False)
        figure.savefig(path, dpi=130, format="png")
    return True


def _bars(
    axes: mpl.axes.Axes,
    table: Table,
    patterns: Sequence[str],
    names: Sequence[str],
    latency: float,
) -> None:
    width = 0.84 / len(names)
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for index, name in enumerate(names):
        spreads = [_spread(table, pattern, name, latency) for pattern in patterns]
        found = [(at, one) for at, one in enumerate(spreads) if one is not None]
        places = [at + (index - (len(names) - 1) / 2) * width for at, _ in found]
        medians = [one.median for _, one in found]
        errors = [[o.median - o.low for _, o in found], [o.high - o.median for _, o in found]]
        axes.bar(
            places, medians, width * 0.92, label=name, color=colours[index % 10],
            yerr=errors, error_kw={"linewidth": 0.8},
        )  # fmt: skip
        for place, (_, one) in zip(places, found, strict=True):
            mark = (
                f"{one.bound}{one.median:.2g}"
                if one.median < 10
                else f"{one.bound}{one.median:.0f}"
            )
            axes.text(place, one.high * 1.04, mark, ha="center", va="bottom", fontsize=6)


def _spread(table: Table, session: str, name: str, latency: float) -> Spread | None:
    return table.spread(Cell(latency, f"{session} {COLD}", name))
