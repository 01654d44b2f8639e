"""One behaviour on a local folder, in memory (plain fsspec) and on a real S3 server."""

import errno
import io
import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import s3fs

from pipeline.errors import StorageError
from pipeline.storage import MissingError, Storage, Store, open_source, source_versions
from pipeline.storage.s3_listing import S3Lister, parse_page
from tests.fixtures_s3 import S3
from tests.proxy import Proxy, Trouble
from tests.s3 import BUCKET, READER_KEY, READER_SECRET, WRITER_KEY, WRITER_SECRET, SeaweedFS

BACKENDS = ["local", "memory", "s3"]


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return Store(f"{request.getfixturevalue('s3').uri}/out", retry_budget_s=10)
    return Store(tmp_path / "out" if request.param == "local" else f"memory://{uuid.uuid4().hex}/out")


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


def test_what_is_not_there_is_said(store: Store) -> None:
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


def test_commit_once_never_replaces(store: Store) -> None:
    assert store.commit_once("p/x", b"first")
    assert not store.commit_once("p/x", b"second")
    assert store.read("p/x") == b"first"


def test_commit_once_of_a_local_file(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "rows"
    source.write_bytes(bytes(range(256)) * 4096)
    assert store.commit_once("p/x", source)
    (other := tmp_path / "others").write_bytes(bytes(range(255, -1, -1)) * 4096)
    assert not store.commit_once("p/x", other)
    assert store.read("p/x") == source.read_bytes()
    store.put("p/y", source)
    assert store.read("p/y") == source.read_bytes()


def test_large_objects_race_too(store: Store) -> None:
    """A part of an hour of video is still one conditional request."""
    if store.uri.startswith("memory:"):
        pytest.skip("fsspec's memory file system has no atomic create")
    contents = [bytes([at]) * (33 * 2**20) for at in range(3)]
    with ThreadPoolExecutor(3) as threads:
        won = list(threads.map(lambda content: store.commit_once("big", content), contents))
    assert won.count(True) == 1
    assert store.read("big") == contents[won.index(True)]


def test_what_takes_several_uploads_is_created_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.store.UPLOAD_CHUNK_BYTES", 5 * 2**20)
    first, second = b"1" * (11 * 2**20), b"2" * (11 * 2**20)
    assert store.commit_once("big", first)
    assert not store.commit_once("big", second)
    assert store.read("big") == first
    store.put("big", second)
    assert store.read("big") == second


def test_many_are_deleted_at_once(store: Store) -> None:
    names = [f"a/{at} é%20" for at in range(30)]
    for name in names:
        store.put(name, b"x")
    store.delete_many([*names[:29], "never/there"])
    assert [entry.path for entry in store.list()] == names[29:]
    store.delete_many([])


def test_an_error_of_one_key_among_many_passes_as_it_would_alone(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(f"{s3.uri}/out").put("x", b"1")
    troubles: list[Trouble] = ["undeleted", "undeleted"]
    with Proxy(s3.endpoint, trouble=lambda r: troubles.pop() if troubles and r.startswith("POST ") else None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = Store(f"{s3.uri}/out")
        store.delete_many(["x", "y"])
        assert list(store.list()) == []
        assert proxy.troubles["undeleted"] == 2


def test_a_key_that_may_not_be_deleted_is_said(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_one_of_many_threads_wins(store: Store) -> None:
    if store.uri.startswith("memory:"):
        pytest.skip("fsspec's memory file system has no atomic create")
    for round_ in range(3):
        together = threading.Barrier(4)

        def commit(at: int, round_: int = round_, together: threading.Barrier = together) -> bool:
            together.wait()
            return store.commit_once(f"race/{round_}", b"%d" % at * 1000)

        with ThreadPoolExecutor(8) as threads:
            won = list(threads.map(commit, range(4)))
        assert won.count(True) == 1
        assert store.read(f"race/{round_}") == b"%d" % won.index(True) * 1000
    assert len(list(store.list("race"))) == 3


RACE = """
import sys
from pipeline.storage import Store
store, me = Store(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
print(sum(store.commit_once(f"race/{i}", me.encode() * 5000) for i in range(4)))
"""


@pytest.mark.parametrize("where", ["local", "s3"])
def test_one_of_many_processes_wins(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    uri = str(tmp_path / "out") if where == "local" else request.getfixturevalue("s3").uri
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, uri, str(me)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for me in range(3)
    ]
    for racer in racers:
        assert racer.stdout
        racer.stdout.readline()
    for racer in racers:  # all have imported and connect at the same time
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    assert sum(won) == 4
    store = Store(uri)
    winners = [store.read(f"race/{i}") for i in range(4)]
    assert all(len(data) == 5000 and len(set(data)) == 1 for data in winners)
    assert [sum(data[:1] == b"%d" % me for data in winners) for me in range(3)] == won


def test_local_writes_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.put("a/b", b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    for write in (store.put, store.commit_once):
        with pytest.raises(StorageError, match="no space left"):
            write("a/c", b"new")
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    store.delete("a/b")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_others_make_and_remove_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, others = os.mkdir, [True]

    def make(folder: Path, mode: int = 0o777) -> None:
        if not others:
            return mkdir(folder, mode)
        mkdir(folder, others.pop())
        try:
            return mkdir(folder, mode)
        finally:
            folder.rmdir()

    monkeypatch.setattr("os.mkdir", make)
    Store(tmp_path).put("probes/x", b"")
    assert not others
    with pytest.raises(StorageError, match=r"cannot write .*: a folder stands where a file should be"):
        Store(tmp_path).put("probes/x/y", b"")


def test_a_link_whose_answer_was_lost_counts_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def repeated(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr("os.link", repeated)
    assert Store(tmp_path).commit_once("p", b"mine")
    monkeypatch.setattr(Path, "exists", lambda _: False)  # another is there a moment later
    assert not Store(tmp_path).commit_once("p", b"mine")
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


KILLED = """
import os, signal, sys
from pipeline.storage import Store
os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Store(sys.argv[1]).commit_once("parts/00/v/key", b"labels")
"""


def test_what_a_killed_process_was_writing_is_not_listed_and_can_be_deleted(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    store = Store(tmp_path)
    store.put("parts/01/v/key", b"others")
    assert [entry.path for entry in store.list()] == ["parts/01/v/key"]
    (left,) = store.unfinished_writes("parts")
    assert store.read(left.path) == b"labels"
    assert store.delete_prefix("parts/00/v") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "parts/01/v/key"]


def test_a_local_folder_that_cannot_be_listed_is_told_as_any_other_storage(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    store = Store(tmp_path)
    for use in (lambda: list(store.list("loop")), lambda: store.list_dirs("loop"), lambda: store.info("loop/x")):
        with pytest.raises(StorageError, match=r"cannot l.* .*loop.*: Too many levels of symbolic links"):
            use()


def test_other_refusals_are_not_taken_for_a_lost_race(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"{s3.uri}/out")
    monkeypatch.setattr(store, "_upload", lambda *_: (_ for _ in ()).throw(OSError(errno.EINVAL, "bad digest")))
    with pytest.raises(StorageError, match=r"cannot write s3://.*/out/p: bad digest"):
        store.commit_once("p", b"x")


@pytest.mark.parametrize(("size", "end"), [(4, "PUT "), (11 * 2**20, "POST ")], ids=["one request", "several"])
def test_a_commit_whose_answer_was_lost_counts_as_ours(
    size: int, end: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.store.UPLOAD_CHUNK_BYTES", 5 * 2**20)
    ends: Counter[str] = Counter()

    def first(request: str) -> Trouble | None:
        ends[request] += request.startswith(end) and not request.endswith("uploads")
        return "lost answer" if ends[request] == 1 else None

    mine, theirs = b"mine" * (size // 4), b"them" * (size // 4)
    Store(f"{s3.uri}/out").put("q", theirs)
    with Proxy(s3.endpoint, trouble=first) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = Store(f"{s3.uri}/out")
        assert store.commit_once("p", mine)
        assert not store.commit_once("q", mine)
        assert (store.read("p"), store.read("q")) == (mine, theirs)
        assert proxy.troubles["lost answer"] == 2


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


def test_an_unwritable_folder_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*: a folder stands where a file should be"):
        Store(tmp_path / "file" / "out").check_writable()


def test_an_unreachable_server_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(StorageError, match=r"after \d+ s of retries; check that the endpoint"):
        Store("s3://bucket/x", retry_budget_s=0.5).read("y")


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


def test_a_page_that_is_cut_short_or_leads_nowhere_is_none() -> None:
    assert not [at for at in range(len(AWS_PAGE)) if parse_page(AWS_PAGE[:at])]
    assert parse_page(AWS_PAGE.replace("NextContinuationToken", "NextMarker")) is None


def test_a_listing_whose_pages_are_cut_short_is_whole(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(s3.uri)
    for name in ("a", "b"):
        store.put(name, b"1")
    get = S3Lister._get
    monkeypatch.setattr(S3Lister, "_get", lambda *given: (200, get(*given)[1].partition("</Contents>")[0]))
    assert [entry.path for entry in store.list()] == ["a", "b"]


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
