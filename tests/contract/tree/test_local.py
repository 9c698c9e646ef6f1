"""The bucket tree on a local directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.tree.suite import TreeContract
from zarrfuse.store.base import Store
from zarrfuse.store.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> Store:
    root = tmp_path / "bucket"
    root.mkdir()
    return LocalStore(root)


class TestOnLocal(TreeContract):
    pass
