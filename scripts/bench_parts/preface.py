"""The beginning of the report: what it is about, in short, how and when it was measured. Pure text.

Names no host and no path: a run's `about` holds dates, numbers of cores and versions only.
"""

from __future__ import annotations

from collections.abc import Sequence

from .cells import header, line, shown
from .datasets import ALL as DATASETS
from .plan import PLAN
from .results import Run
from .stats import Cell, Table, opening, seconds


def purpose() -> list[str]:
    return [
        "How long a program waits for data in an object store that answers each request only after "
        "a while, as one in another city does: through zarrfuse, through other mounts, with Python "
        "libraries, and from the local disk, which is as fast as it can get.",
        "",
        "Written by `scripts/bench read`; do not edit.",
        "",
    ]


#: What the first table tells: job, and whether it is the opening that counts.
_SHORT = (
    ("row", "cold", "open the store with xarray, nothing cached", True),
    ("row", "cold", "read it in a loop over time (400 chunks, 246 MB)", False),
    ("row", "warm", "read it again", False),
    ("row", "remount", "read it after a new mount, the cache on the disk", False),
    ("dask", "cold", "read it with dask, nothing cached", False),
    ("series", "cold", "a time series at one point, nothing cached", False),
    ("ls-50000", "cold", "`ls -l` of 50 000 chunks, nothing cached", False),
    ("sequential", "cold", "a file of 1 GiB from beginning to end, nothing cached", False),
)


def in_short(table: Table, names: Sequence[str]) -> list[str]:
    """The slowest link; a library without a mount has no warm state, and its cells stay empty."""
    latency = max(table.latencies, default=0.0)
    lines = []
    for session, state, what, is_opening in _SHORT:
        cells = [Cell(latency, f"{session} {state}", name) for name in names]
        value = opening if is_opening else seconds
        texts = [shown(table.spread(cell, value), quartiles=False) for cell in cells]
        if any(texts):
            lines.append(line(what, texts))
    if not lines:
        return []
    head = f"## In short: seconds at {latency:g} ms a request, less is better"
    tail = "`>`: not done when it was ended after that time. Empty: not possible, or not measured."
    return [head, "", *header("", names), *lines, "", tail, ""]


def how() -> list[str]:
    return [
        "## How it is measured",
        "",
        "- A real OpenStack Swift on the same machine. nginx before it makes every request wait, "
        "and answers read-only data from its cache, so that the test server's CPU is not measured.",
        "- Each job is a process of its own, and checks every value that it read.",
        "- cold: fresh mount, empty cache. warm: a new process on the same mount. remount: a new "
        "mount on the same cache directory, whose pages were dropped from memory before.",
        "- Contestants alternate, in rounds; the first round is thrown away. Figures are medians, "
        "in brackets the quartiles; ratios are those of the same round.",
        "- The slow contestants take part in fewer rounds and in fewer jobs. Jobs that no goal "
        "depends on are run in three rounds.",
        "- Peak RSS contains libfuse's own nodes, about 400 bytes for each name that was looked up "
        "(measured with an empty file system); the goal does not subtract them.",
        "",
    ]


def contestants(present: Sequence[tuple[str, str]]) -> list[str]:
    lines = ["| contestant | what it is |", "|---|---|"]
    return [*lines, *(f"| {name} | {note} |" for name, note in present), ""]


def runs(runs: Sequence[Run]) -> list[str]:
    """When what was measured; a job's contestants are always of one run."""
    lines = ["| run | zarrfuse | jobs | rounds |", "|---|---|---|---|"]
    for run in runs:
        about = run.about
        jobs = ", ".join(f"{names} ({latency:g} ms)" for latency, names in _jobs(run))
        rounds = f"{about['rounds']}, at 0 ms {about['rounds_at_0']}; slow: {about['peer_rounds']}"
        rounds += f", each job up to {about['peer_deadline_s']:g} s"
        lines.append(f"| {about['date']} | {about['zarrfuse']} | {jobs} | {rounds} |")
    lines += ["", "| data set | |", "|---|---|"]
    used = dict.fromkeys(name for run in runs for name in run.about["datasets"])
    lines += [f"| {DATASETS[name].name} | {DATASETS[name].title} |" for name in used]
    lines.append("")
    for text in dict.fromkeys(
        f"Machine: {run.about['machine']}. {run.about['versions']}. "
        f"Called as `scripts/bench read{run.about['arguments']}`."
        for run in runs
    ):
        lines += [text, ""]
    return lines


def _jobs(run: Run) -> list[tuple[float, str]]:
    waits = sorted({latency for _, latency in run.jobs})
    named = {wait: [s.name for s in PLAN if (s.name, wait) in run.jobs] for wait in waits}
    everything = [session.name for session in PLAN]
    return [(w, "all" if n == everything else " ".join(n)) for w, n in named.items()]
