"""Endpoints and credentials: what cannot be reached or used is named, soon, without secrets."""

import pickle
import threading
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.storage import MissingError, Storage, Store, open_source
from tests.fixtures_s3 import S3
from tests.s3 import BUCKET, READER_KEY, READER_SECRET, WRITER_KEY, WRITER_SECRET, SeaweedFS


def test_wrong_credentials_are_named_and_not_shown(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(s3.uri).put("x", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "swordfish")
    store = Store(s3.uri)
    for use in (lambda: store.read("x"), lambda: store.put("x", b""), lambda: list(store.list()), store.check_writable):
        with pytest.raises(StorageError, match=r"check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY") as caught:
            use()
        assert "swordfish" not in str(caught.value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(StorageError, match=r"the access key is unknown"):
        Store(s3.uri).commit_once("y", b"")


def test_a_missing_bucket_is_named(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.server.env(WRITER_KEY, WRITER_SECRET).items():
        monkeypatch.setenv(name, value)
    store = Store("s3://no-such-bucket/out")
    with pytest.raises(MissingError, match="the bucket 'no-such-bucket' does not exist"):
        store.read("x")
    with pytest.raises(MissingError, match="the bucket 'no-such-bucket' does not exist"):
        list(store.list())
    with pytest.raises(StorageError, match="bucket 'no-such-bucket'"):
        store.check_writable()


def test_an_output_that_may_only_be_read_is_refused_at_once(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(s3.uri).put("x", b"1")
    for name, value in s3.server.env(READER_KEY, READER_SECRET).items():
        monkeypatch.setenv(name, value)
    assert Store(s3.uri).read("x") == b"1"
    with pytest.raises(StorageError, match="permission denied"):
        Store(s3.uri).check_writable()


def test_an_unreachable_server_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(StorageError, match=r"after \d+ s of retries; check that the endpoint"):
        Store("s3://bucket/x", retry_budget_s=0.5).read("y")


def test_prefixes_may_have_their_own_access(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Store(s3.uri).put("in/x", b"1")
    for name in s3.env:
        monkeypatch.delenv(name)
    monkeypatch.setenv("READ_KEY", READER_KEY)
    monkeypatch.setenv("READ_SECRET", READER_SECRET)
    (tmp_path / "storage.toml").write_text(
        f'["{s3.uri}"]\nendpoint = "http://127.0.0.1:9"\n'
        f'["{s3.uri}/in"]\nendpoint = "{s3.endpoint}"\nkey_env = "READ_KEY"\nsecret_env = "READ_SECRET"\n'
    )
    storage = Storage.from_toml(tmp_path / "storage.toml")
    store = Store(f"{s3.uri}/in", storage=storage)
    assert store.read("x") == b"1"
    assert open_source(f"{s3.uri}/in/x", storage=storage)[0].read() == b"1"
    with pytest.raises(StorageError, match="permission denied"):
        store.put("x", b"2")
    assert READER_SECRET not in repr(storage) + repr(store)
    assert READER_SECRET.encode() not in pickle.dumps(store)


def test_a_server_that_dies_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = SeaweedFS(tmp_path)
    server.start()
    try:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        store = Store(f"s3://{BUCKET}/out", retry_budget_s=180)
        store.put("before", b"1")
        server.kill()
        restart = threading.Timer(1.0, server.start)
        restart.start()
        assert store.commit_once("after", b"2")
        assert sorted(entry.path for entry in store.list()) == ["after", "before"]
        restart.join()
    finally:
        server.kill()
