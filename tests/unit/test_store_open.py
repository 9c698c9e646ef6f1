"""What a user may type as a source, and what is said of the rest."""

from pathlib import Path

import pytest

from zarrfuse.config import Config
from zarrfuse.core.keys import Key, Prefix
from zarrfuse.errors import ExitCode, ReadOnly, Unavailable, UserError
from zarrfuse.store.base import list_all
from zarrfuse.store.open import Traffic, check_store, open_checked, open_store, parse_source

ENVIRON = {
    "HOME": "/nonexistent",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "hidden-value",
    "AWS_REGION": "RegionOne",
}


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("s3://ocean", ("s3", "ocean", "")),
        ("s3://ocean/", ("s3", "ocean", "")),
        ("s3://my_bucket/a/b", ("s3", "my_bucket", "a/b/")),
        ("s3://my_bucket/a/b/", ("s3", "my_bucket", "a/b/")),
        ("s3://ocean/名", ("s3", "ocean", "名/")),
        ("file:///data", ("file", "", "")),
        ("memory://x/y", ("memory", "", "")),
    ],
)
def test_a_source(source: str, wanted: tuple[str, str, str]) -> None:
    assert parse_source(source) == wanted
    assert isinstance(parse_source(source)[2], Prefix)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("ocean", "type s3://ocean"),
        ("s3:/ocean", "type s3://ocean"),
        ("s3:ocean/a", "type s3://ocean/a"),
        ("/data", "type file:///data"),
        ("", "type s3://BUCKET"),
        ("s3://", "s3://BUCKET/PREFIX"),
        ("s3:///a", "s3://BUCKET/PREFIX"),
        ("s4://ocean", "'s4'"),
        ("s3://ocean/" + "k" * 1025, "longer"),
        ("file:///no/such/directory", "no directory"),
    ],
)
def test_no_source(source: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        open_store(source, config=Config(), environ=ENVIRON)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.CONFIG


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"there already")
    traffic = Traffic(Config().requests)
    store = open_store(f"file://{tmp_path}", config=Config(), environ=ENVIRON, traffic=traffic)
    check_store(store)
    assert store.get(Key("a/b")).data == b"there already"
    store.put(Key("c/d"), b"new")
    assert (tmp_path / "c" / "d").read_bytes() == b"new"
    assert [row.key for row in list_all(store, "")] == ["a/b", "c/d"]
    assert traffic.counters.snapshot()["get"]["bytes"] == 13
    store.delete(Key("c/d"))
    assert (tmp_path / "c").is_dir()


def test_read_only(tmp_path: Path) -> None:
    config = Config().override("mount", read_only=True)
    store = open_store(f"file://{tmp_path}", config=config, environ=ENVIRON)
    with pytest.raises(ReadOnly):
        store.put(Key("x"), b"x")
    assert list(tmp_path.iterdir()) == []


def test_memory_url() -> None:
    store = open_store("memory://test_store_open", config=Config(), environ=ENVIRON)
    check_store(store)
    store.put(Key("k"), b"v")
    assert store.get(Key("k")).data == b"v"


@pytest.mark.parametrize(
    ("flag", "variables", "wanted"),
    [
        ("http://flag:1", {"AWS_ENDPOINT_URL_S3": "http://s3:2"}, "http://flag:1"),
        (None, {"AWS_ENDPOINT_URL_S3": "http://s3:2", "AWS_ENDPOINT_URL": "x"}, "http://s3:2"),
        (None, {"AWS_ENDPOINT_URL": "http://all:3/"}, "http://all:3"),
        (None, {}, "https://s3.RegionOne.amazonaws.com"),
    ],
)
def test_the_endpoint(flag: str | None, variables: dict[str, str], wanted: str) -> None:
    store = open_store(
        "s3://ocean", config=Config(), environ={**ENVIRON, **variables}, endpoint_url=flag
    )
    assert store.describe == f"s3://ocean at {wanted}"


def test_an_endpoint_that_is_no_url() -> None:
    with pytest.raises(UserError, match="http://HOST:PORT"):
        open_store("s3://o", config=Config(), environ=ENVIRON, endpoint_url="localhost:8080")


def test_missing_keys() -> None:
    with pytest.raises(UserError, match="--anonymous"):
        open_store("s3://ocean", config=Config(), environ={"HOME": "/nonexistent"})


def test_nobody_listens() -> None:
    config = Config().override("requests", budget_s=0.2, backoff_s=0.01)
    store = open_store(
        "s3://ocean", config=config, environ=ENVIRON, endpoint_url="http://127.0.0.1:1"
    )
    line = "cannot connect to http://127.0.0.1:1: connection refused"
    for ask in (lambda: check_store(store), lambda: store.get(Key("k"))):
        with pytest.raises(Unavailable) as caught:
            ask()
        assert str(caught.value) == line
        assert "hidden-value" not in repr(caught.value)


def test_a_host_that_is_not_known() -> None:
    config = Config().override("requests", budget_s=0.2, backoff_s=0.01)
    store = open_store(
        "s3://ocean", config=config, environ=ENVIRON, endpoint_url="http://no.such.host.invalid"
    )
    for ask in (lambda: check_store(store), lambda: store.get(Key("k"))):
        with pytest.raises(Unavailable, match="the host name is not known"):
            ask()


def test_a_check_before_opening(tmp_path: Path) -> None:
    store = open_checked(f"file://{tmp_path}", config=Config(), environ=ENVIRON)
    assert list_all(store, "") == []
    config = Config().override("requests", backoff_s=0.01, budget_s=0.2)
    with pytest.raises(Unavailable, match="connection refused"):
        open_checked("s3://o", config=config, environ=ENVIRON, endpoint_url="http://127.0.0.1:1")
