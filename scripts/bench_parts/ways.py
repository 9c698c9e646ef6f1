"""What a contestant is, and what all mounts have in common: started, found mounted, ended.

Knows no peer by name. Processes are its own children, ended by their handles; a mount that does not
let go is detached lazily.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .datasets import DataSet
from .errors import BenchError
from .install import program
from .plan import COLD, Session
from .servers import Endpoint, end_process
from .upload import Prepared

_MOUNT_S = 60.0
_UNMOUNT_S = 30.0
ALL_KINDS = frozenset({"scan", "cat", "ls", "find", "sequential", "random4k"})


@dataclass(frozen=True)
class Scene:
    """Where a contestant reads from, and where it may put its own files."""

    prepared: Prepared
    endpoint: Endpoint
    place: Path

    @property
    def dataset(self) -> DataSet:
        return self.prepared.dataset


class Contestant(ABC):
    """One way to read a data set; made for one session, over one scene."""

    name: ClassVar[str]
    note: ClassVar[str]
    kinds: ClassVar[frozenset[str]] = ALL_KINDS
    #: One of the mounts that the goals name.
    peer: ClassVar[bool] = False
    #: Jobs in which it takes many times as long as we do: in fewer rounds, if the caller wants.
    slow: ClassVar[frozenset[str]] = frozenset()
    #: Measured in the jobs of this name only; in all where none is named.
    jobs: ClassVar[frozenset[str]] = frozenset()
    #: Whether anything is left for a second job; without it every job is cold.
    keeps: ClassVar[bool] = True
    #: Asks for every entry of a listing by itself, which a set of rows only cannot answer.
    heads_entries: ClassVar[bool] = False

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    @classmethod
    def states(cls, session: Session) -> tuple[str, ...]:
        """The states of a session in which this one is measured; none if it cannot do the job."""
        if session.kind not in cls.kinds or (cls.jobs and session.name not in cls.jobs):
            return ()
        return session.states if cls.keeps else (COLD,)

    @abstractmethod
    def cold(self) -> None:
        """Ready to read, with nothing known and nothing cached."""

    @abstractmethod
    def remount(self) -> None:
        """Ready to read, as after a reboot: what is on the disk stays, what is in memory goes."""

    @abstractmethod
    def source(self) -> dict[str, Any]:
        """How a job reaches the data, for `child`."""

    @property
    def pid(self) -> int | None:
        """The daemon, where there is one."""
        return None

    def known_keys(self) -> int | None:
        """How many names it remembers, where it tells."""
        return None

    @classmethod
    def is_peer(cls) -> bool:
        """Slow in all that it does: the sessions say in which it takes part."""
        return cls.slow == ALL_KINDS

    @abstractmethod
    def end(self) -> None:
        """Nothing of it is left; also after a failed `cold`, and twice."""


class Mount(Contestant):
    """A daemon in the foreground that mounts the bucket."""

    _process: subprocess.Popen[bytes] | None = None

    @property
    def path(self) -> Path:
        return self.scene.place / "mnt"

    @property
    def cache(self) -> Path:
        return self.scene.place / "cache"

    @property
    def bucket(self) -> str:
        return self.scene.dataset.bucket

    @abstractmethod
    def command(self) -> list[str | Path]:
        """What a user would type, in the foreground."""

    def env(self) -> Mapping[str, str]:
        """What it needs beside the AWS variables."""
        return {}

    def cold(self) -> None:
        self.end()
        shutil.rmtree(self.scene.place, ignore_errors=True)
        self._start()

    def remount(self) -> None:
        self.end()
        drop_pages(self.cache)
        self._start()

    def source(self) -> dict[str, Any]:
        return {"kind": "path", "path": str(self.path)}

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def end(self) -> None:
        if is_mounted(self.path) and not _unmount(self.path, lazily=False):
            _unmount(self.path, lazily=True)
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(_UNMOUNT_S)
        except subprocess.TimeoutExpired:
            end_process(process)

    def _start(self) -> None:
        for directory in (self.path, self.cache):
            directory.mkdir(parents=True, exist_ok=True)
        log = self.scene.place / "daemon.log"
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [str(word) for word in self.command()],
                cwd=self.scene.place,
                env={**clean_env(self.scene), **self.env()},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        deadline = time.monotonic() + _MOUNT_S
        while not is_mounted(self.path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-2000:]
                self.end()
                raise BenchError(f"{self.name} did not mount: {said}")
            time.sleep(0.02)
        # The start itself is nobody's first read.
        time.sleep(0.2)


def clean_env(scene: Scene) -> dict[str, str]:
    """This process's environment without any S3 settings of the user, with those of the scene."""
    foreign = ("AWS", "OS_", "RCLONE", "ZARRFUSE", "FSSPEC")
    env = {
        name: value
        for name, value in os.environ.items()
        # AWS_CA_BUNDLE among them: Debian's rclone does not start with it.
        if not name.startswith(foreign) and not name.lower().endswith("_proxy")
    }
    home = scene.place
    return env | {
        **scene.endpoint.env(),
        "AWS_CONFIG_FILE": str(home / "no-aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-aws-credentials"),
        "XDG_CACHE_HOME": str(home / "xdg-cache"),
        "XDG_STATE_HOME": str(home / "xdg-state"),
    }


def is_mounted(path: Path) -> bool:
    """By the kernel's table: a hung mount must not hang the question."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split(" ", 5)[4] == str(path) for line in lines)


def _unmount(path: Path, *, lazily: bool) -> bool:
    words = [program("fusermount3"), "-uz" if lazily else "-u", str(path)]
    done = subprocess.run(words, capture_output=True, timeout=_UNMOUNT_S, check=False)
    return done.returncode == 0


def drop_pages(place: Path) -> None:
    """What was read or written below `place` leaves memory; as root its inodes do as well.

    Not drop_caches=3: that would take the pages of the server's files, too, and the next
    contestant's object store would be a cold disk.
    """
    os.sync()  # only clean pages can go
    for path in place.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    if os.geteuid() == 0:
        Path("/proc/sys/vm/drop_caches").write_text("2\n")
