"""On what it was run: cores, memory, kernel, versions. No host name and no path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from .errors import BenchError
from .install import program

_LIBRARIES = (
    "mfusepy",
    "fusepy",
    "obstore",
    "s3fs",
    "fsspec",
    "xarray",
    "zarr",
    "dask",
)
_PROGRAMS = {"s3fs": "--version", "rclone": "version", "nginx": "-v"}


def now() -> str:
    """The date and the hour, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def zarrfuse(repository: Path) -> str:
    """Its version, and the commit where it is run from a checkout."""
    version = importlib.metadata.version("zarrfuse")
    git = shutil.which("git")
    if git is None or not (repository / ".git").exists():
        return version
    commit = _git(git, repository, "rev-parse", "--short", "HEAD")
    changed = _git(git, repository, "status", "--porcelain", "--untracked-files=no", "zarrfuse")
    return f"{version}, commit {commit}{' with changes' if changed else ''}"


def _git(git: str, repository: Path, *words: str) -> str:
    done = subprocess.run(
        [git, "-C", repository, *words], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()


def machine(work: Path) -> str:
    """One line."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kernel = re.match(r"\d+\.\d+", platform.release())
    return (
        f"{os.cpu_count()} cores {platform.machine()}, {pages / 2**30:.0f} GiB of memory, "
        f"Linux {kernel[0] if kernel else ''}, work directory on {_file_system(work)}"
    )


def versions() -> str:
    """Of Python, the libraries and the peers."""
    found = [f"Python {platform.python_version()}"]
    found += [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    return ", ".join([*found, *(_version(name, flag) for name, flag in _PROGRAMS.items())])


def _version(name: str, flag: str) -> str:
    done = subprocess.run(
        [program(name), flag], capture_output=True, text=True, timeout=20, check=False
    )
    found = re.search(r"\d+\.\d+[\d.]*", done.stdout + done.stderr)
    if found is None:
        raise BenchError(f"{name} {flag} names no version")
    return f"{'s3fs-fuse' if name == 's3fs' else name} {found[0]}"


def _file_system(path: Path) -> str:
    """The type of the mount that holds the path; statfs calls ext4 `ext2/ext3`."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    # proc(5): the mount point is field 5; the type follows the separator.
    types = {line.split(" ")[4]: line.partition(" - ")[2].split(" ")[0] for line in lines}
    return next(types[str(p)] for p in (path, *path.parents) if str(p) in types)
