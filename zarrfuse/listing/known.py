"""What is known of the bucket's names, as of when: pages taken in, our own changes laid over them.

Thread-safe; asks the bucket for nothing, and decides nothing about absence. `changed` is told,
outside of the lock, which names are not what an earlier page had told.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cachetools import LRUCache

from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.core.zarr.metadata import MAX_ARRAYS
from zarrfuse.core.zarr.names import is_impossible
from zarrfuse.listing.memory import Area, Memory
from zarrfuse.listing.own import OwnChanges
from zarrfuse.listing.positions import end_of, just_before
from zarrfuse.listing.roots import Root, is_array
from zarrfuse.listing.rows import Row, entries_of
from zarrfuse.listing.space import Space, Told

#: Asked as of then, anything that was ever known is an answer.
EVER = float("-inf")
#: Pages are used for half of the ttl, less up to this part of it: 200 nodes that were started
#: together must not ask together (design: TTLs jittered by 20 %).
_JITTER = 0.2
#: Arrays, and hidden objects, that are remembered: all of the largest store that is read.
_MAX_ROOTS = MAX_ARRAYS

Changed = Callable[[Prefix, str], None]


class Known:
    """`_lock` guards all of it, and nothing is asked of anybody under it.

    `asked_at` of a question is when it began: a page counts if it was asked for at most half of
    `ttl_s` before that, and the question stays the same however long its answer takes.
    """

    def __init__(
        self, *, ttl_s: float, max_keys: int, clock: Callable[[], float], changed: Changed | None
    ) -> None:
        self._use_s = ttl_s / 2
        self._clock = clock
        self._changed = changed
        self._lock = threading.Lock()
        self._own = OwnChanges(ttl_s, clock)
        self._memory = Memory(max_keys, lambda: 1 - _JITTER * random.random())
        self._roots: LRUCache[Prefix, Root] = LRUCache(_MAX_ROOTS)
        self._shadowed: LRUCache[Key, None] = LRUCache(_MAX_ROOTS)

    # Questions -----------------------------------------------------------------------------

    def recall(self, parent: Prefix, name: str, asked_at: float) -> tuple[bool, Row | None]:
        """Whether it is known what `name` is, and what was last known of it."""
        with self._lock:
            if self._own.keeps(parent, name):
                return True, parent.directory(name)
            known, row = self._told_of(parent, name, asked_at)
            directory = self._own.get(f"{parent}{name}/")
            if directory is not None and directory.row is not None:
                return True, directory.row
            own = self._own.get(f"{parent}{name}")
            if own is not None and not isinstance(row, Prefix):
                return True, own.row
            return known, row

    def own_below(self, prefix: Prefix) -> tuple[dict[Key, ObjectMeta], set[Key]]:
        """The objects under `prefix` that we put, and those that we deleted, of late."""
        with self._lock:
            return self._own.below(prefix)

    def missing(self, area: Area, parent: Prefix, name: str, asked_at: float) -> str | None:
        """The `after` to ask from in `area` to learn what `name` is, None if it is known."""
        with self._lock:
            space = self._memory.get(area)
            position = f"{parent[len(area.prefix) :]}{name}"
            if space is None:
                return just_before(position)
            return space.missing(position, self._since(space, asked_at))

    def gap(self, area: Area, after: str, stop: str | None, asked_at: float) -> str | None:
        """Where in (after, stop] of that area the first stretch not known begins, or None."""
        with self._lock:
            space = self._memory.get(area)
            if space is None:
                return after
            return space.gap(after, stop, self._since(space, asked_at))

    def is_new(self, area: Area) -> bool:
        """Whether nothing is known of that area, not even from long ago."""
        with self._lock:
            space = self._memory.get(area)
            return space is None or space.is_empty

    def is_ageless(self, area: Area, asked_at: float) -> bool:
        """Whether only a part of that area is known, and nothing lies in that: it may be live or
        not. What an older page told of it is long ago."""
        with self._lock:
            space = self._memory.get(area)
            return space is not None and space.is_ageless(self._since(space, asked_at))

    def entries(self, parent: Prefix, asked_at: float) -> list[tuple[str, Row]] | None:
        """Every entry of a directory by name, sorted; None where not all of it is known."""
        with self._lock:
            for space, below in self._spaces_of(parent):
                stop = end_of(below)
                if space.gap(below, stop, self._since(space, asked_at)) is None:
                    pieces = space.pieces(below, stop)
                    kept = self._own.kept(parent)
                    break
            else:
                return None
        found, hidden = entries_of(space.prefix, below, pieces)
        with self._lock:
            self._shadowed.update((parent.file(name), None) for name in hidden)
        found.update((name, parent.directory(name)) for name in kept)
        return sorted(found.items())

    def follows_known(self, directory: Prefix, asked_at: float) -> bool:
        """Whether the directory next before this one is known with all levels: somebody walks."""
        with self._lock:
            beside = self._memory.get(Area(directory.parent, flat=False))
            before = None if beside is None else beside.before(f"{directory.name}/")
            root = self._root_of(directory)
            space = None if root is None else self._memory.get(Area(root, flat=True))
            if before is None or not before.endswith("/") or space is None:
                return False
            below = f"{directory.parent}{before}"[len(space.prefix) :]
            return space.gap(below, end_of(below), self._since(space, asked_at)) is None

    def is_surely_absent(self, parent: Prefix, name: str) -> bool:
        """Whether absence needs no question at all: we deleted it of late, or no store of this
        kind has such a name."""
        with self._lock:
            own = self._own.get(f"{parent}{name}")
            if own is not None and own.row is None:
                return True
            spaces = list(self._spaces_of(parent))
            if any(f"{below}{name}" in space.vanished for space, below in spaces):
                return False
            return is_impossible(name, _Siblings(spaces))

    def in_doubt(self, parent: Prefix, name: str, newer_ns: int) -> bool:
        """Whether absence needs a second question: it was there, or its directory is live, which
        means that something seen in it is newer than `newer_ns`.

        A directory made through this mount where nothing was is in no doubt: what is not ours
        is not there.
        """
        with self._lock:
            spaces = list(self._spaces_of(parent))
            if any(f"{below}{name}" in space.vanished for space, below in spaces):
                return True
            live = any(space.newest_ns > newer_ns for space, _ in spaces)
            return live and not any(space.made_here for space, _ in spaces)

    def snapshot(self) -> dict[str, int]:
        """Counts for the status report."""
        with self._lock:
            return {
                "known_keys": self._memory.keys,
                "directories": len(self._memory),
                "shadowed_objects": len(self._shadowed),
            }

    # Arrays --------------------------------------------------------------------------------

    def add_root(self, prefix: Prefix, root: Root) -> None:
        """Below `prefix` one page tells of all levels from now on."""
        with self._lock:
            self._roots[prefix] = root

    def root_of(self, prefix: Prefix) -> tuple[Prefix, Root] | None:
        """The nearest prefix, itself or above, that is listed flat."""
        with self._lock:
            found = self._root_of(prefix)
            return None if found is None else (found, self._roots[found])

    @contextmanager
    def pinned(self, areas: tuple[Area, ...]) -> Iterator[None]:
        """While it lasts, nothing of these is forgotten, whatever else comes in."""
        with self._lock:
            self._memory.pin(areas)
        try:
            yield
        finally:
            with self._lock:
                self._memory.unpin(areas)

    # Changes -------------------------------------------------------------------------------

    def take(self, area: Area, told: Told) -> None:
        """Takes a page in; our own recent changes are believed over it."""
        with self._lock:
            space = self._memory.make(area)
            if area.flat:
                self._doubt_made(area.prefix, told)
            changes = space.merge(told)
            self._overlay(space, told, changes)
            names = [position for position, _ in told.rows]
            if not area.flat and area.prefix not in self._roots and is_array(names):
                self._roots[area.prefix] = Root()
            self._memory.weigh(area)
        for position in changes:
            self._tell(area.prefix + position)

    def confirm(self, key: Key, meta: ObjectMeta | None) -> None:
        """Takes in what HEAD said of one object."""
        with self._lock:
            for space, below in self._spaces_of(key.parent):
                if meta is None:
                    space.vanished.discard(below + key.name)
                else:
                    space.set(below + key.name, meta)

    def correct(self, key: Key, meta: ObjectMeta | None) -> None:
        """Takes in what HEAD said of an object that was not as listed: believed over pages, as our
        own changes are."""
        if meta is not None:
            self.note_put(meta)
            return
        with self._lock:
            self._set(key, None)

    def note_put(self, meta: ObjectMeta) -> None:
        with self._lock:
            self._set(meta.key, meta)
            for here in meta.key.parent.lineage():
                if not here.is_root:
                    self._set(here, here)

    def note_deleted(self, key: Key) -> None:
        with self._lock:
            self._set(key, None)
            self._own.keep(key.parent)

    def note_mkdir(self, prefix: Prefix) -> None:
        with self._lock:
            self._own.keep(prefix)
            made = Space(prefix, flat=False)
            made.merge(Told("", None, self._clock(), ()))
            made.made_here = True
            self._memory.replace(Area(prefix, flat=False), made)

    def note_rmdir(self, prefix: Prefix) -> None:
        with self._lock:
            self._own.keep_no_longer(prefix)
            self._set(prefix, None)
            self._memory.forget(Area(prefix, flat=False))
            self._own.keep(prefix.parent)

    def forget(self, key: Key) -> None:
        """Drops what is known around one object, and our own change of it."""
        with self._lock:
            for space, below in list(self._spaces_of(key.parent)):
                space.doubt(below + key.name)
            self._own.drop(key)

    def announce(self, key: Key) -> None:
        """Tells that this object is not what it was."""
        self._tell(key)

    # Inside --------------------------------------------------------------------------------

    def _since(self, space: Space, asked_at: float) -> float:
        """Pages asked for before this are no longer used."""
        return asked_at - self._use_s * space.patience

    def _root_of(self, prefix: Prefix) -> Prefix | None:
        return next((here for here in prefix.lineage() if here in self._roots), None)

    def _spaces_of(self, parent: Prefix) -> Iterator[tuple[Space, str]]:
        """The spaces that may tell of names in a directory, and where it lies in each."""
        space = self._memory.get(Area(parent, flat=False))
        if space is not None:
            yield space, ""
        root = self._root_of(parent)
        space = None if root is None else self._memory.get(Area(root, flat=True))
        if space is not None:
            yield space, parent[len(space.prefix) :]

    def _told_of(self, parent: Prefix, name: str, asked_at: float) -> tuple[bool, Row | None]:
        last: Row | None = None
        for space, below in self._spaces_of(parent):
            known, row = space.entry(f"{below}{name}", self._since(space, asked_at))
            if known:
                if isinstance(row, Prefix) and f"{below}{name}" in space:
                    self._shadowed[parent.file(name)] = None
                return True, row
            last = last or row
        return False, last

    def _doubt_made(self, prefix: Prefix, told: Told) -> None:
        """A page of all levels that tells of anything not ours: somebody else writes here too, and
        what is absent from the directories that were made here may come from them."""
        made = self._memory.made_below(prefix)
        if made and any(self._is_foreign(row) for _, row in told.rows):
            for space in made:
                space.made_here = False

    def _is_foreign(self, row: Row) -> bool:
        """Whether we did not put it: not of late, nor since its directory was made here."""
        place = row.key if isinstance(row, ObjectMeta) else row
        if self._own.get(place) is not None:
            return False
        beside = self._memory.get(Area(place.parent, flat=False))
        if beside is None or not beside.made_here:
            return True
        return place[len(place.parent) :] not in beside

    def _overlay(self, space: Space, told: Told, changes: set[str]) -> None:
        """Lays our own recent changes over what a page has told."""
        prefix = space.prefix
        last = end_of(prefix) if told.last is None else prefix + told.last
        skip = len(prefix)
        for place, own in self._own.between(prefix + told.after, last):
            position = place[skip:]
            if not position or (not space.flat and "/" in position[:-1]):
                continue
            if own.row is None:
                space.remove(position)
            else:
                space.set(position, own.row)
            changes.discard(position)

    def _set(self, place: Key | Prefix, row: Row | None) -> None:
        """Takes a change of our own into the rows and remembers it for the pages to come."""
        self._own.note(place, row)
        parent = place.parent
        for space, below in self._spaces_of(parent):
            position = f"{below}{place[len(parent) :]}"
            if row is None:
                space.remove(position)
            else:
                space.set(position, row)
            self._memory.weigh(Area(space.prefix, space.flat))

    def _tell(self, place: str) -> None:
        if self._changed is None:
            return
        key = Key(place.removesuffix("/"))
        self._changed(key.parent, key.name)


class _Siblings:
    """The names known in one directory."""

    def __init__(self, spaces: list[tuple[Space, str]]) -> None:
        self._spaces = spaces

    def __contains__(self, name: object) -> bool:
        return any(f"{below}{name}" in space for space, below in self._spaces)
