"""Sources read as files, and their versions take few requests."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import s3fs

from pipeline.errors import StorageError
from pipeline.storage import MissingError, Store, open_source, source_versions
from pipeline.storage.backends.s3_listing import S3Lister
from tests.fixtures_s3 import S3


@pytest.fixture(params=["local", "s3"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, bytes]:
    content = bytes(i * 7 % 251 for i in range(5 * 2**20 + 17))
    root = tmp_path if request.param == "local" else f"{request.getfixturevalue('s3').uri}/videos"
    Store(root).put("a b/ü%20.mp4", content)
    return f"{root}/a b/ü%20.mp4", content


def test_a_source_reads_as_a_file(source: tuple[str, bytes]) -> None:
    uri, content = source
    file, version = open_source(uri)
    with file:
        assert version.size == len(content)
        assert file.seek(0, io.SEEK_END) == len(content)
        assert file.read(5) == b""
        for at in (len(content) - 9, 0, 2**21 - 3, 2**22 + 1, 1):
            file.seek(at)
            assert file.read(100) == content[at : at + 100]
        file.seek(0)
        assert file.read() == content
    assert source_versions([uri, uri + "x"]) == [version, None]
    with pytest.raises(MissingError, match="it does not exist"):
        open_source(uri + "x")


def test_a_source_replaced_while_read_is_noticed(s3: S3) -> None:
    store = Store(s3.uri)
    store.put("v", b"a" * 5_000_000)
    file, _ = open_source(store.uri_of("v"))
    with file:
        file.read(10)
        store.put("v", b"b" * 5_000_000)
        file.seek(4_500_000)
        with pytest.raises(StorageError, match="replaced while it was being read"):
            file.read(10)


def test_versions_of_many_sources_take_few_requests(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(s3.uri)
    names = [f"{folder}/{i:03}.mp4" for folder in ("aa", "ab", "b/c") for i in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: store.put(name, name.encode()), names))
    wanted = [store.uri_of(name) for name in names if name[-5] in "05"] + [store.uri_of("aa/none"), "/no/such/file"]
    calls, call = [], s3fs.S3FileSystem._call_s3

    def counted(self: object, name: str, *rest: object, **request: object) -> object:
        calls.append(name)
        return call(self, name, *rest, **request)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    page = S3Lister.page
    monkeypatch.setattr(S3Lister, "page", lambda *given, **more: (calls.append("page"), page(*given, **more))[1])
    found = source_versions(wanted)
    assert [version and version.size for version in found] == [len(n) for n in names if n[-5] in "05"] + [None, None]
    assert all(version.etag for version in found[:-2] if version)
    assert len(calls) <= 6


def test_versions_are_found_in_any_order_of_listing(s3: S3) -> None:
    """SeaweedFS lists a/ before a.b/, which is not the order of the keys."""
    store = Store(s3.uri)
    names = [f"{folder}/{i}" for folder in ("a", "a.b") for i in range(4)]
    for name in names:
        store.put(name, name.encode())
    found = source_versions([store.uri_of(name) for name in names])
    assert [version and version.size for version in found] == [len(name) for name in names]


def test_a_folder_opened_as_a_file_is_named(store: Store) -> None:
    store.put("folder/x", b"1")
    assert store.is_folder("folder")
    assert not store.is_folder("folder/x")
    assert not store.is_folder("none")
    with pytest.raises(MissingError, match=r"cannot open .*/folder: expected a file, found a directory"):
        open_source(store.uri_of("folder"))
    assert source_versions([store.uri_of("folder")]) == [None]
