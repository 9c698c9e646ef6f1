"""The virtual environments of Swift and Keystone: made once, kept apart from the project's own.

A stamp in each says what was installed, so that a second call costs nothing; a lock beside it lets
several callers come at the same time. pip is silent unless it fails.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dev_swift.errors import DevSwiftError
from dev_swift.layout import REPOSITORY

_STAMP = "dev-swift-installed"


@dataclass(frozen=True)
class Venv:
    """A virtual environment and what must be in it."""

    name: str
    directory: Path
    requirements: frozenset[str]

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"


def swift_venv(*, keystone: bool) -> Venv:
    """Swift's environment; with Keystone the middleware that talks to it is in it as well."""
    # 2.36 is the first release with the checksums of today's S3 clients.
    wanted = {"swift>=2.36", "pyeclib>=1.6"}
    if keystone:
        wanted |= {"keystonemiddleware>=10", "python-keystoneclient>=5"}
    return Venv("Swift", _place("ZARRFUSE_SWIFT_VENV", "swift-venv"), frozenset(wanted))


def keystone_venv() -> Venv:
    directory = _place("ZARRFUSE_KEYSTONE_VENV", "keystone-venv")
    return Venv("Keystone", directory, frozenset({"keystone>=27", "waitress>=3"}))


def ensure(venv: Venv) -> None:
    """Create the environment, or install what is missing in it."""
    if venv.requirements <= _installed(venv):
        return
    with _locked(venv.directory.with_name(venv.directory.name + ".lock")):
        installed = _installed(venv)
        if venv.requirements <= installed:
            return
        print(f"dev-swift: installing {venv.name} into {venv.directory} (once)", file=sys.stderr)
        if not venv.python.exists():
            _run([sys.executable, "-m", "venv", str(venv.directory)], venv)
        wanted = sorted(venv.requirements | installed)
        _run([str(venv.python), "-m", "pip", "install", "-q", *wanted], venv)
        (venv.directory / _STAMP).write_text("\n".join(wanted) + "\n")


def _place(variable: str, name: str) -> Path:
    return Path(os.environ.get(variable) or REPOSITORY / ".dev" / name).absolute()


def _installed(venv: Venv) -> frozenset[str]:
    stamp = venv.directory / _STAMP
    return frozenset(stamp.read_text().split()) if stamp.exists() else frozenset()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _run(command: list[str], venv: Venv) -> None:
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        # venv reports on stdout that ensurepip is missing, pip on stderr what it cannot find.
        print(done.stdout + _without_warnings(done.stderr), end="", file=sys.stderr)
        raise DevSwiftError(f"could not install {venv.name} into {venv.directory} (see above)")


def _without_warnings(text: str) -> str:
    """pip warns for each package and index it looks at; the reason of a failure is elsewhere."""
    kept = [line for line in text.splitlines(keepends=True) if not line.startswith("WARNING:")]
    return "".join(kept)
