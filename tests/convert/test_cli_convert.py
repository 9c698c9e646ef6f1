"""`zarrfuse convert`, as a user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.netcdf import DATA
from tests.support.oracles import assert_same_values
from tests.support.swift import SwiftServer
from zarrfuse.cli.convert import Destination, destination_of, orders_of
from zarrfuse.errors import ExitCode, UserError

AIR = DATA / "air.nc"


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "zarrfuse", "convert", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=env)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("target", "many", "parent", "name"),
    [
        ("s3://b/x.zarr", False, "s3://b/", "x.zarr"),
        ("s3://b/p/x.zarr", False, "s3://b/p/", "x.zarr"),
        ("s3://b", False, "s3://b/", None),
        ("s3://b/p/", False, "s3://b/p/", None),
        ("s3://b/p", True, "s3://b/p/", None),
        ("/data/my dir/x.zarr", False, "file:///data/my dir/", "x.zarr"),
        ("memory://x/y.zarr", False, "memory://x/", "y.zarr"),
    ],
)
def test_destinations(target: str, many: bool, parent: str, name: str | None) -> None:
    assert destination_of(target, many=many) == Destination(parent, name)


def test_two_files_that_would_be_one_store(tmp_path: Path) -> None:
    other = tmp_path / "air.nc"
    other.write_bytes(b"")
    with pytest.raises(UserError, match=r"both become air\.zarr"):
        orders_of([AIR, other], Destination("file:///", None))


def test_to_a_local_path_with_spaces_and_again(tmp_path: Path) -> None:
    target = tmp_path / "mein Ozeän" / "a b.zarr"
    target.parent.mkdir()
    code, out, err = run(AIR, target)
    assert (code, err) == (0, "")
    assert "verified" in out
    assert assert_same_values(AIR, target) == 4
    assert [path.name for path in target.parent.iterdir()] == ["a b.zarr"]
    code, out, _ = run(AIR, target)
    assert (code, "unchanged" in out) == (0, True)


def test_something_stands_there(tmp_path: Path) -> None:
    target = tmp_path / "x.zarr"
    target.mkdir()
    (target / "zarr.json").write_text("{}")
    code, out, err = run(AIR, target)
    assert (code, out) == (ExitCode.CANNOT_CREATE, "")
    assert "not made by this drop box" in err
    assert err.count("\n") == 1
    assert run("--overwrite", AIR, target)[0] == 0
    assert assert_same_values(AIR, target) == 4
    assert not (target / "zarr.json").exists()


def test_many_files_and_one_that_is_bad(tmp_path: Path) -> None:
    bad = tmp_path / "bad.nc"
    bad.write_bytes(b"hello there\n")
    out_directory = tmp_path / "out"
    out_directory.mkdir()
    code, out, err = run(AIR, bad, DATA / "ubyte.nc", out_directory)
    assert code == ExitCode.DATA
    assert err == "zarrfuse: not converted: bad.nc: not a NetCDF file: it is text\n"
    assert out.count("verified") == 2
    assert {path.name for path in out_directory.iterdir()} == {"air.zarr", "ubyte.zarr"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((AIR,), ExitCode.USAGE, "destination"),
        (("gone.nc", "x.zarr"), ExitCode.NO_INPUT, "gone.nc: no such file"),
    ],
)
def test_wrong_words(arguments: tuple[str | Path, ...], code: int, words: str) -> None:
    found, _, err = run(*arguments)
    assert found == code
    assert words in err
    assert err.count("\n") == 1


def test_to_real_swift(swift: SwiftServer, bucket: str, tmp_path: Path) -> None:
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": swift.access_key,
        "AWS_SECRET_ACCESS_KEY": swift.secret_key,
        "AWS_ENDPOINT_URL": swift.endpoint_url,
        "AWS_REGION": swift.region,
    }
    where = f"s3://{bucket}/deep/air.zarr"
    code, out, err = run(AIR, where, env=env)
    assert (code, err) == (0, "")
    assert where in out
    code, _, err = run(DATA / "ubyte.nc", where, env=env)
    assert code == ExitCode.CANNOT_CREATE
    assert "made by zarrfuse from air.nc" in err
    code, _, err = run("--overwrite", DATA / "ubyte.nc", where, env=env)
    assert (code, err) == (0, "")
