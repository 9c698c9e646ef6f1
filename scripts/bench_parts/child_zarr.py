"""The jobs that read a Zarr store with xarray: from a path, with s3fs, or with obstore.

Imports and warms the libraries before its clock starts. Started as
`python -m bench_parts.child_zarr`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
import zarr.storage

from . import patterns
from .child import answer, bucket_of, serve
from .datasets import ALL, STORE, VARIABLE


def _scan(job: dict[str, Any]) -> dict[str, Any]:
    _warm_up(job)
    began = time.time()
    dataset = xr.open_zarr(_zarr_store(job["source"]), chunks=_chunks(job))
    opened = time.time()
    digest = patterns.scan(job["pattern"], dataset[VARIABLE])
    return answer(began, digest, opened=opened)


def _warm_up(job: dict[str, Any]) -> None:
    """Codecs, entry points and lazy imports are loaded by the first store a process opens."""
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


def _zarr_store(source: dict[str, Any]) -> Any:
    if source["kind"] == "path":
        return str(Path(source["path"]) / STORE)
    if source["kind"] == "obstore":
        return zarr.storage.ObjectStore(bucket_of(source, prefix=STORE), read_only=True)
    options = {
        "key": source["access_key"],
        "secret": source["secret_key"],
        "client_kwargs": {"endpoint_url": source["url"], "region_name": source["region"]},
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }
    url = f"s3://{source['bucket']}/{STORE}"
    return zarr.storage.FsspecStore.from_url(url, storage_options=options, read_only=True)


if __name__ == "__main__":
    serve({"scan": _scan})
