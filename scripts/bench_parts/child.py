"""One job in a process of its own: read as told on standard input, answer in one line of JSON.

Imports and warms the libraries before its clock starts. Knows no contestant, only the ways to reach
data: a path, s3fs, obstore, bare LIST requests. Started as `python -m bench_parts.child`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import numpy as np
import obstore
import urllib3
import xarray as xr
import zarr
import zarr.codecs
import zarr.storage
from obstore.store import S3Store

from . import patterns
from .datasets import ALL, BIG_FILE, GRID, STORE, VARIABLE

_PIECE = 1 << 20
_CAT_PIECE = 1 << 17  # what cat(1) reads at once


def main() -> None:
    job = json.load(sys.stdin)
    _warm_up(job)
    answer = _JOBS[job["kind"]](job)
    print(json.dumps(answer), flush=True)
    # A reader that still has threads in a hung mount must not wait for them.
    os._exit(0)


def _warm_up(job: dict[str, Any]) -> None:
    """Codecs, entry points and lazy imports are loaded by the first store a process opens."""
    if job["kind"] != "scan":
        return
    store = zarr.storage.MemoryStore()
    version: Any = ALL[job["dataset"]].zarr_format
    group = zarr.open_group(store, mode="w", zarr_format=version)
    names: Any = {"dimension_names": ("x",)} if version == 3 else {}
    array = group.create_array("x", shape=(8,), chunks=(4,), dtype="f4", **names)
    array[...] = np.arange(8, dtype="f4")
    array.attrs["_ARRAY_DIMENSIONS"] = ["x"]
    zarr.consolidate_metadata(store)
    opened = xr.open_zarr(store, chunks=_chunks(job))
    np.asarray(opened["x"].values).sum()


def _chunks(job: dict[str, Any]) -> dict[str, int] | None:
    """None reads without dask; {} is dask with the store's own chunks."""
    return {} if job["pattern"] == "dask" else None


def _scan(job: dict[str, Any]) -> dict[str, Any]:
    began = time.time()
    dataset = xr.open_zarr(_zarr_store(job["source"]), chunks=_chunks(job))
    opened = time.time()
    digest = patterns.scan(job["pattern"], dataset[VARIABLE])
    return _answer(began, digest, opened=opened)


def _zarr_store(source: dict[str, Any]) -> Any:
    if source["kind"] == "path":
        return str(Path(source["path"]) / STORE)
    if source["kind"] == "obstore":
        prefixed = _obstore(source, prefix=STORE)
        return zarr.storage.ObjectStore(prefixed, read_only=True)
    options = {
        "key": source["access_key"],
        "secret": source["secret_key"],
        "client_kwargs": {"endpoint_url": source["url"], "region_name": source["region"]},
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }
    url = f"s3://{source['bucket']}/{STORE}"
    return zarr.storage.FsspecStore.from_url(url, storage_options=options, read_only=True)


def _obstore(source: dict[str, Any], prefix: str | None = None) -> S3Store:
    return S3Store(
        source["bucket"],
        prefix=prefix,
        endpoint=source["url"],
        access_key_id=source["access_key"],
        secret_access_key=source["secret_key"],
        region=source["region"],
        client_options={"allow_http": True, "timeout": "600s"},
    )


def _cat(job: dict[str, Any]) -> dict[str, Any]:
    names = ALL[job["dataset"]].chunk_names()
    store = Path(job["source"]["path"]) / STORE
    order = patterns.chunk_order(job["pattern"], names)
    began = time.time()
    digest = patterns.digest((index, _bytes_of(store / names[index])) for index in order)
    return _answer(began, digest)


