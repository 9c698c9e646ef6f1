"""What every test stands on: an environment without the developer's own settings, and one Swift.

No test may see the keys, proxies, caches or configuration of whoever runs the suite, nor write to
their home. A Swift that cannot start fails every test that asked for it.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.swift import SwiftServer, unique_bucket_name

# Where the virtual environments of Swift and Keystone are is a fact of the machine, not a setting.
_KEPT = {"ZARRFUSE_SWIFT_VENV", "ZARRFUSE_KEYSTONE_VENV"}
_FOREIGN = re.compile(r"(AWS|OS|ZARRFUSE|XDG)_.*|.*_proxy|BOTO_CONFIG", re.IGNORECASE)

# No test asserts a time: on a busy machine an example takes as long as it takes.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[Path]:
    """Take away what could leak in; give a home of its own. Yields that home."""
    # Not below pytest's own directory: a unix socket's path may have 107 bytes at most.
    home = Path(tempfile.mkdtemp(prefix="zf-home-"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if _FOREIGN.fullmatch(n) and n not in _KEPT]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        for name in ("CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR"):
            directory = home / name.lower()
            directory.mkdir(mode=0o700)
            patch.setenv(f"XDG_{name}", str(directory))
        # pytest turns it on for itself; this is for the daemons and workers that tests start.
        patch.setenv("PYTHONFAULTHANDLER", "1")
        # botocore would ask a link-local address for keys where a test gives none.
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield home
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def swift(
    clean_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SwiftServer]:
    """One real Swift for the whole session. Whoever stops or suspends it starts its own."""
    server = SwiftServer.start(tmp_path_factory.mktemp("swift"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def bucket(swift: SwiftServer) -> str:
    """A new, empty bucket of the session's Swift."""
    return swift.make_bucket(unique_bucket_name())
