"""Every setting of zarrfuse: its default, once, with its unit and where the number comes from.

Frozen values; nothing here reads a file, an environment variable or a bucket. `Config.with_options`
takes `section.key=value` as `-o` on the command line gives it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError

from zarrfuse.errors import ExitCode, UserError

KIB, MIB, GIB = 1024, 1024**2, 1024**3


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metadata(Section):
    """What is known of names, sizes and times."""

    ttl_s: float = Field(60.0, ge=0, description="A change made elsewhere is seen within this.")


class Listing(Section):
    """How listings are asked for and believed."""

    settle_s: float = Field(
        3600.0,
        ge=0,
        description="A directory whose newest object is younger is live: its listing may lag "
        "behind, so an absent file is asked for once more.",
    )
    page_rows: int = Field(1000, ge=1, le=10_000, description="Rows a LIST asks for; Swift's cap.")
    max_keys: int = Field(
        1_000_000,
        ge=10_000,
        description="Names remembered, in about 120 bytes each; what was not used for longest is "
        "forgotten first.",
    )


class Cache(Section):
    """Disposable copies of what is in the bucket."""

    directory: Path | None = Field(
        None, description="Default: the user's cache home, zarrfuse in it."
    )
    size: ByteSize | None = Field(None, description="Default: 10 % of the disk, at most 50 GiB.")
    keep_free_fraction: float = Field(0.05, ge=0, lt=1, description="Left free on that disk.")
    memory: ByteSize = Field(ByteSize(256 * MIB), description="Blocks kept in memory.")
    block_bytes: ByteSize = Field(
        ByteSize(MIB), gt=0, description="A large object is kept in blocks of this size."
    )
    whole_bytes: ByteSize = Field(
        ByteSize(16 * MIB), description="Up to this size an object is one block: a Zarr chunk."
    )
    piece_bytes: ByteSize = Field(
        ByteSize(64 * KIB),
        gt=0,
        description="A small read that jumps about in a large object fetches pieces of this size.",
    )


class Prefetch(Section):
    """Fetching what a reader will ask for next."""

    at_once: int = Field(24, ge=0, description="Requests in flight for it; 0 turns it off.")
    bytes: ByteSize = Field(
        ByteSize(128 * MIB), description="At most so much is fetched and not read yet."
    )
    chunks: int = Field(64, ge=1, description="At most so many Zarr chunks ahead of one reader.")
    sequential_bytes: ByteSize = Field(
        ByteSize(64 * MIB), description="At most so far ahead in one large file."
    )
    burst_bytes: ByteSize = Field(
        ByteSize(8 * MIB),
        description="Metadata and 1-D coordinates of a store, fetched when it is first touched.",
    )


class Warm(Section):
    """Filling the cache ahead of time: `zarrfuse warm`."""

    at_once: int = Field(16, ge=1, description="Requests in flight for it.")
    bytes: ByteSize = Field(ByteSize(64 * MIB), description="At most so much in flight.")


class Spool(Section):
    """Precious copies of what is not in the bucket yet."""

    directory: Path | None = Field(
        None, description="Default: the user's state home, zarrfuse/spool in it."
    )
    keep_free_fraction: float = Field(0.05, ge=0, lt=1, description="Left free on that disk,")
    keep_free_bytes: ByteSize = Field(ByteSize(GIB), description="and at least this.")
    settle_s: float = Field(
        60.0,
        ge=0,
        description="A likely temporary name (rsync, NCO, editors) that nobody renamed is "
        "published under its own name this long after its last close.",
    )


class Ingest(Section):
    """The drop box."""

    name: str = Field("to-zarr", min_length=1, pattern=r"^[^/]+$", description="Its directory.")
    wait_s: float = Field(
        60.0, ge=0, description="close() waits this long for the store; then it goes on alone."
    )
    deadline_s: float = Field(3600.0, gt=0, description="A conversion is ended after this.")
    memory: ByteSize = Field(ByteSize(4 * GIB), description="Address space of a converter.")
    workers: int = Field(2, ge=1, description="Conversions at the same time.")
    forget_s: float = Field(
        86400.0, ge=0, description="Finished and failed files are shown for this long."
    )


class Requests(Section):
    """The way to the bucket."""

    at_once: int = Field(
        16,
        ge=1,
        description="Requests in flight of one daemon at first: halved when the server asks for "
        "fewer, more while it answers well,",
    )
    at_most: int = Field(64, ge=1, description="and never above this, or `at_once`.")
    connect_s: float = Field(5.0, gt=0)
    silence_s: float = Field(30.0, gt=0, description="No byte for this long is a failure.")
    budget_s: float = Field(60.0, gt=0, description="All tries of one operation together.")
    unreachable_s: float = Field(
        20.0, gt=0, description="The same for reading where not even a connection can be had."
    )
    offline_retry_s: float = Field(
        5.0,
        ge=0,
        description="After a budget without any answer reads fail at once; one in this time is "
        "sent to see whether the bucket is back.",
    )
    backoff_s: float = Field(0.2, gt=0, description="First pause between tries; doubles, jittered.")
    backoff_max_s: float = Field(10.0, gt=0)
    part_bytes: ByteSize = Field(
        ByteSize(8 * MIB),
        description="Smallest part of a multipart upload; larger where 1000 parts (Swift's "
        "limit) would not do.",
    )
    single_put_bytes: ByteSize = Field(
        ByteSize(64 * MIB), description="Larger objects are uploaded in parts."
    )

    @property
    def most_at_once(self) -> int:
        """What the limit may grow to."""
        return max(self.at_once, self.at_most)


class Tree(Section):
    """What paths do."""

    rename_max_objects: int = Field(
        1000, ge=0, description="A directory with more objects is not renamed (EXDEV)."
    )


class Mount(Section):
    """What the kernel is told."""

    read_only: bool = False
    allow_other: bool = False
    uid: int | None = Field(None, ge=0, description="Owner shown; default: who mounts.")
    gid: int | None = Field(None, ge=0)
    umask: int = Field(0o022, ge=0, le=0o777)
    binding: str = Field("auto", pattern="^(auto|mfusepy|fusepy)$")
    immutable: bool = Field(
        False,
        description="Nobody changes the bucket while it is mounted, and nothing is asked twice: "
        "--immutable. Read-only.",
    )
    attr_s: float | None = Field(
        None,
        ge=0,
        description="The kernel keeps sizes and names this long. Default: half of metadata.ttl_s.",
    )
    drain_s: float = Field(300.0, ge=0, description="Unmounting waits this long for uploads.")


class Config(Section):
    """All settings."""

    metadata: Metadata = Metadata()
    listing: Listing = Listing()
    cache: Cache = Cache()
    prefetch: Prefetch = Prefetch()
    warm: Warm = Warm()
    spool: Spool = Spool()
    ingest: Ingest = Ingest()
    requests: Requests = Requests()
    tree: Tree = Tree()
    mount: Mount = Mount()

    def with_options(self, options: Iterable[str]) -> Config:
        """With each `section.key=value` laid over it. UserError names a wrong one, and the cure."""
        data: dict[str, dict[str, Any]] = self.model_dump()
        for option in options:
            name, equals, value = option.partition("=")
            section, _, key = name.partition(".")
            if not equals or key not in data.get(section, {}):
                raise UserError(_unknown(name, data), ExitCode.USAGE)
            data[section][key] = value
        try:
            return Config.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UserError(f"option {where}: {first['msg']}", ExitCode.USAGE) from None

    def override(self, section: str, **values: Any) -> Config:
        """With the values that are not None laid over one section."""
        given = {key: value for key, value in values.items() if value is not None}
        merged = {**getattr(self, section).model_dump(), **given}
        return Config.model_validate({**self.model_dump(), section: merged})


def _unknown(name: str, data: dict[str, dict[str, Any]]) -> str:
    known = [f"{section}.{key}" for section, keys in data.items() for key in keys]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}=...?" if near else ""
    return f"unknown option {name!r}{hint} (options are section.key=value)"
