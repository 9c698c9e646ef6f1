"""The picture of the report: cold reads, a group of bars for each pattern, on a log scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .plan import COLD, PLAN
from .stats import Cell, Spread, Table

_PATTERNS: Mapping[str, str] = {
    "row": "loop over\ntime", "reverse": "loop back\nin time", "dask": "dask",
    "series": "time series\nat a point", "tiles": "2-D tiles", "random": "chunks at\nrandom",
    "row-v2": "loop over\ntime, Zarr v2", "small": "10 000 small\nchunks",
    "cat-row": "loop over\nfiles (cat)",
}  # fmt: skip
#: Ours in two blues, the local disk in grey; of the others, those without a mount are pale.
_COLOURS: Mapping[str, str] = {
    "ext4": "#555555", "zarrfuse": "#0b3d91", "zarrfuse-fusepy": "#5b9bd5",
    "rclone": "#c0392b", "rclone-tuned": "#e67e22", "s3fs-fuse": "#8e44ad",
    "fsspec.fuse": "#27803b", "s3fs": "#f2c14e", "obstore": "#a3c9a8",
}  # fmt: skip


def draw(table: Table, names: Sequence[str], latency: float, path: Path) -> bool:
    """Write the PNG; False where nothing that it shows was measured."""
    names = [name for name in _COLOURS if name in names]
    patterns = [
        session.name
        for session in PLAN
        if session.name in _PATTERNS
        and any(_spread(table, session.name, n, latency) for n in names)
    ]
    if not patterns:
        return False
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(max(7.0, 1.6 + 1.45 * len(patterns)), 5.4), layout="constrained")
        axes = figure.add_subplot()
        _bars(axes, table, patterns, names, latency)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.02, y=0.1)
        axes.set_ylabel("seconds (log scale); less is better")
        axes.set_title(
            f"Reading data that is not cached yet from a store that answers after {latency:g} ms"
            " (hatched: ended before it was done)"
        )
        axes.set_xticks(range(len(patterns)), [_PATTERNS[name] for name in patterns])
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y", which="major", alpha=0.4)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.legend(loc="outside lower center", ncols=len(names), frameon=False)
        figure.savefig(path, dpi=130, format="png")
    return True


def _bars(
    axes: mpl.axes.Axes,
    table: Table,
    patterns: Sequence[str],
    names: Sequence[str],
    latency: float,
) -> None:
    """The bars of a group stand side by side, without gaps for those that were not measured."""
    width = 0.86 / len(names)
    seen: set[str] = set()
    for group, pattern in enumerate(patterns):
        found = [(n, s) for n in names if (s := _spread(table, pattern, n, latency)) is not None]
        for index, (name, one) in enumerate(found):
            place = group + (index - (len(found) - 1) / 2) * width
            axes.bar(
                place, one.median, width * 0.92, color=_COLOURS[name],
                label=None if name in seen else name, hatch="//" if one.bound else None,
                edgecolor="white", linewidth=0.3,
                yerr=[[one.median - one.low], [one.high - one.median]],
                error_kw={"linewidth": 0.8},
            )  # fmt: skip
            seen.add(name)
            axes.text(place, one.high * 1.05, _mark(one), ha="center", va="bottom", fontsize=6)


def _mark(one: Spread) -> str:
    """`>` where it was ended before it was done; its bar is hatched."""
    return f"{one.bound}{one.median:.2g}" if one.median < 10 else f"{one.bound}{one.median:.0f}"


def _spread(table: Table, session: str, name: str, latency: float) -> Spread | None:
    return table.spread(Cell(latency, f"{session} {COLD}", name))
