"""One behaviour on a local folder, in memory (plain fsspec) and on a real S3 server."""

import pickle
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.storage import MissingError, Store
from tests.fixtures_s3 import S3
from tests.proxy import Proxy, Trouble
from tests.s3 import READER_KEY, READER_SECRET


def test_bytes_come_back_whole_and_in_ranges(store: Store) -> None:
    store.put("a/b", b"0123456789")
    assert store.read("a/b") == b"0123456789"
    assert store.read_range("a/b", 2, 5) == b"234"
    assert store.read_tail("a/b", 3) == b"789"
    assert store.read_tail("a/b", 99) == b"0123456789"
    store.put("a/b", b"new")
    assert store.read("a/b") == b"new"
    found = store.info("a/b")
    assert found
    assert (found.path, found.size) == ("a/b", 3)


def test_missing_objects_are_reported(store: Store) -> None:
    store.put("a/b", b"x")
    assert store.info("a") is None  # a folder is not an object
    assert not store.exists("a/c")
    assert store.read_or_none("a/c") is None
    assert list(store.list("none")) == []
    assert store.list_dirs("none") == []
    store.delete("a/c")
    with pytest.raises(MissingError, match=r"cannot read .*a/c: it does not exist"):
        store.read("a/c")


def test_listing_is_complete_and_never_stale(store: Store) -> None:
    assert list(store.list("parts")) == []
    for name in ("parts/00/v/k1.parquet", "parts/00/v/k2.parquet", "parts/ff/w%2F/k.parquet", "partsx/y"):
        store.put(name, b"abc")
    assert [entry.path for entry in store.list("parts")] == [
        "parts/00/v/k1.parquet", "parts/00/v/k2.parquet", "parts/ff/w%2F/k.parquet",
    ]  # fmt: skip
    assert {entry.path for entry in store.list()} == {entry.path for entry in store.list("parts")} | {"partsx/y"}
    shards = list(store.list_sharded("parts"))
    assert len(shards) == 256
    assert [len(shards[0]), len(shards[255]), sum(map(len, shards))] == [2, 1, 3]
    assert store.list_dirs("parts") == ["00", "ff"]
    assert store.list_dirs("") == ["parts", "partsx"]
    store.delete("parts/00/v/k1.parquet")
    store.put("parts/00/v/k3.parquet", b"")
    assert [entry.path for entry in store.list("parts/00")] == ["parts/00/v/k2.parquet", "parts/00/v/k3.parquet"]
    assert store.delete_prefix("parts") == 3
    assert [entry.path for entry in store.list()] == ["partsx/y"]


def test_many_are_deleted_at_once(store: Store) -> None:
    names = [f"a/{at} é%20" for at in range(30)]
    for name in names:
        store.put(name, b"x")
    store.delete_many([*names[:29], "never/there"])
    assert [entry.path for entry in store.list()] == names[29:]
    store.delete_many([])


def test_a_transient_error_of_one_key_among_many_is_retried(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(f"{s3.uri}/out").put("x", b"1")
    troubles: list[Trouble] = ["undeleted", "undeleted"]
    with Proxy(s3.endpoint, trouble=lambda r: troubles.pop() if troubles and r.startswith("POST ") else None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = Store(f"{s3.uri}/out")
        store.delete_many(["x", "y"])
        assert list(store.list()) == []
        assert proxy.troubles["undeleted"] == 2


def test_a_refused_deletion_is_reported(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"{s3.uri}/out")
    store.put("x", b"1")
    for name, value in s3.server.env(READER_KEY, READER_SECRET).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match=r"cannot delete .*/out/x: permission denied"):
        Store(store.uri).delete_many(["x"])


def test_a_store_travels_to_other_processes(store: Store) -> None:
    store.put("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read("x") == b"1"


@pytest.mark.parametrize("path", ["../x", "a/../b", "/x", "a//b", "./a", "a/."])
def test_paths_cannot_climb(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="plain relative path"):
        Store(tmp_path).put(path, b"")
