"""A data set made, put into its bucket, and the proxy's cache filled with it: once, then found.

Owns the work directory's `data/`. Verifies that HEAD and ranges are answered by the cache.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.config
import botocore.session
import obstore
from dev_swift.venvs import swift_venv
from obstore.store import S3Store

from . import nginx
from .build import build
from .datasets import DataSet
from .errors import BenchError
from .servers import Endpoint, Swift

Say = Callable[[str], None]
# Swift answers with one process: more only wait in it.
_AT_ONCE = 8
_ROWS_DEADLINE_S = 300.0


@dataclass(frozen=True)
class Prepared:
    """A data set that can be read: locally below `place`, and in its bucket."""

    dataset: DataSet
    place: Path
    right: dict[str, str]


def client(endpoint: Endpoint) -> Any:
    """A plain botocore client."""
    return botocore.session.Session().create_client(
        "s3",
        region_name=endpoint.region,
        endpoint_url=endpoint.url,
        aws_access_key_id=endpoint.access_key,
        aws_secret_access_key=endpoint.secret_key,
        config=botocore.config.Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            read_timeout=120,
        ),
    )


def store(endpoint: Endpoint, bucket: str) -> S3Store:
    """obstore's view of a bucket."""
    return S3Store(
        bucket,
        endpoint=endpoint.url,
        access_key_id=endpoint.access_key,
        secret_access_key=endpoint.secret_key,
        region=endpoint.region,
        client_options={"allow_http": True, "timeout": "600s"},
    )


def prepare(dataset: DataSet, data: Path, swift: Swift, cached: Endpoint, say: Say) -> Prepared:
    """Make and upload what is not there yet; `cached` is the proxy's port without a wait."""
    place = data / dataset.bucket
    done = data / f"{dataset.bucket}.json"
    if not done.exists():
        say(f"making {dataset.title}")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        right = build(dataset, place)
        say(f"uploading {dataset.title}")
        _upload(dataset, place, swift)
        done.write_text(json.dumps(right, indent=1))
    if not dataset.rows_only:
        _fill_cache(dataset, place, cached, say)
    return Prepared(dataset, place, json.loads(done.read_text()))


def _files(place: Path) -> list[str]:
    return sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file())


def _upload(dataset: DataSet, place: Path, swift: Swift) -> None:
    client(swift.endpoint).create_bucket(Bucket=dataset.bucket)
    target = store(swift.endpoint, dataset.bucket)
    names = _files(place)
    if dataset.rows_only:
        rows = [n for n in names if not Path(n).name.startswith(".")]
        _insert_rows(dataset.bucket, [(n, (place / n).stat().st_size) for n in rows], swift)
        names = [n for n in names if Path(n).name.startswith(".")]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda name: obstore.put(target, name, place / name), names))


def _insert_rows(bucket: str, rows: list[tuple[str, int]], swift: Swift) -> None:
    script = Path(__file__).with_name("listing_rows.py")
    command = [swift_venv(keystone=False).python, script, swift.directory, bucket]
    done = subprocess.run(
        [str(word) for word in command],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        timeout=_ROWS_DEADLINE_S,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"the rows of {bucket} were not inserted:\n{done.stderr}")


def _fill_cache(dataset: DataSet, place: Path, cached: Endpoint, say: Say) -> None:
    names = _files(place)
    sample = names[:: max(1, len(names) // 5)]
    if all(_is_cached(dataset.bucket, name, place / name, cached) for name in sample):
        return
    say(f"filling the proxy's cache with {dataset.title}")
    source = store(cached, dataset.bucket)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        sizes = pool.map(lambda name: _download(source, name), names)
        _compare(names, sizes, place)
    for name in sample:
        if not _is_cached(dataset.bucket, name, place / name, cached):
            raise BenchError(f"the proxy does not answer {name} of {dataset.bucket} from its cache")


def _download(source: S3Store, name: str) -> int:
    """A plain whole GET; the bytes are not kept."""
    return sum(len(piece) for piece in obstore.get(source, name).stream(min_chunk_size=1 << 20))


def _compare(names: list[str], sizes: Iterable[int], place: Path) -> None:
    for name, size in zip(names, sizes, strict=True):
        if size != (place / name).stat().st_size:
            raise BenchError(f"{name} has {size} bytes in the bucket, and others locally")


def _is_cached(bucket: str, name: str, path: Path, cached: Endpoint) -> bool:
    """Whether HEAD and a range come from the proxy's cache; BenchError where they come wrong."""
    s3 = client(cached)
    assert cached.log is not None
    before = cached.log.stat().st_size
    head = s3.head_object(Bucket=bucket, Key=name)
    size = path.stat().st_size
    span = (size // 3, size // 3 + min(100, size - size // 3))
    wanted = f"bytes={span[0]}-{span[1] - 1}"
    body = s3.get_object(Bucket=bucket, Key=name, Range=wanted, IfMatch=head["ETag"])
    with path.open("rb") as stream:
        stream.seek(span[0])
        right = stream.read(span[1] - span[0])
    if head["ContentLength"] != size or body["Body"].read() != right:
        raise BenchError(f"the proxy answers {name} of {bucket} wrongly")
    answers = read_log(cached.log, before, at_least=2)
    return all(request.hit for request in answers)


def read_log(path: Path, offset: int, *, at_least: int = 0) -> list[nginx.Request]:
    """What the log got after `offset`: nginx writes a line a moment after the answer."""
    deadline = time.monotonic() + 5.0
    while True:
        with path.open("rb") as stream:
            stream.seek(offset)
            found = nginx.parse_log(stream.read().decode())
        if len(found) >= at_least or time.monotonic() > deadline:
            return found
        time.sleep(0.02)
