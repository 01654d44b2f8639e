"""Listings of S3 are complete, whatever the names, the server and the network."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.storage import Store
from pipeline.storage.backends.s3_listing import S3Lister, parse_page
from tests.fixtures_s3 import S3


def test_listings_are_those_of_s3fs_for_all_names(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"{s3.uri}/a b")
    names = ["x/ü 视 🎥.mp4", "%20+&<>\"'?#=", "a+b", "&amp;", *(f"many/{at:04}" for at in range(30))]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: store.put(name, name.encode()), names))
    monkeypatch.setattr(S3Lister.page, "__kwdefaults__", {"start_after": "", "token": "", "page_keys": 7})
    light = list(store.list())
    assert sorted(entry.path for entry in light) == sorted(names)
    monkeypatch.setattr(S3Lister, "_get", lambda *_: (503, ""))
    assert list(store.list()) == light


AWS_PAGE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>b</Name><Prefix>p/</Prefix><NextContinuationToken>1a+/b&amp;=</NextContinuationToken><KeyCount>2</KeyCount>"
    "<MaxKeys>2</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
    "<Contents><Key>p/</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>x</ETag><Size>0</Size></Contents>"
    "<Contents><Key>p/a+b%2Bc%25.mp4</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>"
    "<ETag>&quot;d41d8-2&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Size>12</Size>"
    "<Owner><ID>1</ID></Owner><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"
)
"""AWS's own form: entities in ETags, fractions of seconds, elements nobody asked for."""


def test_a_page_of_another_server_is_read() -> None:
    page = parse_page(AWS_PAGE)
    assert page
    assert [(entry.path, entry.size, entry.etag) for entry in page.entries] == [("p/a b+c%.mp4", 12, "d41d8-2")]
    assert page.entries[0].mtime == pytest.approx(1767323045.678)
    assert page.next_token == "1a+/b&="


def test_a_truncated_page_or_one_without_a_token_is_none() -> None:
    assert not [at for at in range(len(AWS_PAGE)) if parse_page(AWS_PAGE[:at])]
    assert parse_page(AWS_PAGE.replace("NextContinuationToken", "NextMarker")) is None


def test_a_listing_with_truncated_pages_is_complete(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(s3.uri)
    for name in ("a", "b"):
        store.put(name, b"1")
    get = S3Lister._get
    monkeypatch.setattr(S3Lister, "_get", lambda *given: (200, get(*given)[1].partition("</Contents>")[0]))
    assert [entry.path for entry in store.list()] == ["a", "b"]
