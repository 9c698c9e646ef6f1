"""Many mounts of one bucket whose server asks half of the time for fewer requests."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.faulty_proxy import faulty_proxy
from tests.support.mounts import Mount
from tests.support.swift import SwiftServer

CHUNKS = 100
ZARRAY = {
    "zarr_format": 2, "shape": [CHUNKS, 16, 16], "chunks": [1, 16, 16], "dtype": "<f8",
    "compressor": None, "filters": None, "fill_value": None, "order": "C",
    "dimension_separator": "/",
}  # fmt: skip
#: Time enough for every request to meet many refusals: what fails here, fails for ever.
PATIENT = ("requests.budget_s=60", "requests.backoff_s=0.02", "metadata.ttl_s=60")
DEADLINE_S = 100


def tree(seed: int) -> dict[str, bytes]:
    """A store of 100 chunks: 2 kB each, no two alike."""
    chance = random.Random(seed)
    files = {f"s.zarr/v/{n}/0/0": chance.randbytes(2048) for n in range(CHUNKS)}
    files["s.zarr/v/.zarray"] = json.dumps(ZARRAY).encode()
    files["s.zarr/.zgroup"] = b'{"zarr_format": 2}'
    return files


def files_below(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_three_mounts_and_a_server_that_refuses_every_second_request(
    swift: SwiftServer, bucket: str, start: Callable[..., Mount], tmp_path: Path
) -> None:
    wanted = tree(seed=0)
    for key, data in wanted.items():
        swift.put(bucket, key, data)
    chance = random.Random(1)
    with faulty_proxy(swift.endpoint_url, lambda n: chance.random() < 0.5) as proxy:
        mounts = [start(f"s3://{bucket}", proxy.url, f"m{n}", PATIENT) for n in range(3)]
        for mount in mounts:
            mount.expect("request failed")
        copies = [
            subprocess.Popen(["cp", "-r", mount.path / "s.zarr", tmp_path / str(n)])
            for n, mount in enumerate(mounts)
        ]
        assert [copy.wait(DEADLINE_S) for copy in copies] == [0, 0, 0]
        for n, mount in enumerate(mounts):
            assert files_below(tmp_path / str(n)) == {
                name.removeprefix("s.zarr/"): data for name, data in wanted.items()
            }
            told = mount.status()
            assert told["limit"]["throttled"] > CHUNKS // 4, "the proxy did refuse"
            assert told["limit"]["limit"] < 16
            assert told["offline"] is None
            mount.stop()
