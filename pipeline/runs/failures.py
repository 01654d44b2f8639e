"""Failure records that a run writes or removes before it labels anything."""

import time

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.labels.failures import Attempt, Failure, failure_of, write_failure
from pipeline.runs.prepare import Prepared
from pipeline.storage import redact

UNKNOWN_KEY = "unknown"
"""Label key of failures whose video cannot be reached: without its version there is no key."""


def write_unreadable(prepared: Prepared, run_id: str) -> list[Failure]:
    """Write a failure record for every video whose source was missing when the run was planned; returns the records."""
    failures = []
    for index, state in enumerate(prepared.plan.table["state"].to_pylist()):
        if state == "unreadable":
            video = prepared.manifest.video(index)
            place = prepared.manifest.place(index)
            message = f"{place}: cannot find {redact(video.video_uri)}; check that it exists and is readable"
            attempt = Attempt("storage", message, "", "driver", time.time())
            failure = failure_of(
                [attempt],
                video_id=video.video_id,
                label_key=UNKNOWN_KEY,
                run_id=run_id,
                earlier=prepared.failures.get(video.video_id, ()),
            )
            write_failure(prepared.store, failure)
            failures.append(failure)
    return failures


def remove_obsolete(prepared: Prepared) -> None:
    """Remove the records of sources that can be reached again, and of labels that another run has made since."""
    table = prepared.plan.table
    concerned = table.filter(pc.is_in(table["video_id"], value_set=pa.array(prepared.failures, pa.string())))
    columns = (concerned[name].to_pylist() for name in ("video_id", "label_key", "state"))
    for video_id, key, state in zip(*columns, strict=True):
        for failure in prepared.failures[video_id]:
            reachable = failure.label_key == UNKNOWN_KEY and state != "unreadable"
            if reachable or (failure.label_key == key and state == "labelled"):
                prepared.store.delete(failure.path)