def _bytes_of(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        pieces = iter(lambda: os.read(descriptor, _CAT_PIECE), b"")
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def _ls(job: dict[str, Any]) -> dict[str, Any]:
    if job["source"]["kind"] == "list-pages":
        return _pages(job, "{count} entries, {bytes} bytes")
    began = time.time()
    lines = _lines(["ls", "-l", str(Path(job["source"]["path"]) / GRID)])[1:]
    seconds = time.time()
    sizes = sum(int(line.split(None, 5)[4]) for line in lines)
    return _answer(began, f"{len(lines)} entries, {sizes} bytes", ended=seconds)


def _find(job: dict[str, Any]) -> dict[str, Any]:
    if job["source"]["kind"] == "list-pages":
        return _pages(job, "{all} files")
    began = time.time()
    lines = _lines(["find", str(Path(job["source"]["path"]) / GRID), "-type", "f"])
    return _answer(began, f"{len(lines)} files")


def _lines(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _pages(job: dict[str, Any], form: str) -> dict[str, Any]:
    """Every page of the directory's listing, one after the other."""
    began = time.time()
    keys = visible = size = 0
    for body in _list_bodies(job["source"]):
        found = re.findall(rb"<Key>[^<]*/(\.?)[^</]*</Key>", body)
        keys += len(found)
        visible += sum(not dot for dot in found)
        size += sum(map(int, re.findall(rb"/[^./<]+\.[^./<]+</Key>.*?<Size>(\d+)</Size>", body)))
    return _answer(began, form.format(count=visible, all=keys, bytes=size))


def _list_bodies(source: dict[str, Any]) -> Iterator[bytes]:
    credentials = botocore.credentials.Credentials(source["access_key"], source["secret_key"])
    signer = botocore.auth.S3SigV4Auth(credentials, "s3", source["region"])
    pool = urllib3.PoolManager()
    token = None
    while True:
        query = "delimiter=%2F&encoding-type=url&list-type=2&prefix=" + quote(GRID + "/", safe="")
        if token:
            query = f"continuation-token={quote(token, safe='')}&{query}"
        url = f"{source['url']}/{source['bucket']}?{query}"
        request = botocore.awsrequest.AWSRequest("GET", url)
        signer.add_auth(request)
        answer = pool.request("GET", url, headers=dict(request.headers.items()), timeout=60.0)
        if answer.status != 200:
            raise RuntimeError(f"LIST: {answer.status} {answer.data[:500]!r}")
        yield answer.data
        found = re.search(rb"<NextContinuationToken>([^<]*)<", answer.data)
        if found is None:
            return
        token = found[1].decode()


def _sequential(job: dict[str, Any]) -> dict[str, Any]:
    began = time.time()
    if job["source"]["kind"] == "obstore":
        stream = obstore.get(_obstore(job["source"]), BIG_FILE).stream(min_chunk_size=_PIECE)
        digest = patterns.digest(enumerate(_even(bytes(piece) for piece in stream)))
    else:
        with (Path(job["source"]["path"]) / BIG_FILE).open("rb", buffering=0) as file:
            pieces = iter(lambda: file.read(_PIECE), b"")
            digest = patterns.digest(enumerate(pieces))
    return _answer(began, digest)


def _even(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of one size, as a file gives them."""
    kept = bytearray()
    for piece in pieces:
        kept += piece
        while len(kept) >= _PIECE:
            yield bytes(kept[:_PIECE])
            del kept[:_PIECE]
    if kept:
        yield bytes(kept)


def _random4k(job: dict[str, Any]) -> dict[str, Any]:
    source = job["source"]
    began = time.time()
    if source["kind"] == "obstore":
        store = _obstore(source)
        offsets = patterns.random_offsets(obstore.head(store, BIG_FILE)["size"])
        read: Callable[[int], bytes] = lambda at: bytes(  # noqa: E731
            obstore.get_range(store, BIG_FILE, start=at, length=4096)
        )
    else:
        descriptor = os.open(Path(source["path"]) / BIG_FILE, os.O_RDONLY)
        offsets = patterns.random_offsets(os.fstat(descriptor).st_size)
        read = lambda at: os.pread(descriptor, 4096, at)  # noqa: E731
    return _answer(began, patterns.digest((at, read(at)) for at in offsets))


def _answer(
    began: float, digest: str, *, opened: float | None = None, ended: float | None = None
) -> dict[str, Any]:
    """Epoch times: the parent compares them with the access log."""
    ended = time.time() if ended is None else ended
    return {"began": began, "opened": opened, "ended": ended, "digest": digest}


_JOBS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "scan": _scan,
    "cat": _cat,
    "ls": _ls,
    "find": _find,
    "sequential": _sequential,
    "random4k": _random4k,
}

if __name__ == "__main__":
    main()
