"""Every path below an output. Video ids become names that cannot climb out, hide or collide.

    parts/HH/VIDEO/KEY.parquet                  committed labels of one video under one label key
    failures/HH/VIDEO/KEY.json                  why a video has no labels
    checkpoints/HH/VIDEO/KEY/                   unfinished long videos: FRAMES-NAME.state and NAME.parquet
    states/HH/VIDEO/KEY/                        states of labelled videos: FRAMES-NAME.state and index.json
    corrections/HH/VIDEO/NAME.json              prompts that replace those of manifests, or their removal
    runs/RUN/                                   wanted.parquet, run.json, progress.json, detections.parquet
    nights/NIGHT/                               report.json, report.html and attempt-NNN/
    leases/SHARD/NNNNNNNNN.json                 which driver is running
    publish/                                    state.parquet, intents/, history/, pins/; the publishers' leases: turns/
    masks/ masklets/ videos/                    Delta tables
    sam2-corpus.json                            marks the folder as an output: format version, id and kind
    detections.parquet                          all detections, in an output of jobs.detect, whose parts hold detections
    probes/                                     empty objects that prove write access, deleted at once

HH is the first byte of the SHA-256 of the video id, VIDEO the id percent-quoted, KEY the label key.
"""

import hashlib
import re
from urllib.parse import quote, unquote

from pipeline.errors import UsageError

PARTS = "parts"
FAILURES = "failures"
CHECKPOINTS = "checkpoints"
STATES = "states"
CORRECTIONS = "corrections"
RUNS = "runs"
NIGHTS = "nights"
LEASES = "leases"
PUBLISH = "publish"
PROBES = "probes"
MASKS_TABLE = "masks"
MASKLETS_TABLE = "masklets"
VIDEOS_TABLE = "videos"
DELTA_LOG = "_delta_log"
MARKER = "sam2-corpus.json"
DETECTIONS_TABLE = "detections.parquet"

PUBLISH_STATE = f"{PUBLISH}/state.parquet"
"""Wanted labels that are not in the tables yet, and the runs that are taken into account."""
PUBLISH_INTENTS = f"{PUBLISH}/intents"
PUBLISH_HISTORY = f"{PUBLISH}/history"
"""What each publication replaced."""
PUBLISH_PINS = f"{PUBLISH}/pins"
"""Labels that were published by hand, which later runs do not replace."""
PUBLISHER_LEASES = f"{PUBLISH}/turns"

OUTPUT_FOLDERS = (
    MASKS_TABLE, MASKLETS_TABLE, VIDEOS_TABLE, PARTS, FAILURES, CHECKPOINTS, STATES, CORRECTIONS, RUNS, NIGHTS, LEASES,
    PUBLISH, PROBES,
)  # fmt: skip
"""Names of all folders that an output may hold."""
CHECKPOINT_STATE = ".state"
"""Suffix of the file that makes a checkpoint complete, and of a kept state."""

SHARDS = tuple(f"{i:02x}" for i in range(256))
MAX_QUOTED_ID_BYTES = 200
"""File systems allow 255 bytes in a file name; the rest is left for temporary names."""
_KEY = re.compile(r"[0-9A-Za-z]{1,128}")


def quote_id(video_id: str) -> str:
    """The id as one path segment: percent-quoted, also a leading '.' ('..' must not climb) or '_' (readers skip it).

    Raises:
        UsageError: The id is empty, or longer than MAX_QUOTED_ID_BYTES when quoted.
    """
    if not video_id:
        raise UsageError("video_id is empty; it must have at least one character")
    quoted = quote(video_id, safe="")
    if quoted[0] in "._":
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    if len(quoted) > MAX_QUOTED_ID_BYTES:
        raise UsageError(
            f"video_id {video_id[:40]!r}... takes {len(quoted)} bytes percent-quoted; "
            f"at most {MAX_QUOTED_ID_BYTES} are allowed"
        )
    return quoted


def unquote_id(segment: str) -> str:
    """The video id of a path segment made by `quote_id`."""
    return unquote(segment, errors="strict")


# --- of one video


def video_dir(video_id: str) -> str:
    """HH/VIDEO: 256 even shards, so that listings and rate limits spread."""
    return f"{hashlib.sha256(video_id.encode()).hexdigest()[:2]}/{quote_id(video_id)}"


