"""Checkpoints of unfinished videos: rows so far and memory banks, saved while labelling for a later worker.

A checkpoint is one state file that names the row files it depends on; it is written whole or not at all. Names are
never reused, so a worker that is wrongly considered dead cannot damage the checkpoint of its successor. The state
contains the tracker's memory, so the labels equal those of an uninterrupted run.
"""

import json
import logging
import uuid
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.storage import MissingError, Store, checkpoint_dir, parse_path, part_path
from pipeline.storage.ownership import is_ours
from pipeline.storage.parquet import read_parquet, to_parquet
from pipeline.storage.paths import CHECKPOINT_STATE, CHECKPOINTS, checkpoint_rows_path, checkpoint_state_path

log = logging.getLogger(__name__)

CHECKPOINT_FORMAT = 1
"""Of the rows and of the tracker's state. Raised when this release cannot continue from an older checkpoint, or not to
the same masks: such a video is labelled from its first frame."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A loaded checkpoint: rows so far, and the tracker's state."""

    rows: list[pa.Table]
    tracker: bytes
    frames: int
    """Frames tracked so far."""


@dataclass(kw_only=True)
class Checkpoints:
    """The checkpoints of one video under one label key."""

    store: Store
    video_id: str
    label_key: str
    _row_files: list[str] = field(default_factory=list)
    _any: bool = False

    @property
    def _folder(self) -> str:
        return checkpoint_dir(self.video_id, self.label_key)

    def load(self) -> Saved | None:
        """The latest usable checkpoint, or None.

        A worker that is wrongly considered dead may save one meanwhile: listed files are gone then, or a listing shows
        neither the old one nor the new. So the result is None only when two consecutive listings agree.
        """
        looked = None
        while (found := sorted(_own_files(self.store, self._folder))) != looked:
            looked, self._any = found, self._any or bool(found)
            for state in reversed([path for path in found if path.endswith(CHECKPOINT_STATE)]):
                try:
                    return self._read(state)
                except (MissingError, ValueError, KeyError) as error:  # pa.ArrowInvalid is a ValueError
                    log.warning("cannot use the checkpoint %s: %s", state, error)
        return None

    def _read(self, state: str) -> Saved:
        header, _, tracker = self.store.read(state).partition(b"\n")
        record = json.loads(header)
        if (stated := record.get("format", 1)) != CHECKPOINT_FORMAT:  # release 0.1.0 does not state it
            raise ValueError(f"its format is {stated}, and this release continues from format {CHECKPOINT_FORMAT} only")
        rows = [read_parquet(self.store.read(path)) for path in record["rows"]]
        self._row_files = record["rows"]
        return Saved(rows=rows, tracker=tracker, frames=record["frames"])

    def save(self, *, new_rows: pa.Table, tracker: bytes, frames: int) -> None:
        """Save the rows added since the last checkpoint, then the state that refers to them."""
        name, self._any = uuid.uuid4().hex, True
        path = checkpoint_rows_path(self.video_id, self.label_key, name)
        self.store.put(path, to_parquet(new_rows))
        self._row_files = [*self._row_files, path]
        header = json.dumps({"format": CHECKPOINT_FORMAT, "frames": frames, "rows": self._row_files}).encode()
        state = checkpoint_state_path(self.video_id, self.label_key, frames=frames, name=name)
        self.store.put(state, header + b"\n" + tracker)
        states = [path for path in _own_files(self.store, self._folder) if path.endswith(CHECKPOINT_STATE)]
        self.store.delete_many(path for path in states if path < state)

    def remove(self) -> None:
        """Delete the checkpoints that were loaded or saved, once the video is committed."""
        if self._any:
            _delete(self.store, self._folder)


def unfinished(store: Store) -> set[tuple[str, str]]:
    """(video_id, label_key) of every checkpoint of an output."""
    found = (parse_path(entry.path) for entry in store.list(CHECKPOINTS))
    return {pair for pair in found if pair}


def remove_finished(store: Store) -> None:
    """Delete the checkpoints of committed videos: a run that lost its lease may save some after the commit."""
    for video_id, label_key in unfinished(store):
        if store.exists(part_path(video_id, label_key)):
            _delete(store, checkpoint_dir(video_id, label_key))


def _delete(store: Store, folder: str) -> None:
    """Delete our files in the folder itself; a worker that still writes there does not fail."""
    store.delete_many(_own_files(store, folder))


def _own_files(store: Store, folder: str) -> list[str]:
    return [entry.path for entry in store.list(folder) if is_ours(entry.path)]
