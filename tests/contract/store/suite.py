"""What every store does, whatever is behind it. An adapter's test file gives a store and says
which keys that store refuses by its nature; everything else is asked of all of them.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix
from zarrfuse.errors import AlreadyExists, KeyRefused, NotFound, Unavailable, VersionChanged
from zarrfuse.store.base import Page, Store, list_all

CONTROL_KEYS = {"c/\x01", "c/tab\there", "c/line\nfeed", "c/\rreturn", "c/\x7f", "c/\x85"}
DOT_KEYS = {"..", ".", "d/../x", "d/./b", "d/.."}
SLASH_KEYS = {"s//double", "s///", "s//", "/lead", "//"}
MARKER_KEYS = {"dir/", "dir/sub/"}
PLAIN_KEYS = {
    "u/e\u0301",  # NFD
    "u/\u00e9",  # NFC: another key
    "u/名前/データ.nc",
    "u/\U0001f30a",
    "u/\U0010ffff",
    " lead and trail ",
    "p/a+b",
    "p/100%",
    "p/%2F",
    "p/%41",
    "p/a b",
    "p/q?x=1&y=2#z;v",
    "p/'single' \"double\" <tag> & `tick`",
    "p/back\\slash",
    "p/[a]*{b}^~|$@!,:=",
    "p/...",
    "p/.hidden",
    "p/status code: 404",
}
LONG_NAME_KEYS = {"l/" + "n" * 1022}
LONG_KEYS = {"/".join(["k" * 127] * 8) + "m", "/".join(["é" * 63] * 8) + "12345"}
ALL_KEYS = sorted(
    CONTROL_KEYS | DOT_KEYS | SLASH_KEYS | MARKER_KEYS | PLAIN_KEYS | LONG_NAME_KEYS | LONG_KEYS
)


def rows_of(store: Store, prefix: str, *, delimiter: bool = False, limit: int = 1000) -> list[Page]:
    """Every page; no more than there can be."""
    pages: list[Page] = []
    after: str | None = ""
    while after is not None:
        pages.append(store.list_page(prefix, after=after, delimiter=delimiter, limit=limit))
        assert len(pages) < 5000, "the listing does not end"
        after = pages[-1].next_after
    return pages


def keys_of(store: Store, prefix: str = "") -> list[Key]:
    return [meta.key for meta in list_all(store, prefix)]


def read_whole(store: Store, key: Key) -> bytes:
    """A read, repeated as the retry wrapper would where the store saw a writer in between."""
    for _ in range(200):
        try:
            return store.get(key).data
        except Unavailable:
            continue
    raise AssertionError("no read ever came through")


class StoreContract:
    """Subclasses give `store`: empty, and new for each test."""

    refused: ClassVar[set[str]] = set()
    #: Whether an object "foo" may stand beside "foo/bar".
    file_beside_directory: ClassVar[bool] = True
    #: How many objects the test of many has; more than three pages.
    many: ClassVar[int] = 3100

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    # keys

    @pytest.mark.parametrize("key", [Key(key) for key in ALL_KEYS], ids=ascii)
    def test_a_key_comes_back_as_it_went(self, store: Store, key: Key) -> None:
        data = key.encode()
        if key in self.refused:
            with pytest.raises(KeyRefused):
                store.put(key, data)
            assert keys_of(store) == []
            return
        put = store.put(key, data)
        assert put.key == key
        head = store.head(key)
        assert (head.key, head.size, head.etag) == (key, len(data), put.etag)
        assert store.get(key).data == data
        assert store.get(key, start=1, stop=3, if_match=put.etag).data == data[1:3]
        assert [(row.key, row.size, row.etag) for row in list_all(store, "")] == [
            (key, len(data), put.etag)
        ]
        assert keys_of(store, key[:-1]) == [key]
        store.delete(key)
        assert keys_of(store) == []

    def test_all_keys_stand_beside_each_other_in_order(self, store: Store) -> None:
        wanted = sorted(set(ALL_KEYS) - self.refused, key=str.encode)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: store.put(Key(key), key.encode()), wanted))
        assert keys_of(store) == wanted
        assert [row.key for page in rows_of(store, "", limit=3) for row in page.objects] == wanted
        assert all(store.get(Key(key)).data == key.encode() for key in wanted)

    def test_odd_keys_are_copied_and_deleted_together(self, store: Store) -> None:
        wanted = sorted(set(ALL_KEYS) - self.refused - LONG_KEYS - LONG_NAME_KEYS)
        for key in wanted:
            store.put(Key(key), key.encode())
            copied = store.copy(Key(key), Key(f"copy-{key}") if key[0] != "/" else Key("copy"))
            assert store.get(copied.key).data == key.encode()
            store.delete(copied.key)
        assert store.delete_many([Key(key) for key in [*wanted, "never/was"]]) == {}
        assert keys_of(store) == []

    @pytest.mark.parametrize("key", ["", "k" * 1025, "é" * 512 + "k", "nul\0", "\udcff"], ids=ascii)
    def test_what_is_no_key_is_refused(self, store: Store, key: str) -> None:
        with pytest.raises(KeyRefused):
            store.put(Key(key), b"x")
        with pytest.raises(KeyRefused):
            store.get(Key(key))
        with pytest.raises(KeyRefused):
            store.head(Key(key))
        assert set(store.delete_many([Key(key)])) <= {Key(key)}
        assert keys_of(store) == []

    def test_foo_beside_foo_bar(self, store: Store) -> None:
        store.put(Key("foo/bar"), b"inner")
        if not self.file_beside_directory:
            with pytest.raises(KeyRefused):
                store.put(Key("foo"), b"outer")
            assert keys_of(store) == ["foo/bar"]
            store.put(Key("file"), b"outer")
            with pytest.raises(KeyRefused):
                store.put(Key("file/inner"), b"inner")
            assert keys_of(store) == ["file", "foo/bar"]
            return
        store.put(Key("foo"), b"outer")
        store.put(Key("foo.txt"), b"between")
        assert keys_of(store) == ["foo", "foo.txt", "foo/bar"]
        page = store.list_page("", delimiter=True)
        assert [row.key for row in page.objects] == ["foo", "foo.txt"]
        assert page.prefixes == (Prefix("foo/"),)
        assert store.get(Key("foo")).data == b"outer"
        assert store.get(Key("foo/bar")).data == b"inner"

    # listings

    def seed(self, store: Store, keys: list[Key]) -> None:
        """Puts a small object under each key, from many threads."""
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: store.put(key, b"x"), keys))

    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_more_keys_than_three_pages(self, store: Store) -> None:
        keys = [Key(f"many/{'é' if n % 2 else 'z'}{n:05d}") for n in range(self.many)]
        keys += [Key(f"many/sub{n:02d}/x") for n in range(20)]
        self.seed(store, [*keys, Key("manyother")])
        listed = keys_of(store, "many/")
        assert listed == sorted(keys, key=str.encode)
        pages = rows_of(store, "many/", delimiter=True)
        assert all(len(page.objects) + len(page.prefixes) <= 1000 for page in pages)
        objects = [row.key for page in pages for row in page.objects]
        assert objects == sorted(keys[: self.many], key=str.encode)
        prefixes = [prefix for page in pages for prefix in page.prefixes]
        assert prefixes == [f"many/sub{n:02d}/" for n in range(20)]
        assert store.list_page("many/", after=listed[1234]).objects[0].key == listed[1235]

    def test_nested_prefixes(self, store: Store) -> None:
        for key in ("a/1", "a/b/2", "a/b/c/3", "a/d/4", "ab/5", "z"):
            store.put(Key(key), b"x")
        top = store.list_page("", delimiter=True)
        assert (top.prefixes, [row.key for row in top.objects]) == (("a/", "ab/"), ["z"])
        inner = store.list_page("a/", delimiter=True)
        assert (inner.prefixes, [row.key for row in inner.objects]) == (
            ("a/b/", "a/d/"),
            ["a/1"],
        )
        assert store.list_page("a", delimiter=True).prefixes == ("a/", "ab/")
        assert store.list_page("a/b", delimiter=True).prefixes == ("a/b/",)
        assert keys_of(store, "a/b") == ["a/b/2", "a/b/c/3"]
        assert keys_of(store, "a/b/c/3") == ["a/b/c/3"]

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_small_pages_are_complete(self, store: Store, limit: int) -> None:
        for key in ("a", "b/1", "b/2", "c", "d/1", "e"):
            store.put(Key(key), b"x")
        pages = rows_of(store, "", delimiter=True, limit=limit)
        assert all(len(page.objects) + len(page.prefixes) <= limit for page in pages)
        assert [row.key for page in pages for row in page.objects] == ["a", "c", "e"]
        assert [prefix for page in pages for prefix in page.prefixes] == ["b/", "d/"]

    @pytest.mark.parametrize("after", ["b/", "b/1", "b/1/z"])
    def test_after_a_prefix_or_inside_it_leaves_it_out(self, store: Store, after: str) -> None:
        for key in ("a", "b/1", "b/2", "c", "d/1"):
            store.put(Key(key), b"x")
        page = store.list_page("", after=after, delimiter=True)
        assert ([row.key for row in page.objects], page.prefixes) == (["c"], ("d/",))

    def test_after_before_a_prefix_shows_it(self, store: Store) -> None:
        store.put(Key("b/1"), b"x")
        assert store.list_page("", after="b", delimiter=True).prefixes == ("b/",)
        assert store.list_page("", after="b/").objects[0].key == "b/1"

    @pytest.mark.parametrize("prefix", ["", "nothing/", "nothing", "no/such/place/"])
    @pytest.mark.parametrize("delimiter", [False, True])
    def test_an_empty_listing(self, store: Store, prefix: str, delimiter: bool) -> None:
        assert store.list_page(prefix, delimiter=delimiter) == Page((), (), None)

    def test_a_listing_states_what_head_states(self, store: Store) -> None:
        store.put(Key("a/b"), b"12345")
        (row,) = list_all(store, "a/")
        assert row == store.head(Key("a/b"))

    # bytes

    def test_an_empty_object(self, store: Store) -> None:
        meta = store.put(Key("empty"), b"")
        assert meta.size == 0
        for start, stop in ((0, None), (0, 10), (5, 10), (0, 0)):
            fetched = store.get(Key("empty"), start=start, stop=stop, if_match=meta.etag)
            assert (fetched.data, fetched.meta.size, fetched.meta.etag) == (b"", 0, meta.etag)

    @pytest.mark.parametrize(
        ("start", "stop", "wanted"),
        [
            (0, None, b"0123456789"),
            (0, 10, b"0123456789"),
            (3, 7, b"3456"),
            (7, None, b"789"),
            (7, 99, b"789"),
            (9, 10, b"9"),
            (10, 11, b""),
            (10, None, b""),
            (99, 100, b""),
            (99, None, b""),
            (4, 4, b""),
        ],
    )
    def test_a_range(self, store: Store, start: int, stop: int | None, wanted: bytes) -> None:
        etag = store.put(Key("ten"), b"0123456789").etag
        fetched = store.get(Key("ten"), start=start, stop=stop)
        assert (fetched.data, fetched.meta.size, fetched.meta.etag) == (wanted, 10, etag)

    def test_a_file_is_put_like_bytes(self, store: Store, tmp_path: Path) -> None:
        data = os.urandom(5_000_000)
        path = tmp_path / "body"
        path.write_bytes(data)
        meta = store.put(Key("from/file"), path)
        assert meta.size == len(data)
        assert store.get(Key("from/file"), if_match=meta.etag).data == data
        assert path.read_bytes() == data

    def test_overwriting_gives_another_version(self, store: Store) -> None:
        first = store.put(Key("k"), b"first")
        second = store.put(Key("k"), b"2nd..")
        assert first.etag != second.etag
        assert store.get(Key("k")).data == b"2nd.."
        assert [row.etag for row in list_all(store, "")] == [second.etag]

    # versions

    def test_if_match_on_a_changed_object(self, store: Store) -> None:
        first = store.put(Key("k"), b"first")
        assert store.get(Key("k"), if_match=first.etag).data == b"first"
        second = store.put(Key("k"), b"second")
        for start, stop in ((0, None), (1, 3), (99, 100), (2, 2)):
            with pytest.raises(VersionChanged):
                store.get(Key("k"), start=start, stop=stop, if_match=first.etag)
        assert store.get(Key("k"), if_match=second.etag).data == b"second"
        store.delete(Key("k"))
        with pytest.raises((VersionChanged, NotFound)):
            store.get(Key("k"), if_match=second.etag)

    def test_if_absent(self, store: Store, tmp_path: Path) -> None:
        meta = store.put(Key("k"), b"mine", if_absent=True)
        path = tmp_path / "body"
        path.write_bytes(b"theirs")
        for body in (b"theirs", path):
            with pytest.raises(AlreadyExists):
                store.put(Key("k"), body, if_absent=True)
        assert store.get(Key("k"), if_match=meta.etag).data == b"mine"
        store.delete(Key("k"))
        store.put(Key("k"), path, if_absent=True)
        assert store.get(Key("k")).data == b"theirs"

    def test_delete_with_if_match(self, store: Store) -> None:
        first = store.put(Key("k"), b"first")
        store.put(Key("k"), b"second")
        with pytest.raises(VersionChanged):
            store.delete(Key("k"), if_match=first.etag)
        assert store.get(Key("k")).data == b"second"
        store.delete(Key("k"), if_match=store.head(Key("k")).etag)
        store.delete(Key("k"), if_match=first.etag)  # not there: no error
        assert keys_of(store) == []

    # absence

    def test_what_is_not_there(self, store: Store) -> None:
        store.put(Key("dir/file"), b"x")
        for key in (Key("nothing"), Key("dir"), Key("dir/other"), Key("dir/file/below")):
            with pytest.raises(NotFound):
                store.head(key)
            with pytest.raises(NotFound):
                store.get(key)
            with pytest.raises(NotFound):
                store.get(key, start=1, stop=2)
            with pytest.raises(NotFound):
                store.copy(key, Key("target"))
            store.delete(key)
        assert keys_of(store) == ["dir/file"]

    def test_many_are_deleted_in_one_call(self, store: Store) -> None:
        keys = [Key(f"gone/{n}") for n in range(30)]
        for key in [*keys, Key("stays")]:
            store.put(key, b"x")
        assert store.delete_many(keys) == {}
        assert store.delete_many([]) == {}
        assert keys_of(store) == ["stays"]

    # copies

    def test_a_copy(self, store: Store) -> None:
        source = store.put(Key("a/source é"), b"content")
        copied = store.copy(Key("a/source é"), Key("b/target +"), if_match=source.etag)
        assert copied == store.head(Key("b/target +"))
        assert store.get(Key("b/target +")).data == b"content"
        assert store.get(Key("a/source é")).data == b"content"
        with pytest.raises(VersionChanged):
            store.copy(Key("a/source é"), Key("c"), if_match=ETag("another"))
        assert keys_of(store) == ["a/source é", "b/target +"]

    def test_threads_see_whole_objects(self, store: Store) -> None:
        bodies = [bytes([n]) * 100_000 for n in range(4)]
        store.put(Key("k"), bodies[0])

        def one(n: int) -> ObjectMeta:
            if n % 2:
                return store.put(Key("k"), bodies[n % 4])
            fetched = read_whole(store, Key("k"))
            assert fetched in bodies
            return store.head(Key("k"))

        with ThreadPoolExecutor(8) as pool:
            assert len(list(pool.map(one, range(40)))) == 40

    def test_it_says_what_it_is(self, store: Store) -> None:
        assert store.describe
