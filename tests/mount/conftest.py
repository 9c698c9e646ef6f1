"""Mounts for the tests of this folder: both bindings, a directory of its own for each test."""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounts import BINDINGS, Mount, wait_until
from tests.support.swift import SwiftServer, unique_bucket_name

_NUMBERS = itertools.count()


@pytest.fixture(params=BINDINGS, scope="module")
def binding(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A short path, because mount points end up in messages and sockets."""
    path = Path(tempfile.mkdtemp(prefix="zf-"))
    yield path
    shutil.rmtree(path)


@dataclass
class Live:
    """A bucket and a mount of it that tests of one module share; `here` is the test's own part."""

    swift: SwiftServer
    bucket: str
    mount: Mount
    here: Path = Path()

    def stored(self) -> list[str]:
        """The keys in the bucket below `here`, relative to it."""
        prefix = f"{self.here.name}/"
        return [k.removeprefix(prefix) for k in self.swift.keys(self.bucket, prefix)]

    def get(self, key: str) -> bytes:
        return self.swift.get(self.bucket, f"{self.here.name}/{key}")

    def put(self, key: str, data: bytes) -> None:
        """Another client makes an object; returns when the mount has seen it."""
        self.swift.put(self.bucket, f"{self.here.name}/{key}", data)
        wait_until((self.here / key).exists, f"the mount to see {key}")

    @property
    def drop(self) -> Path:
        """The test's part of the drop box."""
        return self.mount.path / "to-zarr" / self.here.name


@pytest.fixture(scope="module")
def shared_mount(binding: str, swift: SwiftServer, scratch: Path) -> Iterator[Live]:
    bucket = swift.make_bucket(unique_bucket_name())
    mount = Mount.start(f"s3://{bucket}", scratch / f"m-{binding}", env=swift.env, binding=binding)
    try:
        yield Live(swift, bucket, mount)
        mount.stop()
    finally:
        mount.clean_up()


@pytest.fixture
def live(shared_mount: Live, request: pytest.FixtureRequest) -> Live:
    """The shared mount, with a fresh directory for this test."""
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")
    here = shared_mount.mount.path / name
    here.mkdir()
    return Live(shared_mount.swift, shared_mount.bucket, shared_mount.mount, here)


@pytest.fixture
def start(swift: SwiftServer, scratch: Path) -> Iterator[Callable[..., Mount]]:
    """Starts mounts that the test stops itself, or that are cleaned up after it."""
    mounts: list[Mount] = []

    def starter(source: str, *args: str, **how: Any) -> Mount:
        path = scratch / f"own-{next(_NUMBERS)}"
        mount = Mount.start(source, path, *args, env=swift.env | how.pop("env", {}), **how)
        mounts.append(mount)
        return mount

    yield starter
    for mount in mounts:
        mount.clean_up()
