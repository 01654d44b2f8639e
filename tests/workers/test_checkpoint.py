"""The furthest usable checkpoint is found whatever another worker does to the folder meanwhile."""

import json

import pytest

from pipeline.labels import MASKS
from pipeline.storage import Store
from pipeline.workers.checkpoint import CHECKPOINT_FORMAT, Checkpoints

KEY = "ab"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def checkpoints(store):
    return Checkpoints(store=store, video_id="v", label_key=KEY)


def save(made, frames):
    made.save(new_rows=MASKS.empty_table(), tracker=b"%d" % frames, frames=frames)


class Overtaken(Store):
    """While it lists for the first time, another worker saves: `shown` says what of the listing is seen."""

    def __init__(self, uri, other, shown):
        super().__init__(uri)
        self.other, self.shown = other, shown

    def list(self, *given):
        found = list(super().list(*given))
        if self.other:
            save(self.other, 2000)
            self.other, found = None, found if self.shown else []
        return iter(found)


@pytest.mark.parametrize("shown", [True, False], ids=["lists what is then deleted", "lists neither"])
def test_a_checkpoint_saved_while_another_is_loaded_is_found(store, shown):
    other = checkpoints(store)
    save(other, 1000)
    mine = checkpoints(Overtaken(store.uri, other, shown))
    saved = mine.load(bytes)
    assert (saved.frames, saved.tracker, len(saved.rows)) == (2000, b"2000", 2)
    save(mine, 3000)
    assert len(checkpoints(store).load(bytes).rows) == 3
    mine.remove()
    assert list(store.list()) == []


def with_header(store, **changed):
    """Change the header of the one state file that is there; None removes a field."""
    (path,) = (entry.path for entry in store.list() if entry.path.endswith(".state"))
    header, _, tracker = store.read(path).partition(b"\n")
    record = {name: value for name, value in (json.loads(header) | changed).items() if value is not None}
    store.put(path, json.dumps(record).encode() + b"\n" + tracker)


def test_one_of_another_format_does_not_hide_a_usable_one(store):
    save(checkpoints(store), 2000)
    with_header(store, format=CHECKPOINT_FORMAT + 1)
    made = checkpoints(store)
    assert made.load(bytes) is None
    save(made, 1000)
    assert checkpoints(store).load(bytes).frames == 1000


def test_one_of_release_0_1_0_is_continued(store):
    save(checkpoints(store), 2000)
    without_digests(store)
    assert checkpoints(store).load(bytes).frames == 2000


def without_digests(store):
    """Make the one checkpoint that is there one of release 0.1.0."""
    with_header(store, format=None, sha256=None, rows_sha256=None, package_version="0.1.0")


def damaged(data, *, every=1):
    """The bytes cut short at every n-th place, and with one bit flipped there."""
    for place in range(0, len(data), every):
        yield data[:place]
        yield data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


@pytest.mark.parametrize("suffix", [".state", ".parquet"])
def test_one_with_any_damaged_byte_is_ignored_with_a_warning(store, suffix, caplog):
    save(checkpoints(store), 1000)
    (path,) = (entry.path for entry in store.list() if entry.path.endswith(suffix))
    for count, data in enumerate(damaged(store.read(path), every=5 if suffix == ".state" else 101), start=1):
        store.put(path, data)
        assert checkpoints(store).load(bytes) is None
        assert len(caplog.messages) == count
        assert "cannot use the checkpoint checkpoints/" in caplog.messages[-1]


@pytest.mark.parametrize("suffix", [".state", ".parquet"])
def test_damage_of_one_of_release_0_1_0_raises_nothing(store, suffix):
    save(checkpoints(store), 1000)
    without_digests(store)
    (path,) = (entry.path for entry in store.list() if entry.path.endswith(suffix))
    for data in damaged(store.read(path), every=5 if suffix == ".state" else 101):
        store.put(path, data)
        checkpoints(store).load(bytes)


def test_one_whose_tracker_refuses_is_ignored_and_its_rows_are_not_kept(store):
    def refuse(state):
        raise ValueError(f"{state!r} is no state")

    save(checkpoints(store), 1000)
    made = checkpoints(store)
    assert made.load(refuse) is None
    save(made, 2000)
    assert len(checkpoints(store).load(bytes).rows) == 1


def test_files_of_others_in_the_folder_of_a_checkpoint_stay(store):
    made = checkpoints(store)
    save(made, 1000)
    (folder,) = {entry.path.rpartition("/")[0] for entry in store.list()}
    foreign = [f"{folder}/notes.txt", f"{folder}/000000000001-mine.state", f"{folder}/mine.parquet"]
    for path in foreign:
        store.put(path, b"mine")
    save(made, 2000)
    made.remove()
    assert [entry.path for entry in store.list()] == sorted(foreign)


def test_without_a_saved_checkpoint_there_is_none(store):
    assert checkpoints(store).load(bytes) is None