def part_path(video_id: str, key: str) -> str:
    return f"{PARTS}/{video_dir(video_id)}/{_checked(key)}.parquet"


def failure_path(video_id: str, key: str) -> str:
    return f"{FAILURES}/{video_dir(video_id)}/{_checked(key)}.json"


def checkpoint_dir(video_id: str, key: str) -> str:
    return f"{CHECKPOINTS}/{video_dir(video_id)}/{_checked(key)}"


def checkpoint_rows_path(video_id: str, key: str, name: str) -> str:
    """Rows made between two checkpoints."""
    return f"{checkpoint_dir(video_id, key)}/{name}.parquet"


def checkpoint_state_path(video_id: str, key: str, *, frames: int, name: str) -> str:
    """The state after `frames` frames; names sort by progress."""
    return f"{checkpoint_dir(video_id, key)}/{frames:012d}-{name}{CHECKPOINT_STATE}"


def states_dir(video_id: str, key: str) -> str:
    return f"{STATES}/{video_dir(video_id)}/{_checked(key)}"


def kept_state_path(video_id: str, key: str, *, frames: int, name: str) -> str:
    """The tracker's state after `frames` labelled frames."""
    return f"{states_dir(video_id, key)}/{frames:012d}-{name}{CHECKPOINT_STATE}"


def states_index_path(video_id: str, key: str) -> str:
    """Which kept states belong to the part of this key; without it they are not used."""
    return f"{states_dir(video_id, key)}/index.json"


def correction_path(video_id: str, name: str) -> str:
    """One record of the corrections of a video."""
    return f"{CORRECTIONS}/{video_dir(video_id)}/{name}.json"


def parse_path(path: str) -> tuple[str, str] | None:
    """(video_id, key) of a part, failure, or any file of a checkpoint or of states; None for every other path."""
    pieces = path.split("/")
    if len(pieces) < 4 or pieces[0] not in (PARTS, FAILURES, CHECKPOINTS, STATES):
        return None
    key = pieces[3].partition(".")[0]
    if not _KEY.fullmatch(key) or (pieces[0] not in (CHECKPOINTS, STATES) and len(pieces) != 4):
        return None
    try:
        return unquote_id(pieces[2]), key
    except UnicodeDecodeError:  # a foreign file
        return None


# --- of one run, night, lease or table


def wanted_path(run_id: str) -> str:
    """The label key that a run wants for each video of its manifest."""
    return f"{RUNS}/{run_id}/wanted.parquet"


def run_detections_path(run_id: str) -> str:
    """The detections of a run that were not in a table which workers can read."""
    return f"{RUNS}/{run_id}/{DETECTIONS_TABLE}"


def run_path(run_id: str) -> str:
    """A run's configuration, plan and package versions."""
    return f"{RUNS}/{run_id}/run.json"


def progress_path(run_id: str) -> str:
    return f"{RUNS}/{run_id}/progress.json"


def night_report_path(night: str) -> str:
    """The newest report of a night."""
    return f"{NIGHTS}/{night}/report.json"


def night_page_path(night: str) -> str:
    """The newest page of a night."""
    return f"{NIGHTS}/{night}/report.html"


def attempt_dir(night: str, number: int) -> str:
    """One attempt of a night: started.json, run.json, report.json, report.html."""
    return f"{NIGHTS}/{night}/attempt-{number:03}"


def lease_path(folder: str, number: int) -> str:
    """A numbered lease in LEASES/NAME or PUBLISHER_LEASES."""
    return f"{folder}/{number:09d}.json"


def intent_path(name: str) -> str:
    """A batch that is about to be written to the tables."""
    return f"{PUBLISH_INTENTS}/{name}.parquet"


def publication_path(number: int) -> str:
    """The videos that a publication, named by its epoch, was about to change."""
    return f"{PUBLISH_HISTORY}/{number:09d}.parquet"


def pin_path(name: str) -> str:
    """Labels pinned by one command."""
    return f"{PUBLISH_PINS}/{name}.parquet"


def table_log_dir(table: str) -> str:
    return f"{table}/{DELTA_LOG}"


def table_log_path(table: str, version: int) -> str:
    return f"{table_log_dir(table)}/{version:020}.json"


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"label key {key!r} is not a plain hexadecimal name")
    return key
