"""The order of keys in a listing, and pages cut from rows that are all at hand.

Pure. Keys stand in the order of their UTF-8 bytes, which is the order of their code points, which
is Python's order of strings. A prefix row stands where its own text stands.
"""

from __future__ import annotations

from collections.abc import Iterable

from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.store.base import Page

#: The greatest character: nothing under "a/" is greater than "a/" and this.
_LAST_CHAR = "\U0010ffff"


def after_all_under(prefix: str) -> str:
    """What to pass as `after` to go on behind every key under `prefix`."""
    return prefix + _LAST_CHAR


def cut_page(
    objects: Iterable[ObjectMeta], prefixes: Iterable[Prefix], after: str, limit: int
) -> Page:
    """The first `limit` rows greater than `after`, objects and prefixes counted together."""
    rows: list[tuple[str, ObjectMeta | None]] = [(row.key, row) for row in objects]
    rows += [(prefix, None) for prefix in prefixes]
    rows = sorted((row for row in rows if row[0] > after), key=lambda row: row[0])
    page = rows[:limit]
    return Page(
        objects=tuple(row for _, row in page if row is not None),
        prefixes=tuple(Prefix(name) for name, row in page if row is None),
        next_after=page[-1][0] if len(rows) > limit else None,
    )


def roll_up(rows: Iterable[ObjectMeta], prefix: str) -> tuple[list[ObjectMeta], list[Prefix]]:
    """What a delimiter makes of the rows under `prefix`: objects, and the prefixes of the rest."""
    objects: list[ObjectMeta] = []
    prefixes: dict[Prefix, None] = {}
    for row in rows:
        name, slash, _ = row.key[len(prefix) :].partition("/")
        if slash:
            prefixes[Prefix(Key(prefix + name) + slash)] = None
        else:
            objects.append(row)
    return objects, list(prefixes)
