"""What a newer release wrote is refused with its format version; what states none is of format 1."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import doctor, forget, publish, query
from pipeline.labels import read_part
from pipeline.labels.part import FORMAT_METADATA
from pipeline.storage import Store, part_path
from pipeline.storage.format_version import FORMAT, NewerFormatError, check_format
from pipeline.storage.paths import MARKER, PUBLISH_STATE
from pipeline.tables import open_table
from pipeline.tables import publish as publish_labels
from pipeline.tables.delta import FORMAT_PROPERTY
from tests.tables.corpora import check, commit, key, make_part, run_id, want

A, B = key("A"), key("B")
NEWER = f"was made by a newer sam2-corpus: format {FORMAT + 1}, this version reads up to {FORMAT}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One published video and one that is committed."""
    store = Store(tmp_path / "out")
    commit(store, "v", A)
    want(store, run_id(1), {"v": A})
    publish_labels(store)
    commit(store, "w", B)
    want(store, run_id(2), {"w": B})
    return store


def newer_marker(store: Store) -> None:
    store.put(MARKER, json.dumps({"format": FORMAT + 1, "id": "x"}).encode())


def newer_table(store: Store) -> None:
    table = open_table(store, "videos")
    assert table
    table.alter.set_table_properties({FORMAT_PROPERTY: str(FORMAT + 1)}, raise_if_not_exists=False)


def newer_state(store: Store) -> None:
    data, stated = store.read(PUBLISH_STATE), b"sam2-corpus:format"
    assert data.count(stated) == 1
    at = data.index(stated) + len(stated)
    digit = data.index(str(FORMAT).encode(), at)
    store.put(PUBLISH_STATE, data[:digit] + str(FORMAT + 1).encode() + data[digit + 1 :])


def newer_part(store: Store) -> None:
    store.put(part_path("w", B), newer(make_part("w", B)))


def newer(part: bytes) -> bytes:
    at = part.rindex(FORMAT_METADATA) + len(FORMAT_METADATA)
    digit = part.index(str(FORMAT).encode(), at)
    return part[:digit] + str(FORMAT + 1).encode() + part[digit + 1 :]


@pytest.mark.parametrize("made_newer", [newer_marker, newer_table, newer_state, newer_part])
def test_what_a_newer_release_wrote_is_neither_published_nor_repaired(
    store: Store, made_newer: Callable[[Store], None], capsys: pytest.CaptureFixture[str]
) -> None:
    made_newer(store)
    part = store.read(part_path("w", B))
    assert publish.main([store.uri]) == 2
    assert NEWER in capsys.readouterr().err
    if made_newer is not newer_state:
        assert doctor.main([store.uri, "--repair"]) == 2
        assert NEWER in capsys.readouterr().err
    assert store.read(part_path("w", B)) == part


@pytest.mark.parametrize("made_newer", [newer_marker, newer_table])
def test_labels_of_a_newer_release_are_not_read(
    store: Store, made_newer: Callable[[Store], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_newer(store)
    (tmp_path / "ids").write_text("v\n")
    assert forget.main([store.uri, "--video-ids", str(tmp_path / "ids")]) == 2
    assert NEWER in capsys.readouterr().err
    if made_newer is newer_table:
        assert query.main([store.uri, "SELECT count(*) FROM videos"]) == 2
        assert NEWER in capsys.readouterr().err


def test_a_part_of_a_newer_release_is_not_read() -> None:
    with pytest.raises(NewerFormatError, match=f"the label part {NEWER}"):
        read_part(newer(make_part("v", A)))


def test_an_absent_format_is_the_first_one(store: Store) -> None:
    check_format(None, what="it")
    store.delete(MARKER)
    publish_labels(store)
    check(store, {"v": A, "w": B})


@pytest.mark.parametrize("stated", [FORMAT + 1, "99", b"3", "two", [2], "-1"])
def test_a_format_that_is_not_known_is_refused(stated: object) -> None:
    with pytest.raises(NewerFormatError, match=r"^it was made by a newer sam2-corpus: format "):
        check_format(stated, what="it")


def test_everything_written_states_the_format(store: Store) -> None:
    publish_labels(store)
    for name in ("masks", "masklets", "videos"):
        table = open_table(store, name)
        assert table
        assert table.metadata().configuration[FORMAT_PROPERTY] == str(FORMAT)
    assert json.loads(store.read(MARKER))["format"] == FORMAT
    assert store.read(PUBLISH_STATE).count(b"sam2-corpus:format") >= 1
