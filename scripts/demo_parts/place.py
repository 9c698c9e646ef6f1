"""The demo's directory D, what runs for it, and how both go away again.

Never removes anything below a mount point: what is mounted there is the bucket.
"""

import json
import os
import re
import select
import shlex
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from demo_parts.commands import REPOSITORY, Shell
from demo_parts.errors import DemoError

_END_DEADLINE_S = 15.0
#: The last uploads of a demo are small.
_DRAIN_S = "30"


class Place:
    """D with Swift's data, the mount point, cache and state of the demo."""

    def __init__(self, root: Path | None) -> None:
        """Make D: `root`, which must be new or empty, or else a temporary directory."""
        self._made = root is None or not root.exists()
        if root is None:
            # /tmp/... is short: these paths are in every command that is shown.
            root = Path(tempfile.mkdtemp(prefix="zf-demo-"))
        self.root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(root.iterdir()):
                raise DemoError(f"{root} is not empty; give --dir a new or an empty directory")
            for path in (self.mountpoint, self.cache, self.state):
                path.mkdir()
        except OSError as error:
            raise DemoError(f"cannot use {root} ({error.strerror}); choose another --dir") from None
        self._daemon: int | None = None

    @property
    def swift(self) -> Path:
        return self.root / "swift"

    @property
    def mountpoint(self) -> Path:
        return self.root / "ocean"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def state(self) -> Path:
        return self.root / "state"

    def remember_daemon(self, shell: Shell) -> None:
        """Hold on to the mount's process, so that it can be ended whatever happens to the mount."""
        answer = shell.quietly("zarrfuse", "status", "--json", self.mountpoint)
        if answer.returncode != 0:
            raise DemoError(f"the mount says nothing of itself: {answer.stdout.strip()}")
        self._daemon = os.pidfd_open(json.loads(answer.stdout)["pid"])

    def unmount(self, shell: Shell) -> None:
        """Nothing is mounted when it returns, and the daemon has ended. DemoError if it had to be
        forced."""
        forced = ""
        if is_mounted(self.mountpoint):
            forced = self._unmount(shell)
        if self._daemon is not None:
            ended = self._end_daemon()
            forced = forced or ended
        if forced:
            raise DemoError(f"{forced}; the daemon's log is in {self.state}/zarrfuse/log")

    def stop_swift(self, shell: Shell, *, wipe: bool) -> None:
        """End Swift if it runs, and with `wipe` remove its data."""
        if self.swift.exists():
            command = ("scripts/dev-swift", "down", "--dir", self.swift)
            how = ("--wipe",) if wipe else ()
            shell.run(*command, *how, cure=f"its log is {self.swift}/swift.log", own_session=True)

    def remove(self) -> None:
        """Remove what the demo has made of D."""
        if is_mounted(self.mountpoint):
            raise DemoError(
                f"{self.mountpoint} is still mounted; fusermount3 -uz {self.mountpoint}"
            )
        self.mountpoint.rmdir()
        shutil.rmtree(self.cache)
        shutil.rmtree(self.state)
        if self._made:
            self.root.rmdir()

    def _unmount(self, shell: Shell) -> str:
        """Politely, then lazily, then without the daemon's help; what was wrong, if anything."""
        zarrfuse = ("zarrfuse", "umount", self.mountpoint, "--wait", _DRAIN_S)
        try:
            shell.run(*zarrfuse, cure="it is unmounted lazily", own_session=True)
        except DemoError as error:
            for command in ((*zarrfuse, "--lazy"), ("fusermount3", "-uz", self.mountpoint)):
                if is_mounted(self.mountpoint):
                    shell.quietly(*command)
            return str(error)
        return ""

    def _end_daemon(self) -> str:
        """Wait for it; ask it; make it. What was wrong, if anything."""
        assert self._daemon is not None
        daemon, self._daemon = self._daemon, None
        try:
            if select.select([daemon], [], [], _END_DEADLINE_S)[0]:
                return ""
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(daemon, number)
                if select.select([daemon], [], [], _END_DEADLINE_S)[0]:
                    return f"the mount's daemon had to be ended by {number.name}"
            return "the mount's daemon does not end"
        finally:
            os.close(daemon)


def is_mounted(path: Path) -> bool:
    """Whether something is mounted right there, also if it is dead; asks the kernel's table."""
    rows = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return os.fsencode(path) in {_unescaped(row.split(b" ")[4]) for row in rows}


def _unescaped(field: bytes) -> bytes:
    r"""A blank stands as \040 in the table."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), field)


def how_to_use(place: Place) -> list[str]:
    """For --keep: what a user types to go on, and to stop it all."""
    ocean, swift = shlex.quote(str(place.mountpoint)), shlex.quote(str(place.swift))
    venv = shlex.quote(str(REPOSITORY / ".venv" / "bin"))
    dev_swift = shlex.quote(str(REPOSITORY / "scripts" / "dev-swift"))
    return [
        f"The bucket is mounted on {place.mountpoint}. To use it:",
        f"  source {venv}/activate",
        f"  source {swift}/env",
        f"  cp your.nc {ocean}/to-zarr/      # makes {ocean}/your.zarr",
        f"  zarrfuse status {ocean}",
        "",
        "To stop both and remove all they hold:",
        f"  {venv}/zarrfuse umount {ocean}",
        f"  {dev_swift} down --dir {swift} --wipe",
        f"  rm -r --one-file-system {shlex.quote(str(place.root))}",
    ]
