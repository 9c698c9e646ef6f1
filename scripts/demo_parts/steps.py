"""The steps of the demo, in their order. Each is commands that a user could type."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from demo_parts.commands import DEADLINE_S, Shell
from demo_parts.errors import DemoError
from demo_parts.place import Place
from demo_parts.signals import Signals
from demo_parts.terminal import Terminal

#: Not a valid DNS name, as our users' buckets are not.
BUCKET = "my_bucket"
_SST, _AIR, _GROUPED = (f"tests/data/{name}" for name in ("sst.mnmean.nc", "air.nc", "grouped.nc"))
_TOOLS = Path("scripts/demo_parts")
_POLL_S = 0.3


@dataclass(frozen=True)
class Stage:
    """What every step works with."""

    place: Place
    shell: Shell
    terminal: Terminal
    signals: Signals
    output: Path

    @property
    def ocean(self) -> Path:
        return self.place.mountpoint

    @property
    def drop_box(self) -> Path:
        return self.ocean / "to-zarr"

    @property
    def pairs(self) -> list[tuple[str, Path]]:
        """Each source file and the store that it becomes."""
        return [
            (_SST, self.ocean / "sst.mnmean.zarr"),
            (_AIR, self.ocean / "reanalysis" / "air.zarr"),
            (_GROUPED, self.ocean / "grouped.zarr"),
        ]


def perform(stage: Stage) -> None:
    """All steps. DemoError says which went wrong; what was started is left to the caller."""
    for title, step in _STEPS:
        stage.terminal.step(title)
        step(stage)


def _start_swift(stage: Stage) -> None:
    swift = stage.place.swift
    with stage.signals.held():
        stage.shell.run(
            *("scripts/dev-swift", "up", "--dir", swift, "--port", "0"),
            cure="try another --dir",
            own_session=True,
        )
    stage.shell.source(swift / "env")


def _make_bucket(stage: Stage) -> None:
    program = f'import s3fs; s3fs.S3FileSystem().mkdir("{BUCKET}")'
    stage.shell.run("python", "-c", program, cure="Swift's log says more")


def _mount(stage: Stage) -> None:
    with stage.signals.held():
        stage.shell.run(
            *("zarrfuse", "mount", f"s3://{BUCKET}", stage.ocean),
            *("--cache-dir", stage.place.cache / "zarrfuse"),
            cure="see the line above",
            own_session=True,
        )
        stage.place.remember_daemon(stage.shell)
    _ls(stage, stage.ocean)


def _drop(stage: Stage) -> None:
    box = f"{stage.drop_box}/"
    _into_the_box(stage, "cp", _SST, box)
    folder = stage.drop_box / "reanalysis"
    stage.shell.run("mkdir", folder, cure="the drop box does not work")
    _into_the_box(stage, "cp", _AIR, f"{folder}/")
    # `mv` is tried on a copy: the checkout shall keep its own.
    copy = stage.place.root / Path(_GROUPED).name
    stage.shell.run("cp", _GROUPED, copy, cure="is the disk full?")
    _into_the_box(stage, "mv", copy, box)


def _into_the_box(stage: Stage, program: str, source: str | Path, folder: str) -> None:
    """A program that copies into the drop box; if it fails, the box's own report is the cure."""
    try:
        stage.shell.run(program, source, folder, cure="the drop box says nothing of it")
    except DemoError as error:
        report = Path(folder) / f"{Path(source).name}.error.txt"
        read = stage.shell.quietly("cat", report)
        if read.returncode != 0:
            raise
        reason = " ".join(read.stdout.split())
        raise DemoError(f"{program} {source} failed: {reason}") from error


def _list(stage: Stage) -> None:
    for _, store in stage.pairs:
        _await_store(stage, store)
    _ls(stage, stage.ocean, stage.ocean / "reanalysis")
    _ls(stage, "-A", stage.ocean / "sst.mnmean.zarr")


def _await_store(stage: Stage, store: Path) -> None:
    """On a very slow machine close() has returned while the conversion goes on (ingest.wait)."""
    until = time.monotonic() + DEADLINE_S
    while stage.shell.quietly("test", "-e", store / ".zmetadata").returncode != 0:
        if time.monotonic() > until:
            raise DemoError(f"{store} did not appear within {DEADLINE_S:g} s; is it in the log?")
        time.sleep(_POLL_S)


def _open(stage: Stage) -> None:
    store = stage.ocean / "sst.mnmean.zarr"
    program = f'import xarray as xr; print(xr.open_zarr("{store}"))'
    stage.shell.run("python", "-c", program, cure="xarray cannot read the store")


def _compare(stage: Stage) -> None:
    pairs = [path for pair in stage.pairs for path in pair]
    cure = "a store is not what its file is: please report this as a bug"
    stage.shell.run("python", _TOOLS / "compare.py", *pairs, cure=cure)


def _draw(stage: Stage) -> None:
    store = stage.ocean / "sst.mnmean.zarr"
    stage.shell.run(
        *("python", _TOOLS / "picture.py", store, stage.output),
        cure=f"is {shlex.quote(str(stage.output))} a place to write to?",
    )


def _ls(stage: Stage, *words: str | Path) -> None:
    stage.shell.run("ls", *words, cure="the mount does not answer")


_STEPS: tuple[tuple[str, Callable[[Stage], None]], ...] = (
    ("Start a real OpenStack Swift on this machine", _start_swift),
    (f"Make a bucket in it: {BUCKET}", _make_bucket),
    ("Mount the bucket", _mount),
    ("Copy NetCDF files into the drop box: each becomes a Zarr store", _drop),
    ("Look at the new stores", _list),
    ("Open one through the mount with xarray", _open),
    ("Compare every raw value with its source file, bit for bit", _compare),
    ("Draw a map of the sea surface temperature", _draw),
)
COUNT = len(_STEPS)
