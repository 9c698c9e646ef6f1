"""What is measured: sessions of steps. Pure data.

A session is one data set and one contestant: the first step after `cold`, the next on the same
mount (`warm`), the last after `remount`. Its name, with the state, is what the report calls it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import BenchError

COLD, WARM, REMOUNT = "cold", "warm", "remount"


@dataclass(frozen=True)
class Session:
    """`kind` is a job of `child`; `in_flight` is how many chunks the reader asks for at once."""

    name: str
    title: str
    dataset: str
    kind: str
    pattern: str = ""
    states: tuple[str, ...] = (COLD,)
    quick: bool = False
    in_flight: int = 0
    #: Whether the peers, which take minutes, do it as well.
    peers: bool = True
    #: At most so many rounds, where no goal hangs on small differences.
    rounds: int = 7

    def measure(self, state: str) -> str:
        return f"{self.name} {state}"


_ALL_STATES = (COLD, WARM, REMOUNT)
_TWICE = (COLD, WARM)

PLAN: tuple[Session, ...] = (
    Session("row", "row-major: a loop over time", "v3", "scan", "row", _ALL_STATES, True, 1),
    Session("reverse", "reverse: a loop back in time", "v3", "scan", "reverse", (COLD,), True, 1),
    Session("dask", "dask default order", "v3", "scan", "dask", (COLD,), True, 2),
    Session("series", "time series at a point", "v3", "scan", "series", (COLD,), False, 6),
    Session("tiles", "2-D tiles, all times of each", "tiles", "scan", "tiles", (COLD,), False, 6),
    Session("random", "a quarter of the chunks, at random", "v3", "scan", "random", in_flight=1),
    Session("row-v2", "row-major, Zarr v2", "v2", "scan", "row", in_flight=1, peers=False),
    Session(
        "small", "10 000 chunks of 20 kB", "small", "scan", "small",
        in_flight=6, peers=False, rounds=3,
    ),
    Session(
        "cat-row", "cat, row-major", "v3", "cat", "row", _ALL_STATES, True, 1, peers=False
    ),
    Session(
        "cat-reverse", "cat, reverse order of keys", "v3", "cat", "reverse",
        in_flight=1, peers=False, rounds=3,
    ),
    Session(
        "cat-random", "cat, a quarter of the chunks, at random", "v3", "cat", "random",
        in_flight=1, peers=False, rounds=3,
    ),
    Session("ls-5000", "ls -l of 5 000", "list5000", "ls", "", _TWICE, True, rounds=3),
    Session("find-5000", "find of 5 000", "list5000", "find", "", _TWICE, rounds=3),
    Session("ls-50000", "ls -l of 50 000", "list50000", "ls", "", _TWICE),
    Session("find-50000", "find of 50 000", "list50000", "find", "", _TWICE),
    Session("sequential", "1 GiB file, sequential", "file", "sequential", "", _TWICE),
    Session("random4k", "1 GiB file, 200 random 4 KiB", "file", "random4k", rounds=3),
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """What of it all is run."""

    contestants: tuple[str, ...]
    sessions: tuple[Session, ...]


def choose(
    only: list[str], contestants: list[str], *, quick: bool, usual: Sequence[str] | None = None
) -> Choice:
    """`only` names contestants, sessions, or both; of a sort that it does not name, all are run.

    `usual` are the contestants without a choice; all if not given.
    """
    sessions = {session.name: session for session in PLAN}
    unknown = [name for name in only if name not in sessions and name not in contestants]
    if unknown:
        known = ", ".join([*contestants, *sessions])
        raise BenchError(f"--only: unknown {', '.join(unknown)}; known are {known}")
    named = tuple(session for session in PLAN if session.name in only)
    common = tuple(session for session in PLAN if session.quick or not quick)
    runners = tuple(name for name in contestants if name in only)
    return Choice(runners or tuple(usual or contestants), named or common)
