"""The order of a run: packages, servers, data, rounds, report; and the clean-up, whatever happened.

Exit codes: 0; 1 when a contestant read wrong data; 64 usage; 69 when something it needs is missing.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NoReturn

from . import about, contestants, datasets, estimate, goals, notes, plan, plot, report, results
from .errors import BenchError
from .install import ensure_packages
from .rounds import Extent, Rounds, steps
from .servers import REPOSITORY, Proxy, Swift
from .stats import Table
from .terminal import Terminal
from .upload import Prepared, prepare

_RAW = "results.json"
_US = ("zarrfuse", "zarrfuse-fusepy")
_PEERS = {"best peer": tuple(n for n, c in contestants.ALL.items() if c.peer)}
_PEERS["best peer or rclone-tuned"] = (*_PEERS["best peer"], "rclone-tuned")


class _Parser(argparse.ArgumentParser):
    """argparse with the usage code of sysexits."""

    def error(self, message: str) -> NoReturn:
        self.exit(os.EX_USAGE, f"bench: {message}; see scripts/bench --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(given)
    terminal = Terminal()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        usual = contestants.QUICK if options.quick else None
        choice = plan.choose(options.only, list(contestants.ALL), quick=options.quick, usual=usual)
        if options.list:
            _show_names(terminal)
            return os.EX_OK
        if options.report_only:
            return _report(_saved(options.work), options.output, terminal)
        return _run(options, choice, terminal, given)
    except BenchError as error:
        terminal.error(str(error))
        return os.EX_UNAVAILABLE
    except KeyboardInterrupt:
        terminal.error("interrupted")
        return 130


def _interrupted(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(
    options: argparse.Namespace, choice: plan.Choice, terminal: Terminal, given: list[str]
) -> int:
    installed = ensure_packages()
    if installed:
        terminal.say(f"installed {', '.join(installed)}")
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    before = results.load(work / _RAW) if (work / _RAW).exists() else []
    kept = before if options.add else []
    extent = _extent(options)
    found: list[results.Result] = []
    run = results.Run(_facts(options, choice, work, given), found)
    planned = list(steps(choice, options.latency, extent))
    known = estimate.known(one for earlier in before for one in earlier.results)
    minutes = estimate.seconds(planned, known, extent) / 60
    terminal.say(f"{len(planned)} steps, about {minutes:.0f} min, and the making of missing data")
    with ExitStack() as stack:
        terminal.say("starting Swift and the proxy")
        swift = Swift(work / "swift")
        stack.callback(swift.stop)
        proxy = Proxy(work / "nginx", swift.endpoint, options.latency)
        stack.callback(proxy.stop)
        data = _data(choice, work, swift, proxy, terminal)
        endpoints = [proxy.endpoint(latency) for latency in {0.0, *options.latency}]
        rounds = Rounds(choice, planned, endpoints, data, work, extent=extent, begin=terminal.begin)
        stack.callback(terminal.stop)
        terminal.start(len(planned))
        for result in stack.enter_context(closing(rounds.run())):
            terminal.done(result)
            found.append(result)
            results.save(results.joined(kept, run), work / _RAW)
    return _report(results.joined(kept, run), options.output, terminal)


def _extent(options: argparse.Namespace) -> Extent:
    return Extent(
        rounds=options.rounds,
        rounds_at_0=options.rounds_at_0,
        peer_rounds=options.peer_rounds,
        deadline_s=options.deadline,
        peer_deadline_s=options.peer_deadline,
    )


def _saved(work: Path) -> list[results.Run]:
    path = work / _RAW
    if not path.exists():
        raise BenchError("--report-only: there are no results of an earlier run; see --work")
    return results.load(path)


def _data(
    choice: plan.Choice, work: Path, swift: Swift, proxy: Proxy, terminal: Terminal
) -> dict[str, Prepared]:
    cached = proxy.endpoint(0.0)
    place = work / "data"
    place.mkdir(exist_ok=True)
    names = dict.fromkeys(session.dataset for session in choice.sessions)
    return {n: prepare(datasets.ALL[n], place, swift, cached, terminal.say) for n in names}


def _facts(
    options: argparse.Namespace, choice: plan.Choice, work: Path, given: list[str]
) -> dict[str, Any]:
    shown = [a for a in given if "/" not in a and a not in ("--work", "--output")]
    return {
        "arguments": "".join(f" {word}" for word in shown),
        "date": about.now(),
        "zarrfuse": about.zarrfuse(REPOSITORY),
        "rounds": options.rounds,
        "rounds_at_0": options.rounds_at_0,
        "peer_rounds": options.peer_rounds,
        "peer_deadline_s": options.peer_deadline,
        "machine": about.machine(work),
        "versions": about.versions(),
        "datasets": list(dict.fromkeys(session.dataset for session in choice.sessions)),
    }


def _report(runs: list[results.Run], output: Path, terminal: Terminal) -> int:
    found = [result for run in runs for result in run.results]
    table = Table(found)
    names = [name for name in contestants.ALL if name in table.contestants]
    verdicts = {us: goals.verdicts(table, _PEERS, us) for us in _US if us in names}
    picture = output.with_suffix(".png")
    output.parent.mkdir(parents=True, exist_ok=True)
    slow = max(table.latencies, default=0.0)
    drawn = plot.draw(table, [n for n in names if n != "list-pages"], slow, picture)
    text = report.render(
        runs,
        verdicts,
        contestants=[(name, contestants.ALL[name].note) for name in names],
        us=_US,
        peers=_PEERS,
        plot=picture.name if drawn else None,
        reasons=notes.REASONS,
    )
    output.write_text(text)
    terminal.tables(table, names, _US[0], _PEERS)
    for us, judged in verdicts.items():
        terminal.say(f"goals, {us}:")
        terminal.goals(judged)
    terminal.say(f"written: {output}{f', {picture}' if drawn else ''}")
    bad = [result for result in found if result.bad]
    for result in bad:
        terminal.error(f"WRONG DATA: {result.contestant}, {result.measure}: {result.text}")
    return 1 if bad else os.EX_OK


def _show_names(terminal: Terminal) -> None:
    for name, one in contestants.ALL.items():
        terminal.console.print(f"{name:16} {one.note}")
    for session in plan.PLAN:
        quick = " (--quick)" if session.quick else ""
        terminal.console.print(
            f"{session.name:16} {session.title}: {', '.join(session.states)}{quick}"
        )


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="bench read", allow_abbrev=False)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--rounds", type=_positive)
    parser.add_argument("--rounds-at-0", type=_positive)
    parser.add_argument("--peer-rounds", type=_positive)
    parser.add_argument("--add", action="store_true")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--latency", type=_latencies)
    parser.add_argument("--deadline", type=float, default=300.0)
    parser.add_argument("--peer-deadline", type=float)
    parser.add_argument("--work", type=_absolute, default=REPOSITORY / ".dev" / "bench")
    parser.add_argument("--output", type=_absolute, default=REPOSITORY / "docs" / "benchmarks.md")
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 2 if options.quick else 7
    usual = 1 if options.quick else options.rounds
    options.peer_rounds = min(options.peer_rounds or usual, options.rounds)
    options.rounds_at_0 = min(options.rounds_at_0 or options.rounds, options.rounds)
    options.latency = options.latency or ([50.0] if options.quick else [0.0, 50.0])
    options.peer_deadline = options.peer_deadline or (60.0 if options.quick else options.deadline)
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one round")
    return number


def _latencies(text: str) -> list[float]:
    return sorted({float(word) for word in text.split(",")})


def _absolute(text: str) -> Path:
    return Path(text).expanduser().resolve()
