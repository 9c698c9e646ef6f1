"""What a daemon says of itself: values only, as JSON and people see them, and no secret."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ParkedFile(_Model):
    """Bytes that are not in the bucket and wait for a person."""

    key: str
    size: int
    reason: str
    path: str


class Conversion(_Model):
    """A file in the drop box."""

    name: str
    state: str
    size: int
    objects: int
    done_bytes: int = 0
    total_bytes: int = 0
    error: str = ""


class LastError(_Model):
    """An error that no program was given, or that one was."""

    when: str
    what: str
    error: str


class OfflineSince(_Model):
    """The bucket does not answer: cached bytes are read, all else is EIO."""

    since: str
    reason: str


class Status(_Model):
    """One mount. Byte counts in bytes, times in ISO 8601 UTC."""

    pid: int
    version: str
    mountpoint: str
    source: str
    read_only: bool
    binding: str
    started: str
    requests: dict[str, dict[str, int]]
    limit: dict[str, int] = {}
    offline: OfflineSince | None = None
    cache: dict[str, int]
    listing: dict[str, int]
    spool: dict[str, int]
    spool_directory: str
    parked: list[ParkedFile]
    conversions: list[Conversion]
    errors: list[LastError]
