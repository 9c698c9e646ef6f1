"""The messages to the kernel, read at the other end of a pipe in the place of /dev/fuse."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.mounts import wait_until
from zarrfuse.core.keys import Key
from zarrfuse.mount.notify import Notifier

PLACE = Path("place")


@dataclass
class Kernel:
    """Reads what it is told; `mountpoint` has one directory."""

    mountpoint: Path
    reading: int
    writing: int

    def told(self) -> tuple[int, str]:
        """Directory number and name of the next message, whose form is the kernel's."""
        head = os.read(self.reading, 16)
        length, code, unique = struct.unpack("=IiQ", head)
        assert (code, unique) == (3, 0), "FUSE_NOTIFY_INVAL_ENTRY, which answers nothing"
        body = os.read(self.reading, length - 16)
        parent, size, flags = struct.unpack("=QII", body[:16])
        name, end = body[16:-1], body[-1:]
        assert (len(name), flags, end) == (size, 1, b"\0")
        return parent, name.decode()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    (tmp_path / PLACE).mkdir()
    reading, writing = os.pipe()
    yield Kernel(tmp_path, reading, writing)
    os.close(reading)
    os.close(writing)


@pytest.fixture
def notifier(kernel: Kernel) -> Iterator[Notifier]:
    notifier = Notifier(kernel.mountpoint)
    yield notifier
    notifier.close()


def test_a_name_is_told_with_the_number_of_its_directory(
    notifier: Notifier, kernel: Kernel
) -> None:
    notifier.start(kernel.writing, lambda key: True)
    notifier.changed(Key("at-the-root"))
    assert kernel.told() == (1, "at-the-root")
    notifier.changed(Key("place/größe.nc"))
    assert kernel.told() == ((kernel.mountpoint / PLACE).stat().st_ino, "größe.nc")


def test_a_name_that_changes_often_is_told_once(notifier: Notifier, kernel: Kernel) -> None:
    for _ in range(1000):
        notifier.changed(Key("often"))
    notifier.start(kernel.writing, lambda key: True)
    assert kernel.told() == (1, "often")
    notifier.changed(Key("next"))
    assert kernel.told() == (1, "next")


def test_what_the_kernel_does_not_know_is_not_told(notifier: Notifier, kernel: Kernel) -> None:
    notifier.changed(Key("unknown"))
    notifier.changed(Key("no-such-directory/name"))
    notifier.changed(Key("known"))
    notifier.start(kernel.writing, lambda key: key != "unknown")
    assert kernel.told() == (1, "known")


def test_after_the_end_nothing_is_told_and_the_device_is_given_back(kernel: Kernel) -> None:
    before = len(os.listdir("/proc/self/fd"))
    notifier = Notifier(kernel.mountpoint)
    notifier.start(kernel.writing, lambda key: True)
    notifier.close()
    notifier.changed(Key("late"))
    wait_until(lambda: len(os.listdir("/proc/self/fd")) == before, "the duplicate to be closed")
    os.set_blocking(kernel.reading, False)
    with pytest.raises(BlockingIOError):
        os.read(kernel.reading, 1)
