"""A page of an S3 listing: the query that asks for it, and the document that answers.

Pure. Asks for encoding-type=url, without which one key with a control character breaks the whole
listing; keys are then percent-encoded, and a "+" is a plus.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from urllib.parse import unquote
from xml.etree import ElementTree

from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix
from zarrfuse.store.base import Page
from zarrfuse.store.order import after_all_under

#: Servers give at most this many rows a page (Swift, RGW and AWS), whatever is asked for.
MAX_ROWS = 1000


def listing_query(prefix: str, after: str, limit: int, *, delimiter: bool) -> dict[str, str]:
    """The query of a ListObjectsV2 request."""
    query = {"encoding-type": "url", "list-type": "2", "max-keys": str(min(limit, MAX_ROWS))}
    if prefix:
        query["prefix"] = prefix
    if after:
        query["start-after"] = after
    if delimiter:
        query["delimiter"] = "/"
    return query


def parse_listing(body: bytes, after: str) -> Page:
    """The rows of a ListBucketResult that are greater than `after`.

    Servers differ in whether `after` = "a/" still answers the prefix "a/": here it does not.
    ElementTree.ParseError, ValueError or KeyError where it is no such document, or where it says
    that there is more and not behind what: taken for the end, it would make names absent.
    """
    root = ElementTree.fromstring(body)
    space = root.tag.rpartition("}")[0] + "}" if "}" in root.tag else ""
    if root.tag != f"{space}ListBucketResult":
        raise ValueError(f"not a listing but a <{root.tag}>")
    decode = _decoded if root.findtext(f"{space}EncodingType") == "url" else str
    objects = [_row(item, space, decode) for item in root.iterfind(f"{space}Contents")]
    found = root.iterfind(f"{space}CommonPrefixes/{space}Prefix")
    prefixes = [Prefix(decode(item.text or "")) for item in found]
    last = max([*(row.key for row in objects[-1:]), *prefixes[-1:]], default=None)
    truncated = root.findtext(f"{space}IsTruncated") == "true"
    if truncated and last is None:
        raise ValueError("more rows, and none given")
    return Page(
        objects=tuple(objects),
        prefixes=tuple(prefix for prefix in prefixes if prefix > after),
        next_after=_next(last, after) if truncated and last is not None else None,
    )


def _next(last: str, after: str) -> str:
    """Where the next page begins; past everything under a prefix that was shown already."""
    return last if last > after else after_all_under(last)


def _row(item: ElementTree.Element, space: str, decode: Callable[[str], str]) -> ObjectMeta:
    fields = {child.tag: child.text or "" for child in item}
    return ObjectMeta(
        key=Key(decode(fields[f"{space}Key"])),
        size=int(fields[f"{space}Size"]),
        etag=ETag.parse(fields.get(f"{space}ETag")),
        modified_ns=_time_ns(fields[f"{space}LastModified"]),
    )


def _decoded(text: str) -> str:
    return unquote(text, errors="strict")


@lru_cache(maxsize=4096)  # whole seconds: the objects of a store share few of them
def _time_ns(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000
