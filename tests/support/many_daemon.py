"""A daemon over a bucket of 50 001 names that no test could upload: listings are made up here.

Run as `python -m tests.support.many_daemon mount ...`; everything else is the product's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

import zarrfuse.daemon
from zarrfuse.cli.main import main
from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix
from zarrfuse.store.base import Page, Store
from zarrfuse.store.open import open_checked
from zarrfuse.store.wrapper import Wrapper

NAMES = sorted(
    [
        *(f"big/{n:05}" for n in range(49_000)),
        *(f"big/{n:05}.d/{k}/z" for n in range(0, 49_000, 490) for k in range(10)),
        "big/~",
    ]
)


class Many(Wrapper):
    """Lists `NAMES` as if they stood in the bucket; each has one byte and is a year old."""

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        return _page(prefix, after, delimiter=delimiter, limit=limit)


def _page(prefix: str, after: str, *, delimiter: bool, limit: int) -> Page:
    objects: list[ObjectMeta] = []
    prefixes: list[Prefix] = []
    last = ""
    at = bisect_right(NAMES, after) if after > prefix else bisect_left(NAMES, prefix)
    while at < len(NAMES) and NAMES[at].startswith(prefix):
        if len(objects) + len(prefixes) == limit:
            return Page(tuple(objects), tuple(prefixes), last)
        name, slash, _ = NAMES[at][len(prefix) :].partition("/")
        if slash and delimiter:
            child = Prefix(f"{prefix}{name}/")
            at = bisect_right(NAMES, f"{child}\U0010ffff")
            if child > after:
                prefixes.append(child)
                last = str(child)
        else:
            last = NAMES[at]
            objects.append(ObjectMeta(Key(last), 1, ETag("0" * 32), 17 * 10**17))
            at += 1
    return Page(tuple(objects), tuple(prefixes), None)


def run() -> None:
    def many(*args: Any, **how: Any) -> Store:
        return Many(open_checked(*args, **how))

    zarrfuse.daemon.open_checked = many  # type: ignore[attr-defined]
    main()


if __name__ == "__main__":
    run()
