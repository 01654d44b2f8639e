"""Failure records: why a video has no labels, kept beside them until it is labelled or asked to be tried again."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.labels.attempts import Attempt
from pipeline.storage import Store, failure_path, parse_path
from pipeline.storage.paths import FAILURES

RETRIED_UNASKED = frozenset({"storage", "node"})
"""Classes that say nothing about the video itself: the next run tries again."""

READERS = 32


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One video in quarantine under the label key that it failed with."""

    video_id: str
    label_key: str
    failure_class: str
    message: str
    traceback: str
    worker: str
    time: str
    """UTC, ISO 8601."""
    run_id: str
    attempts: list[dict[str, Any]]

    @property
    def path(self) -> str:
        """Where the record lies below the output."""
        return failure_path(self.video_id, self.label_key)


def failure_of(attempts: Sequence[Attempt], *, video_id: str, label_key: str, run_id: str) -> Failure:
    """The record of a video whose attempts are used up; the last attempt gives its class."""
    last = attempts[-1]
    return Failure(
        video_id=video_id,
        label_key=label_key,
        failure_class=last.cause,
        message=last.message,
        traceback=last.traceback,
        worker=last.worker,
        time=datetime.fromtimestamp(last.at, UTC).isoformat(timespec="seconds"),
        run_id=run_id,
        attempts=[asdict(attempt) for attempt in attempts],
    )


def write_failure(store: Store, failure: Failure) -> None:
    """Put a video into quarantine, replacing an older record of the same key."""
    store.put(failure.path, json.dumps(asdict(failure), indent=1).encode())


def read_failures(store: Store) -> list[Failure]:
    """All failure records of an output, in the order of their paths."""
    paths = [entry.path for shard in store.list_sharded(FAILURES) for entry in shard if parse_path(entry.path)]
    with ThreadPoolExecutor(READERS) as threads:
        found = threads.map(store.read_or_none, paths)  # one may be removed by jobs.retry meanwhile
        return [Failure(**json.loads(data)) for data in found if data is not None]
