"""Mounts for the tests of this folder, which go to the bucket by way of a proxy that fails."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.mounts import Mount
from tests.support.swift import SwiftServer


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short path, because mount points end up in messages and sockets."""
    path = Path(tempfile.mkdtemp(prefix="zf-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start(swift: SwiftServer, scratch: Path) -> Iterator[Callable[..., Mount]]:
    """`start(source, endpoint, name, options)`: a mount with a cache of its own."""
    mounts: list[Mount] = []

    def starter(source: str, endpoint: str, name: str, options: Sequence[str]) -> Mount:
        mount = Mount.start(
            source,
            scratch / name,
            env=swift.env | {"AWS_ENDPOINT_URL": endpoint},
            options=[f"cache.directory={scratch / name}-cache", *options],
        )
        mounts.append(mount)
        return mount

    yield starter
    for mount in mounts:
        mount.clean_up()
