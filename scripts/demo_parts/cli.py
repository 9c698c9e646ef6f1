"""The order of the demo: the steps, then the clean-up, whatever happened; one line per error."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_parts import steps
from demo_parts.commands import REPOSITORY, Shell
from demo_parts.errors import DemoError, Interrupted
from demo_parts.place import Place, how_to_use
from demo_parts.signals import Signals
from demo_parts.terminal import Terminal

_OUTPUT = REPOSITORY / "demo-output" / "sst.png"


@dataclass(frozen=True)
class Options:
    """The arguments; scripts/demo has made the paths absolute."""

    keep: bool
    directory: Path | None
    output: Path


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    terminal = Terminal(steps.COUNT)
    signals = Signals()
    try:
        _check_output(options.output)
        place = Place(options.directory)
    except DemoError as error:
        terminal.error(str(error))
        return os.EX_CANTCREAT
    return _in_place(options, place, terminal, signals)


def _in_place(options: Options, place: Place, terminal: Terminal, signals: Signals) -> int:
    shell = Shell(terminal, place.root)
    code: int | None = None
    try:
        steps.perform(steps.Stage(place, shell, terminal, signals, options.output))
        code = os.EX_OK
    except DemoError as error:
        terminal.error(str(error))
        code = 1
    except Interrupted as interrupted:
        terminal.error(str(interrupted))
        code = 128 + interrupted.number
    finally:
        # Also for a defect of the demo itself, whose traceback then follows.
        signals.end()
        if code == os.EX_OK and options.keep:
            terminal.ending("Left running, as you asked")
            terminal.output(how_to_use(place))
        else:
            clean = _clean_up(place, shell, terminal, failed=code in (None, 1))
            code = code or (os.EX_OK if clean else 1)
    if code == os.EX_OK:
        terminal.plain(f"\nDone in {terminal.elapsed_s:.0f} s. The map: {options.output}")
    return code


def _clean_up(place: Place, shell: Shell, terminal: Terminal, *, failed: bool) -> bool:
    """Each part, also where one before it went wrong; says whether none did."""
    terminal.ending("Unmount, and stop Swift")
    parts: list[Callable[[], None]] = [
        lambda: place.unmount(shell),
        lambda: place.stop_swift(shell, wipe=not failed),
    ]
    done = [_works(part, terminal) for part in parts]
    clean = all(done)
    if clean and not failed:
        return _works(place.remove, terminal)
    terminal.error(f"the logs are kept in {place.root}; remove it when you have read them")
    return False


def _works(part: Callable[[], None], terminal: Terminal) -> bool:
    try:
        part()
    except DemoError as error:
        terminal.error(str(error))
        return False
    return True


def _check_output(output: Path) -> None:
    """Before half a minute is spent on a picture that cannot be saved."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"cannot make {output.parent} ({error.strerror}); see --output") from None
    if output.is_dir() or not os.access(output.parent, os.W_OK):
        raise DemoError(f"cannot write {output}; give --output a file in a directory of yours")
    if output.suffix.lower() != ".png":
        raise DemoError(f"{output.name} is no name of a PNG; give --output FILE.png")


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="demo", allow_abbrev=False)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--output", type=Path, default=_OUTPUT)
    given = parser.parse_args(arguments)
    return Options(given.keep, given.dir, given.output)
