"""The block files under one directory: where they lie, and reading and writing them.

    a/b/abc...            a block, never changed once it has its name
    a/b/abc....<token>    the same being written, by the holder of the reservation `token`

Two hexadecimal digits, one a level: 256 directories, for a new one costs ext4 about 1 ms, and some
ten thousand files in each do no harm. Directories are 0700, files 0600. Nothing is fsynced: what a
power cut damages fails its checksum.

Knows no limits and no index; errors are OSError, and Damaged for a file that is not its block.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from zarrfuse.cache.format import HEADER, NAME_BYTES, BlockId, allocated, header, name_of
from zarrfuse.cache.rows import Row

_FILE_NAME = re.compile(rf"([0-9a-f]{{{2 * NAME_BYTES}}})(?:\.([0-9a-f]{{1,16}}))?")


class Damaged(Exception):
    """The file is not the block that its name promises."""


class BlockFiles:
    """All block files of one cache. Safe from any thread and with other processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._top = str(root)

    def prepare(self) -> None:
        """Makes the directory if need be, private, and proves that it can be written."""
        self.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.mkdir(mode=0o700, exist_ok=True)
        self.root.chmod(0o700)
        probe = self.root / f"probe.{os.getpid()}"
        probe.touch(mode=0o600)
        probe.unlink(missing_ok=True)

    def read(self, block: BlockId) -> bytes:
        """The payload, verified. FileNotFoundError: there is none. Damaged: remove it."""
        identity = block.encoded
        before = HEADER.size + len(identity)
        fd = os.open(self._text(name_of(identity)), os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = os.pread(fd, before, 0)
            payload = os.pread(fd, block.size + 1, before)  # one more would be one too many
        finally:
            os.close(fd)
        if len(payload) != block.size:
            raise Damaged("its length is wrong")
        if header(identity, payload) != head:
            raise Damaged("its header or checksum is wrong")
        return payload

    def read_ahead(self, block: BlockId) -> bool:
        """Has the kernel bring the file into memory, and does not wait. False: there is none."""
        try:
            fd = os.open(self._text(block.name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(fd)
        return True

    def write(self, block: BlockId, token: int, payload: bytes) -> bytes:
        """Writes the block under its temporary name; the name that `publish` wants."""
        identity = block.encoded
        name = name_of(identity)
        text = self._text(name, token)
        try:
            fd = _create(text)
        except FileNotFoundError:
            leaf = Path(text).parent
            leaf.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            leaf.mkdir(mode=0o700, exist_ok=True)
            fd = _create(text)
        try:
            _write_all(fd, header(identity, payload), payload)
        finally:
            os.close(fd)
        return name

    def publish(self, name: bytes, token: int) -> None:
        """Gives a written block its final name."""
        os.rename(self._text(name, token), self._text(name))  # noqa: PTH104 - one of very many

    def discard(self, name: bytes) -> None:
        self._path(name).unlink(missing_ok=True)

    def discard_temporary(self, name: bytes, token: int) -> None:
        self._path(name, token).unlink(missing_ok=True)

    def exists(self, name: bytes) -> bool:
        return os.access(self._text(name), os.F_OK)

    def scan(self) -> Iterator[Row]:
        """A row for every file there is; a temporary one as the reservation of its writer."""
        for top in self._directories(self.root):
            for leaf in self._directories(Path(top.path)):
                for entry in _entries(Path(leaf.path)):
                    if match := _FILE_NAME.fullmatch(entry.name):
                        with suppress(FileNotFoundError):  # evicted by another process meanwhile
                            yield _row(entry, match)

    def _directories(self, path: Path) -> Iterator[os.DirEntry[str]]:
        for entry in _entries(path):
            if len(entry.name) == 1 and entry.is_dir(follow_symlinks=False):
                yield entry

    def _path(self, name: bytes, token: int | None = None) -> Path:
        return Path(self._text(name, token))

    def _text(self, name: bytes, token: int | None = None) -> str:
        """The path as text: making a Path costs as much as opening the file."""
        text = name.hex()
        suffix = "" if token is None else f".{token:x}"
        return f"{self._top}/{text[0]}/{text[1]}/{text}{suffix}"


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write_all(fd: int, head: bytes, payload: bytes) -> None:
    """Mostly one call; a disk that is full, or a big block, may take less at once."""
    written = os.writev(fd, (head, payload))
    rest = memoryview(head + payload)[written:] if written < len(head) + len(payload) else b""
    while rest:
        rest = rest[os.write(fd, rest) :]


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _row(entry: os.DirEntry[str], match: re.Match[str]) -> Row:
    facts = entry.stat(follow_symlinks=False)
    name, token = match.groups()
    return Row(
        bytes.fromhex(name),
        allocated(facts.st_size),
        facts.st_mtime_ns,
        None if token is None else int(token, 16),
    )
