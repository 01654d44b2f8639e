"""Checkpoints of unfinished videos: rows so far and memory banks, saved while labelling for a later worker.

A checkpoint is one state file that names the row files it depends on; it is written whole or not at all. Names are
never reused, so a worker that is wrongly considered dead cannot damage the checkpoint of its successor. The state
contains the tracker's memory, so the labels equal those of an uninterrupted run. It also contains the digests of all
that was saved: a checkpoint with any other byte is ignored, because it could continue to wrong masks without an error.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar

import pyarrow as pa

from pipeline.storage import MissingError, Store, checkpoint_dir, parse_path, part_path
from pipeline.storage.ownership import is_ours
from pipeline.storage.parquet import read_parquet, to_parquet
from pipeline.storage.paths import CHECKPOINT_STATE, CHECKPOINTS, checkpoint_rows_path, checkpoint_state_path
from pipeline.workers.earlier import Earlier, fetch_part, read_rows
from pipeline.workers.kept import KeptState

log = logging.getLogger(__name__)

CHECKPOINT_FORMAT = 1
"""Format of the rows and the tracker's state. Increase it if this release cannot continue from an older checkpoint to
the same masks; such a video is then labelled from its first frame."""

RELABEL_FORMAT = 2
"""Format of checkpoints whose rows begin with those of earlier labels; earlier releases do not continue them."""

T = TypeVar("T")

UNUSABLE = (MissingError, ValueError, KeyError, TypeError, OSError, pa.ArrowException)
"""What reading a damaged checkpoint or state raises. The storage's own errors, except of a missing file, are none of
these."""


@dataclass(frozen=True, kw_only=True)
class Saved(Generic[T]):
    """A loaded checkpoint: rows so far, and the tracker that continues from there."""

    rows: list[pa.Table]
    tracker: T
    frames: int
    """Frames tracked so far, those of earlier labels included."""
    earlier: Earlier | None = None
    """Which rows of earlier labels come before `rows`."""
    earlier_rows: Iterable[pa.Table] = ()
    states: Sequence[KeptState] = ()
    """Kept states of the frames so far."""


@dataclass(kw_only=True)
class Checkpoints:
    """The checkpoints of one video under one label key."""

    store: Store
    video_id: str
    label_key: str
    _row_files: dict[str, str] = field(default_factory=dict)
    """SHA-256 by path, in the order in which they were saved."""
    _any: bool = False

    @property
    def _folder(self) -> str:
        return checkpoint_dir(self.video_id, self.label_key)

    def load(self, resume: Callable[[bytes], T]) -> Saved[T] | None:
        """The latest usable checkpoint, or None; logs a warning for each one that is damaged.

        `resume` makes a tracker from the state that was saved, or raises ValueError where that is unusable.

        A worker that is wrongly considered dead may save one during the listing: listed files are then deleted, or the
        listing shows neither the old nor the new checkpoint. So None needs two consecutive listings that agree.
        """
        looked = None
        while (found := sorted(_own_files(self.store, self._folder))) != looked:
            looked, self._any = found, self._any or bool(found)
            for state in reversed([path for path in found if path.endswith(CHECKPOINT_STATE)]):
                try:
                    return self._read(state, resume)
                except UNUSABLE as error:
                    log.warning("cannot use the checkpoint %s: %s", state, error)
        return None

    def _read(self, state: str, resume: Callable[[bytes], T]) -> Saved[T]:
        header, _, tracker = self.store.read(state).partition(b"\n")
        record = dict(json.loads(header))
        stated, given = record.get("format", CHECKPOINT_FORMAT), record.get("earlier")  # release 0.1.0 states no format
        if stated != (RELABEL_FORMAT if given else CHECKPOINT_FORMAT):
            raise ValueError(f"its format is {stated}, and this release continues from format {CHECKPOINT_FORMAT} only")
        files = {path: self.store.read(path) for path in record["rows"]}
        digests = {path: _sha256(data) for path, data in files.items()}
        stated_digest, row_digests = record.pop("sha256", None), record.get("rows_sha256")
        if (stated_digest, row_digests) != (None, None) and (  # release 0.1.0 states neither
            stated_digest != _state_digest(record, tracker) or row_digests != [*digests.values()]
        ):
            raise ValueError("it is damaged: its bytes are not those that were saved")
        saved = Saved(
            rows=[read_parquet(data) for data in files.values()],
            tracker=resume(tracker),
            frames=record["frames"],
            states=[KeptState(**each) for each in record.get("states", ())],
        )
        if given:
            earlier = Earlier(**given)
            part = fetch_part(self.store, self.video_id, earlier.label_key, earlier.part_sha256)
            saved = replace(saved, earlier=earlier, earlier_rows=read_rows(part, before=earlier.before))
        self._row_files = digests
        return saved

    def save(
        self,
        *,
        new_rows: pa.Table,
        tracker: bytes,
        frames: int,
        earlier: Earlier | None = None,
        states: Sequence[KeptState] = (),
    ) -> None:
        """Save the rows added since the last checkpoint, then the state that refers to them, and what was kept so far.

        Rows of `earlier` labels are not among the new rows: they are read from their part.
        """
        name, self._any = uuid.uuid4().hex, True
        path = checkpoint_rows_path(self.video_id, self.label_key, name)
        rows = to_parquet(new_rows)
        self.store.put(path, rows)
        self._row_files = {**self._row_files, path: _sha256(rows)}
        record = {
            "format": RELABEL_FORMAT if earlier else CHECKPOINT_FORMAT,
            "frames": frames,
            "rows": [*self._row_files],
            "rows_sha256": [*self._row_files.values()],
            **({"earlier": asdict(earlier)} if earlier else {}),
            **({"states": [asdict(each) for each in states]} if states else {}),
        }
        header = json.dumps({**record, "sha256": _state_digest(record, tracker)}).encode()
        state = checkpoint_state_path(self.video_id, self.label_key, frames=frames, name=name)
        self.store.put(state, header + b"\n" + tracker)
        saved = [path for path in _own_files(self.store, self._folder) if path.endswith(CHECKPOINT_STATE)]
        self.store.delete_many(path for path in saved if path < state)

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


def _state_digest(record: dict[str, Any], tracker: bytes) -> str:
    """SHA-256 of a state file without its own digest."""
    return _sha256(json.dumps(record).encode() + b"\n" + tracker)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _delete(store: Store, folder: str) -> None:
    """Delete our files in the folder itself; a worker that still writes there does not fail."""
    store.delete_many(_own_files(store, folder))


def _own_files(store: Store, folder: str) -> list[str]:
    return [entry.path for entry in store.list(folder) if is_ours(entry.path)]
