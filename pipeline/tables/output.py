"""Whether a folder is an output: marked at the first run, recognized if release 0.1.0 made it, otherwise refused.

An output holds labels, or the detections of jobs.detect; both have parts, failures, runs and leases in one layout.
A dataset folder may have its own videos/, masks/, parts/ or runs/. Nothing is written to such a folder.
"""

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Literal

import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.storage import Entry, Store
from pipeline.storage.format_version import FORMAT, check_format
from pipeline.storage.ownership import is_ours, is_unfinished_write
from pipeline.storage.parquet import read_parquet
from pipeline.storage.paths import (
    DETECTIONS_TABLE,
    MARKER,
    NIGHTS,
    OUTPUT_FOLDERS,
    PUBLISH_STATE,
    RUNS,
    attempt_dir,
    wanted_path,
)
from pipeline.tables.delta import TABLES, open_table

Kind = Literal["labels", "detections"]
"""What an output holds; its marker states it, except for labels."""

SHOWN = 3
"""Foreign files that an error names."""
SHOWN_RUNS = 5
"""Runs that an error names."""


def claim_output(store: Store, kind: Kind | None = "labels") -> None:
    """Mark a folder as an output, unless it is marked or holds foreign files under names of an output.

    Args:
        store: the folder.
        kind: what it holds; None keeps what it is, for readers of either kind.

    Raises:
        UsageError: The folder holds foreign files under names that an output uses, a newer release made it, or it is an
            output of another kind.
    """
    if not check_output(store, kind):
        marker = {"format": FORMAT, "id": uuid.uuid4().hex, "created": datetime.now(UTC).isoformat(timespec="seconds")}
        if kind == "detections":
            marker["kind"] = kind
        store.commit_once(MARKER, json.dumps(marker).encode())


def check_output(store: Store, kind: Kind | None = "labels") -> bool:
    """Whether a folder is marked as an output; False for one that may be marked. Writes nothing.

    Raises:
        UsageError: As `claim_output`.
    """
    if (data := store.read_or_none(MARKER)) is not None:
        try:
            marker = json.loads(data)
            stated, held = marker["format"], marker.get("kind", "labels")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{store}/{MARKER} is not the marker of an output; choose another folder") from None
        check_format(stated, what=str(store))
        if kind not in (None, held):
            raise UsageError(f"{store} is an output of {held}, not of {kind}; choose another folder")
        return True
    earlier = kind != "detections" and _made_by_earlier_release(store)
    names = OUTPUT_FOLDERS if kind == "labels" else (*OUTPUT_FOLDERS, DETECTIONS_TABLE)
    if not earlier and (foreign := list(islice(_foreign(store, names), SHOWN + 1))):
        if store.exists(MARKER):  # another process has just created the output
            return check_output(store, kind)
        shown = ", ".join(foreign[:SHOWN]) + (" and more" if len(foreign) > SHOWN else "")
        raise UsageError(
            f"{store} holds files of others under names that an output uses: {shown}; "
            f"choose another folder, such as {store}/labels"
        )
    return False


def unfinished_writes(store: Store) -> list[Entry]:
    """What our processes are writing to an output, or were writing when they were killed.

    Only folders of an output are listed: others beside them may be large, unreadable or links to anywhere.
    """
    found = (entry for folder in OUTPUT_FOLDERS for entry in store.unfinished_writes(folder))
    return [entry for entry in found if is_unfinished_write(entry.path)]


def require_output(store: Store, kind: Kind | None = "labels") -> None:
    """Refuse a folder that is not an output, such as a misspelled one. Writes nothing.

    Raises:
        UsageError: Nothing at this place is ours; or as `claim_output`.
    """
    if not check_output(store, kind) and not set(OUTPUT_FOLDERS) & set(store.list_dirs("")):
        raise UsageError(f"{store} is not an output: no run has written labels there; check the path")


def require_run(store: Store, run: str) -> None:
    """Refuse the id of a run that the output does not have.

    Raises:
        UsageError: It has no such run; the message names the last ones.
    """
    names = store.list_dirs(RUNS)
    if run not in names:
        raise UsageError(f"{store} has no run {run!r}; the last are {', '.join(names[-SHOWN_RUNS:]) or 'none'}")


def _made_by_earlier_release(store: Store) -> bool:
    """Whether the folder has one of our tables or a run's record; every output of release 0.1.0 has the latter."""
    folders = store.list_dirs("")
    return any(_is_our_table(store, name) for name in TABLES if name in folders) or (
        RUNS in folders and any(_is_our_run(store, run) for run in store.list_dirs(RUNS))
    )


def _is_our_table(store: Store, name: str) -> bool:
    try:
        return open_table(store, name) is not None
    except UsageError:  # a foreign Delta table
        return False


def _is_our_run(store: Store, run: str) -> bool:
    data = store.read_or_none(wanted_path(run))
    if data is None:
        return False
    try:
        return {"video_id", "label_key"} <= set(read_parquet(data).schema.names)
    except (pa.ArrowInvalid, OSError):
        return False


def _foreign(store: Store, names: Iterable[str]) -> Iterator[str]:
    """Files under names that an output uses and that this package cannot have written."""
    for name in names:
        if store.exists(name):
            yield name
        yield from (
            entry.path for entry in store.list(name) if name in TABLES or not _is_of_an_output(store, entry.path)
        )


def _is_of_an_output(store: Store, path: str) -> bool:
    """Whether this package wrote a file, though no run recorded what it wants.

    Some of its names are ordinary: a night's report counts only beside the first attempt at the night, and the state of
    publications only where there is a run.
    """
    if path == PUBLISH_STATE:
        return False
    night = re.fullmatch(rf"{NIGHTS}/([^/]+)/report\.(json|html)", path)
    return is_ours(path) and (night is None or store.exists(f"{attempt_dir(night[1], 1)}/started.json"))
