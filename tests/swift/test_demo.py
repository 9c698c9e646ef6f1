"""scripts/demo as a user runs it: it does what it says, and leaves nothing behind."""

import os
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import zarr

from tests.support.mounts import alive
from tests.support.netcdf import DATA, convert_to

REPOSITORY = Path(__file__).parents[2]
DEMO = REPOSITORY / "scripts" / "demo"
COMPARE = REPOSITORY / "scripts" / "demo_parts" / "compare.py"
SOURCES = ("sst.mnmean.nc", "air.nc", "grouped.nc")
DEADLINE_S = 240.0
#: A first run of setup is not the demo's own time, and has a machine's whole set-up in it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * DEADLINE_S)]


class Surroundings:
    """A home and a temporary directory that nobody else writes to, and the demo run in them."""

    def __init__(self, root: Path) -> None:
        self.home, self.temporary = root / "home", root / "tmp"
        for path in (self.home, self.temporary):
            path.mkdir()
        self.env = {name: value for name, value in os.environ.items() if name[:4] != "XDG_"}
        self.env |= {"HOME": str(self.home), "TMPDIR": str(self.temporary)}
        self.env["XDG_RUNTIME_DIR"] = os.environ["XDG_RUNTIME_DIR"]

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(word) for word in (DEMO, *arguments)],
            env=self.env,
            cwd=self.temporary,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def demo(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Run to the end: exit code, standard output, standard error."""
        process = self.start(*arguments)
        try:
            said, complained = process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            said, complained = process.communicate(timeout=DEADLINE_S)
            pytest.fail(f"the demo did not end:\n{said}{complained}")
        return process.returncode, said, complained

    def assert_nothing_left(self, said: str) -> None:
        """No process that the demo named, no mount, no file; the home as it was."""
        pids = {int(pid) for pid in re.findall(r"\bpid (\d+)", said)}
        assert len(pids) >= 2, f"the demo names its daemon and Swift:\n{said}"
        assert [pid for pid in pids if alive(pid)] == []
        assert str(self.temporary.parent) not in Path("/proc/self/mountinfo").read_text()
        assert list(self.temporary.iterdir()) == []
        assert list(self.home.iterdir()) == []


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[Surroundings]:
    """A test that fails half-way must not leave a mount below pytest's directory."""
    yield Surroundings(tmp_path)
    for row in Path("/proc/self/mountinfo").read_text().splitlines():
        mountpoint = row.split()[4].replace("\\040", " ")
        if mountpoint.startswith(f"{tmp_path}/"):
            subprocess.run(["fusermount3", "-uz", mountpoint], check=False, timeout=30)


def png_size(path: Path) -> tuple[int, int]:
    """Width and height; AssertionError if it is no PNG."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def count_values(group: netCDF4.Dataset) -> int:
    own = sum(int(np.prod(variable.shape)) for variable in group.variables.values())
    return own + sum(count_values(child) for child in group.groups.values())


def values_of_sources() -> int:
    total = 0
    for name in SOURCES:
        with netCDF4.Dataset(DATA / name) as dataset:
            total += count_values(dataset)
    return total


def test_it_shows_the_main_job_and_leaves_only_the_map(
    surroundings: Surroundings, tmp_path: Path
) -> None:
    picture = tmp_path / "maps" / "sst.png"
    code, said, complained = surroundings.demo("--output", picture)
    assert (code, complained) == (0, ""), said
    width, height = png_size(picture)
    assert width > 1000
    assert height > 500
    assert picture.stat().st_size > 50_000
    assert f"{values_of_sources()} values " in said
    assert "all identical" in said
    assert "<xarray.Dataset>" in said
    assert "\033" not in said, "colours are for terminals"
    assert said.rstrip().endswith(str(picture))
    surroundings.assert_nothing_left(said)


def test_kept_it_can_be_used_and_stopped_as_printed(
    surroundings: Surroundings, tmp_path: Path
) -> None:
    place = surroundings.temporary / "the demo"  # a blank: what is printed has to be quoted
    arguments = ("--keep", "--dir", place, "--output", tmp_path / "sst.png")
    code, said, complained = surroundings.demo(*arguments)
    assert (code, complained) == (0, ""), said
    try:
        assert (place / "ocean" / "sst.mnmean.zarr" / ".zmetadata").is_file()
        use, stop = said.partition("To use it:")[2].split("To stop both")
        sourced = [line for line in use.splitlines() if line.strip().startswith("source ")]
        script = [*sourced, f"zarrfuse status {shlex.quote(str(place / 'ocean'))}"]
        assert "s3://my_bucket" in bash(script, surroundings)
    finally:
        commands = [line for line in stop.splitlines() if line.startswith("  ")]
        ended = bash(commands, surroundings)
    surroundings.assert_nothing_left(said + ended)


def bash(lines: list[str], surroundings: Surroundings) -> str:
    """What a user who types these lines reads; AssertionError if one fails."""
    done = subprocess.run(
        ["bash", "-ec", "\n".join(lines)],
        env=surroundings.env,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, f"{lines}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_cleans_up(
    surroundings: Surroundings, tmp_path: Path, number: signal.Signals
) -> None:
    process = surroundings.start("--keep", "--output", tmp_path / "sst.png")
    assert process.stdout is not None
    said = read_until(process.stdout.fileno(), "$ cp tests/data/sst.mnmean.nc")
    process.send_signal(number)
    rest, complained = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + number, said + rest + complained
    assert f"ended by {number.name}" in complained
    assert "Traceback" not in complained
    surroundings.assert_nothing_left(said + rest)


def read_until(descriptor: int, text: str) -> str:
    """What comes up to the text; AssertionError at its end or the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    said = b""
    while text.encode() not in said:
        left = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([descriptor], [], [], left)
        piece = os.read(descriptor, 65536) if ready else b""
        assert piece, f"no {text!r} in {said.decode()}"
        said += piece
    return said.decode()


def test_an_output_that_cannot_be_is_refused_before_anything_starts(
    surroundings: Surroundings, tmp_path: Path
) -> None:
    code, said, complained = surroundings.demo("--output", tmp_path)
    assert (code, said) == (os.EX_CANTCREAT, "")
    assert complained == (
        f"demo: cannot write {tmp_path}; give --output a file in a directory of yours\n"
    )


def test_a_directory_in_use_is_refused_and_untouched(
    surroundings: Surroundings, tmp_path: Path
) -> None:
    precious = tmp_path / "mine" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("all of it")
    code, _, complained = surroundings.demo(
        "--dir", precious.parent, "--output", tmp_path / "a.png"
    )
    assert code == os.EX_CANTCREAT
    assert "is not empty" in complained
    assert precious.read_text() == "all of it"
    assert list(precious.parent.iterdir()) == [precious]


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--dir"], ["--output", ""]])
def test_usage(surroundings: Surroundings, arguments: list[str]) -> None:
    code, said, complained = surroundings.demo(*arguments)
    assert (code, said) == (os.EX_USAGE, "")
    assert "usage: scripts/demo" in complained


class TestCompare:
    """compare.py is what the demo's claim rests on, so it must see what is different."""

    def compare(self, store: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(COMPARE), str(DATA / "grouped.nc"), str(store)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        convert_to(DATA / "grouped.nc", tmp_path / "grouped.zarr")
        return tmp_path / "grouped.zarr"

    def test_equal(self, store: Path) -> None:
        done = self.compare(store)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "all identical" in done.stdout

    def test_one_bit(self, store: Path) -> None:
        array = zarr.open_array(store / "forecast" / "model" / "q", mode="r+")
        values = np.asarray(array[...])
        values.view(np.uint64)[2, 3] ^= 1
        array[...] = values
        done = self.compare(store)
        assert done.returncode == 1
        assert re.search(r"forecast/model/q .* 1 of 40 values differ", done.stdout)

    def test_missing(self, store: Path) -> None:
        for path in (store / "lat").iterdir():
            path.unlink()
        (store / ".zmetadata").unlink()
        done = self.compare(store)
        assert done.returncode == 1
        assert re.search(r"lat .* not in the store", done.stdout)

    def test_type(self, store: Path) -> None:
        group = zarr.open_group(store, mode="r+", use_consolidated=False)
        values = np.asarray(group["lat"][...], "f4")  # type: ignore[index]
        group.create_array("lat", data=values, overwrite=True)
        (store / ".zmetadata").unlink()
        done = self.compare(store)
        assert done.returncode == 1
        assert re.search(r"lat .* float32 instead of float64", done.stdout)
