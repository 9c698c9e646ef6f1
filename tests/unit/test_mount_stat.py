"""The bytes of a stat, as the bindings' own ctypes class reads them back."""

from __future__ import annotations

import os
from types import ModuleType

import pytest

from zarrfuse.mount.binding import load_binding
from zarrfuse.mount.stat import Stat, StatLayout


@pytest.fixture(params=["mfusepy", "fusepy"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("FUSE_LIBRARY_NAME", os.environ.get("FUSE_LIBRARY_NAME", ""))
    return load_binding(request.param).module


STATS = [
    Stat(mode=0o100644, size=7, mtime_ns=5_000_000_123, uid=11, gid=12),
    Stat(mode=0o040755, size=0, mtime_ns=0, uid=2**32 - 2, gid=0, links=2, number=1),
    Stat(mode=0o100444, size=2**45 + 1, mtime_ns=-1, uid=0, gid=0, block_bytes=4096),
]


@pytest.mark.parametrize("stat", STATS)
def test_every_field_lies_where_libfuse_looks(module: ModuleType, stat: Stat) -> None:
    layout = StatLayout(module.c_stat)
    row = module.c_stat.from_buffer_copy(layout.pack(stat))
    assert (row.st_mode, row.st_nlink, row.st_ino) == (stat.mode, stat.links, stat.number)
    assert (row.st_uid, row.st_gid) == (stat.uid, stat.gid)
    assert (row.st_size, row.st_blksize) == (stat.size, stat.block_bytes)
    assert row.st_blocks * 512 >= stat.size > (row.st_blocks - 1) * 512
    for time in (row.st_atimespec, row.st_mtimespec, row.st_ctimespec):
        assert time.tv_sec * 10**9 + time.tv_nsec == stat.mtime_ns
        assert 0 <= time.tv_nsec < 10**9


def test_it_is_the_structure_that_the_binding_fills(module: ModuleType) -> None:
    stat = STATS[0]
    own = module.c_stat()
    words = {
        "st_mode": stat.mode,
        "st_nlink": 1,
        "st_uid": stat.uid,
        "st_gid": stat.gid,
        "st_size": stat.size,
        "st_blksize": stat.block_bytes,
        "st_blocks": 1,
        **dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), stat.mtime_ns),
    }
    module.set_st_attrs(own, words, use_ns=True)
    assert bytes(own) == StatLayout(module.c_stat).pack(stat)
