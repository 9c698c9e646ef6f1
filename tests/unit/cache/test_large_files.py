"""What real readers of large NetCDF and HDF5 files cost: the bytes fetched for those they ask for.

libhdf5 reads through a file object, each read as the kernel would pass it on without a cache of its
own: its headers, B-trees and chunks lie all over the file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from pydantic import ByteSize

from tests.support.cache_fakes import VersionBucket
from tests.support.mounts import wait_until
from zarrfuse.cache.memory import MemoryBlocks
from zarrfuse.cache.prefetch import Names, Prefetcher, PrefetchingReader
from zarrfuse.cache.reader import CachingReader
from zarrfuse.cache.tiers import NoDisk
from zarrfuse.config import MIB, Cache, Prefetch
from zarrfuse.core.keys import ObjectMeta

DATA = Path(__file__).parents[2] / "data"


class Opened(io.RawIOBase):
    """An object as a file; counts the bytes that are asked for."""

    def __init__(self, reader: PrefetchingReader, meta: ObjectMeta) -> None:
        self._reader = reader
        self._meta = meta
        self._at = 0
        self.asked = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {0: 0, 1: self._at, 2: self._meta.size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._reader.read(self._meta, self._at, self._at + len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        self.asked += len(data)
        return len(data)


class World:
    """One large file in a bucket, and a watched reader of it."""

    def __init__(self, data: bytes, cache: Cache) -> None:
        self.bucket = VersionBucket()
        meta = self.bucket.write("large.nc", data)
        inner = CachingReader(self.bucket, NoDisk(), MemoryBlocks(256 * MIB), cache, bucket="b")
        nothing = Names(lambda *_: None, lambda *_: None, lambda _: [], lambda *_: None)
        self.prefetcher = Prefetcher(inner, nothing, Prefetch(), cache)
        self.file = Opened(PrefetchingReader(inner, self.prefetcher), meta)

    def fetched(self) -> int:
        wait_until(lambda: self.prefetcher.waiting() == 0, "the prefetcher to be idle")
        return sum((stop or 0) - start for _, start, stop in self.bucket.gets)


@pytest.fixture
def make() -> Iterator[Callable[[bytes, Cache], World]]:
    worlds: list[World] = []

    def maker(data: bytes, cache: Cache) -> World:
        worlds.append(World(data, cache))
        return worlds[-1]

    yield maker
    for world in worlds:
        world.prefetcher.close()


def look_around(file: h5py.File) -> None:
    """All that ncdump -h shows."""

    def look(name: str, found: h5py.Group | h5py.Dataset) -> None:
        dict(found.attrs)

    file.visititems(look)


def test_the_header_of_a_file_of_100_mb_costs_less_than_2_mb(
    make: Callable[[bytes, Cache], World], tmp_path: Path
) -> None:
    """Six variables of 64 chunks of 260 kB, whose headers lie between them."""
    values = np.random.default_rng(1).random((64, 180, 180))
    with h5py.File(tmp_path / "f.nc", "w") as made:
        for number in range(6):
            variable = made.create_dataset(f"v{number}", data=values, chunks=(1, 180, 180))
            variable.attrs["units"] = "K"
            variable.attrs["history"] = "x" * 3000
    data = (tmp_path / "f.nc").read_bytes()
    assert len(data) > 90 * MIB
    world = make(data, Cache())
    with h5py.File(world.file, "r") as file:
        look_around(file)
        opened = world.fetched()
        assert opened < 2 * MIB
        asked = world.file.asked
        for at in (50, 3, 31, 12):  # chunks of 253 kB here and there
            assert np.array_equal(file["v2"][at], values[at])
        assert world.fetched() - opened <= 2 * (world.file.asked - asked)
        series = file["v4"][:, 90, 90]
        assert np.array_equal(series, values[:, 90, 90])
        assert world.fetched() - opened <= 2.5 * (world.file.asked - asked)


def test_a_real_file_is_opened_for_some_times_of_what_it_reads(
    make: Callable[[bytes, Cache], World],
) -> None:
    data = (DATA / "NEONDSTowerTemperatureData.hdf5").read_bytes()
    world = make(data, Cache(whole_bytes=ByteSize(MIB)))
    with h5py.File(world.file, "r") as file:
        look_around(file)
    assert world.fetched() < len(data) // 2
