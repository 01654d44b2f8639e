"""The furthest usable checkpoint is found whatever another worker does to the folder meanwhile."""

import pytest

from pipeline.labels import MASKS
from pipeline.storage import Store
from pipeline.workers.checkpoint import Checkpoints

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


def test_one_of_another_version_does_not_hide_a_usable_one(store, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr("pipeline.workers.checkpoint.package_version", lambda _: "0")
        save(checkpoints(store), 2000)
    made = checkpoints(store)
    assert made.load() is None
    save(made, 1000)
    assert checkpoints(store).load().frames == 1000


def test_where_nothing_was_saved_there_is_none(store):
    assert checkpoints(store).load() is None
