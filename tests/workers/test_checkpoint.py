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
    saved = mine.load()
    assert (saved.frames, saved.tracker, len(saved.rows)) == (2000, b"2000", 2)
    save(mine, 3000)
    assert len(checkpoints(store).load().rows) == 3
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
    assert made.load() is None
    save(made, 1000)
    assert checkpoints(store).load().frames == 1000


def test_one_of_release_0_1_0_is_continued(store):
    save(checkpoints(store), 2000)
    with_header(store, format=None, package_version="0.1.0")
    assert checkpoints(store).load().frames == 2000


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


def test_where_nothing_was_saved_there_is_none(store):
    assert checkpoints(store).load() is None
