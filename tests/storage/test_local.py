"""Local folders: crashes, full disks, links and races between processes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.storage import MissingError, Storage, Store, open_source, source_versions


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


def test_a_concurrently_removed_folder_is_created_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(StorageError, match=r"cannot write .*: expected a directory, found a file"):
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
from pipeline.storage import MissingError, Storage, Store, open_source, source_versions
os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Store(sys.argv[1]).commit_once("parts/00/v/key", b"labels")
"""


def test_unfinished_writes_are_not_listed_and_can_be_deleted(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    store = Store(tmp_path)
    store.put("parts/01/v/key", b"others")
    assert [entry.path for entry in store.list()] == ["parts/01/v/key"]
    (left,) = store.unfinished_writes("parts")
    assert store.read(left.path) == b"labels"
    assert store.delete_prefix("parts/00/v") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "parts/01/v/key"]


def test_a_local_folder_that_cannot_be_listed_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    store = Store(tmp_path)
    for use in (lambda: list(store.list("loop")), lambda: store.list_dirs("loop"), lambda: store.info("loop/x")):
        with pytest.raises(StorageError, match=r"cannot l.* .*loop.*: Too many levels of symbolic links"):
            use()


def test_an_unwritable_folder_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*: expected a directory, found a file"):
        Store(tmp_path / "file" / "out").check_writable()


def test_links_are_followed_and_cycles_end(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "clip.mp4").write_bytes(b"123")
    (out := tmp_path / "out").mkdir()
    (out / "file.mp4").symlink_to(elsewhere / "clip.mp4")
    (out / "folder").symlink_to(elsewhere)
    (out / "gone.mp4").symlink_to(tmp_path / "nowhere")
    (out / "loop").symlink_to("loop")
    (elsewhere / "back").symlink_to(out)
    (elsewhere / "self").symlink_to(".")
    store = Store(out)
    assert [(entry.path, entry.size) for entry in store.list()] == [("file.mp4", 3), ("folder/clip.mp4", 3)]
    assert store.list_dirs() == ["folder"]
    assert store.read("folder/clip.mp4") == b"123"
    file, version = open_source(elsewhere / "clip.mp4")
    file.close()
    assert source_versions([store.uri_of("folder/clip.mp4")]) == [version]


def test_home_folders_and_file_urls_are_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "ü.mp4").write_bytes(b"123")
    written = ["~/a b/ü.mp4", (tmp_path / "a b/ü.mp4").as_uri(), f"file://localhost{tmp_path}/a%20b/%C3%BC.mp4"]
    assert "%20" in written[1]
    for uri in written:
        with open_source(uri)[0] as file:
            assert file.read() == b"123"
    assert {version and version.size for version in source_versions(written)} == {3}
    assert Store("~/out").uri == str(tmp_path / "out")
    with pytest.raises(MissingError, match=r"cannot open ~nobody-here/x: it does not exist"):
        open_source("~nobody-here/x")
    (tmp_path / "100%25").write_bytes(b"1")  # earlier versions took file URLs literally
    assert Store((tmp_path / "100%").as_uri()).uri.endswith("/100%25")


def test_a_storage_configuration_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "s.toml").write_text('["s3://b"]\nendpoint = "http://h"\n')
    assert Storage.from_toml("~/s.toml").access("s3://b/x").endpoint == "http://h"
