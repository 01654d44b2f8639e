"""Failed attempts: their causes, how many a video has, and the records of videos that have used them up."""

import json
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.storage import Store, failure_path
from pipeline.storage.ownership import is_ours
from pipeline.storage.paths import FAILURES

log = logging.getLogger(__name__)

WORKER_FATAL = frozenset({"cuda"})
"""Causes after which the worker process must be replaced: CUDA stays unusable after any error but out of memory."""

RETRY_SOLO = WORKER_FATAL | {"killed", "oom", "deadline", "hang", "crash"}
"""Causes that end or endanger a worker: the video is retried alone on a worker, to identify the cause."""

MAX_ATTEMPTS = {**dict.fromkeys(RETRY_SOLO, 2), "exception": 2, "storage": 3}
"""Failed attempts by one cause after which a video goes to quarantine; 1 for any other cause, which would repeat."""

RETRIED_UNASKED = frozenset({"storage"})
"""Failure classes that are not the video's fault: the next run retries the video."""

READERS = 32


@dataclass(frozen=True)
class Attempt:
    """One failed attempt at a video."""

    cause: str
    """The failure class, if it is the last attempt."""
    message: str
    traceback: str
    worker: str
    """Name and node of the worker."""
    at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The record of a video in quarantine, under the label key that it failed with."""

    video_id: str
    label_key: str
    failure_class: str
    """Cause of the last attempt."""
    message: str
    traceback: str
    worker: str
    time: str
    """UTC, ISO 8601."""
    run_id: str
    attempts: list[dict[str, Any]]
    """Fields of each Attempt, in order."""
    first_run_id: str | None = None
    """The run in which the video first failed with this class under this key; None if it is `run_id`."""

    @property
    def since_run(self) -> str:
        """The run in which the video first failed with this class under this key."""
        return self.first_run_id or self.run_id

    @property
    def path(self) -> str:
        """Path of the record below the output."""
        return failure_path(self.video_id, self.label_key)


def failure_of(
    attempts: Sequence[Attempt], *, video_id: str, label_key: str, run_id: str, earlier: Iterable[Failure] = ()
) -> Failure:
    """The record of a video whose attempts are used up; its class is the cause of the last attempt.

    `earlier` are the records that the video has so far: a failure of the same class under the same key is not new.
    """
    last = attempts[-1]
    same = [each.since_run for each in earlier if (each.label_key, each.failure_class) == (label_key, last.cause)]
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
        first_run_id=same[0] if same else None,
    )


def write_failure(store: Store, failure: Failure) -> None:
    """Write a failure record; replaces an older one of the same video and label key."""
    store.put(failure.path, json.dumps(asdict(failure), indent=1).encode())


def read_failures(store: Store) -> list[Failure]:
    """All failure records of an output, in the order of their paths; a damaged one is ignored with a warning."""
    paths = [entry.path for shard in store.list_sharded(FAILURES) for entry in shard if is_ours(entry.path)]
    with ThreadPoolExecutor(READERS) as threads:
        found = threads.map(store.read_or_none, paths)  # jobs.retry may delete one during the listing
        records = [_parsed(path, data) for path, data in zip(paths, found, strict=True) if data is not None]
    return [record for record in records if record]


def _parsed(path: str, data: bytes) -> Failure | None:
    try:
        return Failure(**json.loads(data))
    except (ValueError, TypeError) as error:
        log.warning("cannot read the failure record %s, so its video is tried again: %s", path, error)
        return None
