"""Of many writers of one object exactly one wins, and a lost answer is found out."""

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.storage import Store
from pipeline.storage.backends.s3 import S3Backend
from tests.fixtures_s3 import S3
from tests.proxy import Proxy, Trouble


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


def test_an_object_of_several_uploads_is_created_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Backend, "upload_options", {"chunksize": 5 * 2**20, "max_concurrency": 2})
    first, second = b"1" * (11 * 2**20), b"2" * (11 * 2**20)
    assert store.commit_once("big", first)
    assert not store.commit_once("big", second)
    assert store.read("big") == first
    store.put("big", second)
    assert store.read("big") == second


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


def test_other_refusals_are_not_taken_for_a_lost_race(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy(s3.endpoint, trouble=lambda request: "bad digest" if request.startswith("PUT ") else None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(StorageError, match=r"cannot write s3://.*/out/p: .*(?i:bad ?digest)"):
            Store(f"{s3.uri}/out").commit_once("p", b"x")
        assert proxy.troubles["bad digest"] == 1


@pytest.mark.parametrize(("size", "end"), [(4, "PUT "), (11 * 2**20, "POST ")], ids=["one request", "several"])
def test_a_commit_whose_answer_was_lost_counts_as_ours(
    size: int, end: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3Backend, "upload_options", {"chunksize": 5 * 2**20, "max_concurrency": 2})
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
