"""Kept states of a labelled video: from one of them its frames are tracked again after its prompts have changed.

Every state is a file of its own, written while the video is labelled. The index is written after the part was
committed: it names the states, and holds the digests of them and of the part. States without an index are not used, nor
those of another format, and a state with any other byte is ignored. They are deleted with their part.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.storage import MissingError, Store
from pipeline.storage.ownership import is_ours
from pipeline.storage.paths import CHECKPOINT_STATE, kept_state_path, states_dir, states_index_path
from pipeline.workers.checkpoint import CHECKPOINT_FORMAT
from pipeline.workers.kept import KeptState, thinned

log = logging.getLogger(__name__)

INDEX_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class StatesIndex:
    """The states that belong to a part."""

    environment: Mapping[str, str | None]
    """Device and software that computed them, see `tracking.environment`."""
    inputs: Mapping[str, str | None]
    """Inputs of the label key that a relabel may change: prompts, detections, association."""
    part_sha256: str
    states: Sequence[KeptState]


@dataclass(kw_only=True)
class KeptStates:
    """The states of one video under one label key, while it is labelled."""

    store: Store
    video_id: str
    label_key: str
    most: int
    states: list[KeptState] = field(default_factory=list)
    _written: set[str] = field(default_factory=set)

    @property
    def last(self) -> int:
        """Labelled frames at the last state."""
        return self.states[-1].frames if self.states else 0

    def adopt(self, states: Sequence[KeptState]) -> None:
        """Take over states of frames before those that are tracked now; those of earlier labels are copied."""
        stay = set(thinned([each.frames for each in states], self.most))
        own = states_dir(self.video_id, self.label_key)
        for each in states:
            if each.path.startswith(f"{own}/"):
                self.states.append(each)
            elif each.frames in stay:
                try:
                    self.keep(read_state(self.store, each), frames=each.frames, before=each.before)
                except (MissingError, ValueError) as error:
                    log.warning("a state of the earlier labels is not kept: %s", error)

    def keep(self, state: bytes, *, frames: int, before: int) -> None:
        """Write a state, and delete those that are then too close to each other."""
        path = kept_state_path(self.video_id, self.label_key, frames=frames, name=uuid.uuid4().hex)
        self.store.put(path, state)
        self._written.add(path)
        made = KeptState(frames=frames, before=before, path=path, size=len(state), sha256=_sha256(state))
        states = [each for each in self.states if each.frames < frames] + [made]
        stay = set(thinned([each.frames for each in states], self.most))
        self.states = [each for each in states if each.frames in stay]
        self._delete({each.path for each in states} - {each.path for each in self.states})

    def commit(self, part: bytes | Path, *, environment: Mapping[str, str | None], inputs: Mapping[str, Any]) -> None:
        """Write the index, now that the part is committed, and delete states of other attempts."""
        record = {
            "format": INDEX_FORMAT,
            "tracker_format": CHECKPOINT_FORMAT,
            "environment": dict(environment),
            "inputs": dict(inputs),
            "part_sha256": _sha256(part) if isinstance(part, bytes) else _digest_of(part),
            "states": [asdict(each) for each in self.states],
        }
        text = json.dumps({**record, "sha256": _digest(record)}).encode()
        self.store.put(states_index_path(self.video_id, self.label_key), text)
        found = (entry.path for entry in self.store.list(states_dir(self.video_id, self.label_key)))
        self._delete({path for path in found if path.endswith(CHECKPOINT_STATE)} - {each.path for each in self.states})

    def discard(self) -> None:
        """Delete the states that were written here, because another worker committed the part."""
        self._delete(self._written)

    def _delete(self, paths: set[str]) -> None:
        self.store.delete_many(path for path in sorted(paths) if is_ours(path))


def read_index(store: Store, video_id: str, label_key: str) -> StatesIndex | None:
    """The states that belong to the part of a label key; None without an index.

    Raises:
        ValueError: The index is damaged, or of another format.
        KeyError, TypeError: It is damaged.
    """
    data = store.read_or_none(states_index_path(video_id, label_key))
    if data is None:
        return None
    record = dict(json.loads(data))
    if record.pop("sha256") != _digest(record):
        raise ValueError("its index is damaged")
    if (record["format"], record["tracker_format"]) != (INDEX_FORMAT, CHECKPOINT_FORMAT):
        raise ValueError("their format is that of another release")
    return StatesIndex(
        environment=record["environment"],
        inputs=record["inputs"],
        part_sha256=record["part_sha256"],
        states=[KeptState(**each) for each in record["states"]],
    )


def read_state(store: Store, state: KeptState) -> bytes:
    """The bytes of a state.

    Raises:
        MissingError: It is not there.
        ValueError: It is damaged.
    """
    data = store.read(state.path)
    if _sha256(data) != state.sha256:
        raise ValueError(f"{state.path} is damaged: its bytes are not those that were saved")
    return data


def _digest(record: Mapping[str, Any]) -> str:
    return _sha256(json.dumps(record, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
