"""From what a user types to a store: `s3://bucket/prefix`, or any URL that fsspec knows.

The one place that knows every adapter and the order of the wrappers. Credentials, region and
endpoint come from auth; nothing is asked of the network before `check_store`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack
from urllib.parse import urlsplit

from fsspec.registry import known_implementations

from zarrfuse.auth.aws import AwsSettings, find_settings, no_credentials
from zarrfuse.config import Config, Requests
from zarrfuse.core.keys import Prefix, is_key_text
from zarrfuse.errors import ExitCode, RegionMismatch, StoreError, UserError
from zarrfuse.store.base import ListPages, Store
from zarrfuse.store.counters import Counters, CountingStore
from zarrfuse.store.fsspec import FsspecStore
from zarrfuse.store.limit import LimitedStore, RequestLimit
from zarrfuse.store.local import LocalStore
from zarrfuse.store.log import LoggingStore
from zarrfuse.store.outage import Outage, OutageStore
from zarrfuse.store.prefixed import PrefixedStore
from zarrfuse.store.readonly import ReadOnlyStore
from zarrfuse.store.retry import RetryingStore
from zarrfuse.store.s3 import S3Store
from zarrfuse.store.s3_signed import Endpoint
from zarrfuse.store.wake import WakingStore

#: What AWS itself takes for a region nobody named; Swift's default as well.
DEFAULT_REGION = "us-east-1"
#: How long a check goes on trying; a wrong endpoint is told at once, not after a minute.
CHECK_BUDGET_S = 3.0


class Access(TypedDict, total=False):
    """What flags say of an S3 source; absent and None are the same. `traffic` is told of all."""

    endpoint_url: str | None
    region: str | None
    profile: str | None
    anonymous: bool
    traffic: Traffic | None


class Traffic:
    """What a daemon can tell of its requests; shared by the stores that are opened with it."""

    def __init__(self, requests: Requests) -> None:
        self.counters = Counters()
        self.limit = RequestLimit(requests)
        self.outage = Outage(requests.offline_retry_s)


def open_store(
    source: str, *, config: Config, environ: Mapping[str, str], **access: Unpack[Access]
) -> Store:
    """The store that `source` names, with every wrapper; keys are relative to its prefix.

    UserError for a source that is none, and for missing keys. Asks one thing of the network: where
    nobody named a region, a LIST shows whether the server has another, which is then taken.
    """
    scheme, bucket, prefix = parse_source(source)
    traffic = access.get("traffic") or Traffic(config.requests)

    if scheme != "s3":
        other = _told(_other_store(scheme, source), traffic)
        return _wrapped(LimitedStore(other, traffic.limit), config, traffic, prefix)
    settings = find_settings(access.get("profile"), environ)
    if settings.credentials is None and not access.get("anonymous"):
        raise no_credentials(settings)
    named = access.get("region") or settings.region
    endpoint = _endpoint(bucket, settings, access)
    limited = _open_s3(endpoint, config, traffic, region_is_named=named is not None)
    return _wrapped(limited, config, traffic, prefix)


def open_checked(
    source: str, *, config: Config, environ: Mapping[str, str], **access: Unpack[Access]
) -> Store:
    """As `open_store`, after `check_store` with little patience: a person is waiting."""
    budget_s = min(CHECK_BUDGET_S, config.requests.budget_s)
    hasty = config.override("requests", budget_s=budget_s)
    probe = open_store(source, config=hasty, environ=environ, **access)
    try:
        check_store(probe)
    finally:
        probe.close()
    return open_store(source, config=config, environ=environ, **access)


def check_store(store: ListPages) -> None:
    """One small LIST: raises what is wrong with the endpoint, the bucket or the keys."""
    store.list_page("", limit=1)


def parse_source(source: str) -> tuple[str, str, Prefix]:
    """Scheme, bucket and prefix; UserError says what to type instead."""
    scheme, mark, rest = source.partition("://")
    if not mark:
        guess = source.partition(":")[2].lstrip("/") if ":" in source else source.strip("/")
        hint = f"file://{source}" if source.startswith("/") else f"s3://{guess or 'BUCKET'}"
        raise _usage(f"{source!r} names no bucket: type {hint}")
    if scheme not in {*known_implementations, "s3"}:
        raise _usage(f"{source!r}: {scheme!r} is no kind of store that is known here")
    if scheme not in ("s3", "s3a"):
        return scheme, "", Prefix("")
    bucket, _, path = rest.partition("/")
    if not bucket:
        raise _usage(f"{source!r} names no bucket: type s3://BUCKET or s3://BUCKET/PREFIX")
    prefix = Prefix(f"{path.rstrip('/')}/") if path.strip("/") else Prefix("")
    if prefix and not is_key_text(prefix):
        raise _usage(f"{source!r}: the prefix is longer than a key may be, or not UTF-8")
    return "s3", bucket, prefix


def _usage(text: str) -> UserError:
    return UserError(text, ExitCode.CONFIG)


def _other_store(scheme: str, source: str) -> Store:
    if scheme in ("file", "local"):
        return LocalStore(_directory(source))
    try:
        return FsspecStore(source)
    except (ImportError, ValueError, TypeError) as error:
        raise _usage(f"{source!r} cannot be opened: {str(error).partition(chr(10))[0]}") from None


def _directory(source: str) -> Path:
    path = Path(source.partition("://")[2])
    if not path.is_dir():
        raise UserError(f"{source}: there is no directory {path}", ExitCode.CONFIG)
    return path.resolve()


def _endpoint(bucket: str, settings: AwsSettings, access: Access) -> Endpoint:
    """Flags stand above the environment, and that above the profile."""
    region = access.get("region") or settings.region or DEFAULT_REGION
    url = access.get("endpoint_url") or settings.endpoint_url
    url = url or f"https://s3.{region}.amazonaws.com"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _usage(f"the endpoint {url!r} is no URL: type http://HOST:PORT or https://HOST")
    return Endpoint(
        url=url,
        region=region,
        bucket=bucket,
        credentials=None if access.get("anonymous") else settings.credentials,
        ca_bundle=settings.ca_bundle,
    )


def _open_s3(
    endpoint: Endpoint, config: Config, traffic: Traffic, *, region_is_named: bool
) -> LimitedStore:
    """The store, whose parts have the same limit as all else; where the region is a guess, the
    server is asked, and its word is taken."""
    store = S3Store(endpoint, config.requests, limited=traffic.limit.run)
    right_region = None if region_is_named else _region_of(store)
    if right_region is not None:
        store.close()
        endpoint = replace(endpoint, region=right_region)
        store = S3Store(endpoint, config.requests, limited=traffic.limit.run)
    told = _told(WakingStore(store, store.renew), traffic)
    return LimitedStore(told, traffic.limit, in_parts=store.sends_in_parts)


def _region_of(store: ListPages) -> str | None:
    """The server's region, where it says that it is another than the store's."""
    try:
        check_store(store)
    except RegionMismatch as mismatch:
        return mismatch.region
    except StoreError:  # not about the region: the caller's own check tells it, after its retries
        return None
    return None


def _told(store: Store, traffic: Traffic) -> Store:
    """Each try is counted and logged."""
    return LoggingStore(CountingStore(store, traffic.counters))


def _wrapped(limited: LimitedStore, config: Config, traffic: Traffic, prefix: Prefix) -> Store:
    """Each try is limited; the retries are around that."""
    retried = RetryingStore(limited, config.requests, gives_up=traffic.outage.gives_up)
    whole: Store = OutageStore(retried, traffic.outage, once=limited)
    if config.mount.read_only:
        whole = ReadOnlyStore(whole)
    return PrefixedStore(whole, prefix) if prefix else whole
