"""What lies where in the data directory D, and the two small files others read: `env`, `*.pid`.

Knows no process and no network, except that a recorded pid is only believed when /proc shows that
it is the server that was started for this very directory.
"""

import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dev_swift.errors import DevSwiftError

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_DIR = REPOSITORY / ".dev" / "swift"

HOST = "127.0.0.1"
SERVERS = ("swift", "keystone")
REGION = "RegionOne"


@dataclass(frozen=True)
class Layout:
    """The paths below one data directory."""

    root: Path

    @property
    def env(self) -> Path:
        return self.root / "env"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def etc(self) -> Path:
        return self.root / "etc"

    @property
    def devices(self) -> Path:
        return self.root / "srv"

    @property
    def keystone(self) -> Path:
        return self.root / "keystone"

    @property
    def keystone_conf(self) -> Path:
        return self.keystone / "keystone.conf"

    @property
    def keystone_service(self) -> Path:
        """What Swift's process is told of Keystone."""
        return self.keystone / "service.json"

    def pid_file(self, server: str) -> Path:
        return self.root / f"{server}.pid"

    def log(self, server: str) -> Path:
        return self.root / f"{server}.log"


def prepare(layout: Layout) -> None:
    """Make D, readable by its owner alone; say why when Swift could not live there."""
    try:
        layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=layout.root) as probe:
            # Swift keeps an object's metadata in extended attributes.
            os.setxattr(probe.name, "user.dev-swift", b"x")
    except OSError as error:
        raise DevSwiftError(
            f"{layout.root} cannot hold Swift's data ({error.strerror}); "
            "choose a writable --dir on a file system with user extended attributes",
            os.EX_CANTCREAT,
        ) from error


def write_private(path: Path, text: str) -> None:
    """Replace a file whole, mode 0600: others read it while we write."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    Path(name).replace(path)


def write_env(layout: Layout, variables: dict[str, str]) -> None:
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    write_private(layout.env, "".join(lines))


def read_env(layout: Layout) -> dict[str, str]:
    """The variables of D/env; empty when there is none."""
    if not layout.env.exists():
        return {}
    words = shlex.split(layout.env.read_text(encoding="utf-8"))
    return dict(word.split("=", 1) for word in words if word != "export")


def module_of(server: str) -> str:
    """The module that is the process of `swift` or `keystone`."""
    return f"dev_swift.{server}_server"


def live_pid(layout: Layout, server: str) -> int | None:
    """The pid of this directory's running server, or None; another's process is never named."""
    try:
        pid = int(layout.pid_file(server).read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    ours = {module_of(server).encode(), os.fsencode(layout.root)}
    return pid if ours <= set(arguments) else None
