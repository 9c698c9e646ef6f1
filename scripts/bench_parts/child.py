"""One job in a process of its own: read as told on standard input, answer in one line of JSON.

Imports its libraries before its clock starts. Knows no contestant, only the ways to reach data: a
path, obstore, bare LIST requests. Started as `python -m bench_parts.child`; the jobs that decode
Zarr are `child_zarr`, because everyone else would wait for its imports.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import obstore
import urllib3
from obstore.store import S3Store

from . import patterns
from .datasets import ALL, BIG_FILE, GRID, STORE

Job = Callable[[dict[str, Any]], dict[str, Any]]
_PIECE = 1 << 20
_CAT_PIECE = 1 << 17  # what cat(1) reads at once


def serve(jobs: Mapping[str, Job]) -> None:
    """Do the job that standard input names, and say what came of it."""
    job = json.load(sys.stdin)
    print(json.dumps(jobs[job["kind"]](job)), flush=True)
    # A reader that still has threads in a hung mount must not wait for them.
    os._exit(0)


def bucket_of(source: dict[str, Any], prefix: str | None = None) -> S3Store:
    """obstore's view of the bucket."""
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
    return answer(began, digest)


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
    return answer(began, f"{len(lines)} entries, {sizes} bytes", ended=seconds)


def _find(job: dict[str, Any]) -> dict[str, Any]:
    if job["source"]["kind"] == "list-pages":
        return _pages(job, "{all} files")
    began = time.time()
    lines = _lines(["find", str(Path(job["source"]["path"]) / GRID), "-type", "f"])
    return answer(began, f"{len(lines)} files")


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
    return answer(began, form.format(count=visible, all=keys, bytes=size))


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
        stream = obstore.get(bucket_of(job["source"]), BIG_FILE).stream(min_chunk_size=_PIECE)
        digest = patterns.digest(enumerate(_even(bytes(piece) for piece in stream)))
    else:
        with (Path(job["source"]["path"]) / BIG_FILE).open("rb", buffering=0) as file:
            pieces = iter(lambda: file.read(_PIECE), b"")
            digest = patterns.digest(enumerate(pieces))
    return answer(began, digest)


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
        store = bucket_of(source)
        offsets = patterns.random_offsets(obstore.head(store, BIG_FILE)["size"])
        read: Callable[[int], bytes] = lambda at: bytes(  # noqa: E731
            obstore.get_range(store, BIG_FILE, start=at, length=4096)
        )
    else:
        descriptor = os.open(Path(source["path"]) / BIG_FILE, os.O_RDONLY)
        offsets = patterns.random_offsets(os.fstat(descriptor).st_size)
        read = lambda at: os.pread(descriptor, 4096, at)  # noqa: E731
    return answer(began, patterns.digest((at, read(at)) for at in offsets))


def answer(
    began: float, digest: str, *, opened: float | None = None, ended: float | None = None
) -> dict[str, Any]:
    """Epoch times: the parent compares them with the access log."""
    ended = time.time() if ended is None else ended
    return {"began": began, "opened": opened, "ended": ended, "digest": digest}


_JOBS: Mapping[str, Job] = {
    "cat": _cat,
    "ls": _ls,
    "find": _find,
    "sequential": _sequential,
    "random4k": _random4k,
}

if __name__ == "__main__":
    serve(_JOBS)
