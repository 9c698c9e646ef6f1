"""Who is measured: zarrfuse on both bindings, its peers as mounts, and readers without a mount.

Only how each is called and what is known of it; `ways` does the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from zarrfuse.report.socket import ask, runtime_directory, socket_path

from .install import program
from .ways import ALL_KINDS, Contestant, Mount, clean_env, drop_pages


class Local(Contestant):
    """The same files on the local disk."""

    name = "ext4"
    note = "the same files on the local disk; cold: their pages and inodes dropped"

    def cold(self) -> None:
        drop_pages(self.scene.prepared.place)

    remount = cold

    def source(self) -> dict[str, Any]:
        return {"kind": "path", "path": str(self.scene.prepared.place)}

    def end(self) -> None:
        """The files stay."""


class Zarrfuse(Mount):
    """zarrfuse on libfuse 3."""

    name = "zarrfuse"
    note = "mfusepy on libfuse 3; the data count as old (listing.settle_s=1)"
    binding: ClassVar[str] = "mfusepy"
    extra: ClassVar[str] = ""

    def known_keys(self) -> int | None:
        directory = runtime_directory(clean_env(self.scene))
        status = ask(socket_path(directory, self.path))
        return None if status is None else status.listing.get("known_keys")

    def command(self) -> list[str | Path]:
        # A user's store was written long ago; ours, minutes ago, would count as being written.
        options = f"mount.binding={self.binding},listing.settle_s=1{self.extra}"
        source = f"s3://{self.bucket}"
        words: list[str | Path] = [sys.executable, "-m", "zarrfuse", "mount", source, self.path]
        words += [
            "--foreground",
            "--read-only",
            "--cache-dir",
            self.cache,
            "--cache-size",
            "20GB",
            "-o",
            options,
        ]
        return words


class ZarrfuseOnFusepy(Zarrfuse):
    """zarrfuse on libfuse 2."""

    name = "zarrfuse-fusepy"
    note = "fusepy on libfuse 2; the data count as old (listing.settle_s=1)"
    binding = "fusepy"


class ZarrfuseNoPrefetch(Zarrfuse):
    """zarrfuse that fetches only what is asked for: what prefetching costs a random reader."""

    name = "zarrfuse-noprefetch"
    note = "zarrfuse with prefetch.at_once=0; for random chunks only"
    jobs = frozenset({"random", "cat-random"})
    extra = ",prefetch.at_once=0"


class Rclone(Mount):
    """rclone mount as its manual recommends it for reading."""

    name = "rclone"
    note = "rclone mount --vfs-cache-mode full --read-only"
    peer = True
    slow = ALL_KINDS
    heads_entries = True
    extra: ClassVar[tuple[str, ...]] = ()

    def command(self) -> list[str | Path]:
        words: list[str | Path] = [program("rclone"), "mount", f":s3:{self.bucket}", self.path]
        words += ["--vfs-cache-mode", "full", "--cache-dir", self.cache, "--read-only"]
        words += ["--config", "/dev/null", "--s3-provider", "Other", "--s3-env-auth"]
        words += ["--s3-endpoint", self.scene.endpoint.url, "--s3-region"]
        words += [self.scene.endpoint.region, "--s3-force-path-style", *self.extra]
        return words


class RcloneServerTime(Rclone):
    """rclone without a HEAD for each file's time of modification."""

    name = "rclone-tuned"
    note = "rclone with --use-server-modtime --vfs-fast-fingerprint --no-checksum"
    peer = False
    heads_entries = False
    extra = ("--use-server-modtime", "--vfs-fast-fingerprint", "--no-checksum")


class S3fsFuse(Mount):
    """s3fs-fuse with its cache."""

    name = "s3fs-fuse"
    note = "s3fs-fuse with use_cache"
    peer = True
    slow = ALL_KINDS
    heads_entries = True

    def command(self) -> list[str | Path]:
        options = f"url={self.scene.endpoint.url},endpoint={self.scene.endpoint.region}"
        options += f",use_path_request_style,use_cache={self.cache},ro,tmpdir={self.scene.place}"
        return [program("s3fs"), self.bucket, self.path, "-f", "-o", options]

    def env(self) -> Mapping[str, str]:
        # In its password file a ":" in a key could not be written.
        endpoint = self.scene.endpoint
        return {
            "AWSACCESSKEYID": endpoint.access_key,
            "AWSSECRETACCESSKEY": endpoint.secret_key,
        }


class FsspecFuse(Mount):
    """fsspec's own FUSE command over s3fs; it caches nothing on the disk."""

    name = "fsspec.fuse"
    note = "python -m fsspec.fuse over s3fs (fusepy)"
    peer = True
    slow = ALL_KINDS

    def command(self) -> list[str | Path]:
        # Its `-f` means the opposite of what it says: without it, it stays in the foreground.
        call = "import sys; from fsspec.fuse import main; main(sys.argv[1:])"
        return [sys.executable, "-c", call, "s3://", self.bucket, self.path]


class NoMount(Contestant):
    """A Python library in the reading process; every job is a new process, so always cold."""

    kinds = frozenset({"scan"})
    keeps = False

    def cold(self) -> None:
        """Nothing is kept between processes."""

    remount = cold

    def end(self) -> None:
        """Nothing was started."""

    def source(self) -> dict[str, Any]:
        endpoint = self.scene.endpoint
        return {
            "kind": self.name,
            "bucket": self.scene.dataset.bucket,
            "url": endpoint.url,
            "access_key": endpoint.access_key,
            "secret_key": endpoint.secret_key,
            "region": endpoint.region,
        }


class S3fsLibrary(NoMount):
    """xarray over s3fs."""

    name = "s3fs"
    note = "xarray + s3fs in the reading process, no mount; in three jobs"
    jobs = frozenset({"row", "dask", "series"})
    slow = ALL_KINDS


class Obstore(NoMount):
    """xarray over obstore, and its plain download of a file."""

    name = "obstore"
    note = "xarray + obstore in the reading process, no mount; whole GET for the 1 GiB file"
    kinds = frozenset({"scan", "sequential", "random4k"})
    slow = frozenset({"scan"})


class ListPages(NoMount):
    """The bare LIST requests, one page after the other, their bodies unread but for the token."""

    name = "list-pages"
    note = "signed LIST requests, page after page; nothing is done with the rows"
    kinds = frozenset({"ls", "find"})


#: Of `--quick`: one peer.
QUICK = ("zarrfuse", "zarrfuse-fusepy", "ext4", "rclone", "obstore", "list-pages")
ALL: dict[str, type[Contestant]] = {
    one.name: one
    for one in (
        Zarrfuse,
        ZarrfuseOnFusepy,
        ZarrfuseNoPrefetch,
        Local,
        Rclone,
        RcloneServerTime,
        S3fsFuse,
        FsspecFuse,
        S3fsLibrary,
        Obstore,
        ListPages,
    )
}
