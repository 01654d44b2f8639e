"""Which files below an output the project wrote, by their exact names.

An output may also hold foreign files, under any name. Only files that `is_ours` recognizes or a table's own log names
may be deleted; every deletion filters by one of them.
"""

import re

from pipeline.errors import UsageError
from pipeline.storage.backends.local import TEMPORARY
from pipeline.storage.paths import DETECTIONS_TABLE, MARKER, unquote_id, video_dir

_HEX = r"[0-9a-f]{32}"
_KEY = r"[0-9a-f]{64}"
_NAME = r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{4}"
"""Names of runs, corrections and pins: a time and a random part."""
_NIGHT = r"\d{4}-\d{2}-\d{2}"
_LEASE = rf"(\d{{9}}\.json|{_HEX}\.probe)"
_UUID = r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}"
_ROOM = r"(parts|failures|checkpoints|states|corrections|runs|nights|leases|publish|probes)"
_TABLE = r"(masks|masklets|videos)"
_DATA_FILE = rf"{_TABLE}/part-\d{{5}}-{_UUID}-c\d{{3}}\.zstd\.parquet"
"""Names of files that delta-rs writes for this package."""
_LOG_ENTRY = rf"{_TABLE}/_delta_log/(?P<version>\d{{20}})\.(json|checkpoint(\.\d{{10}}\.\d{{10}}|\.{_UUID})?\.parquet)"
_UNFINISHED = re.compile(
    "|".join(
        [
            rf"({_ROOM}/(.*/)?)?{re.escape(TEMPORARY)}{_HEX}",
            rf"{_DATA_FILE}#\d+",  # delta-rs' local writes
            rf"{_LOG_ENTRY}#\d+",
            rf"{_TABLE}/_delta_log/_commit_{_UUID}\.json\.tmp",
        ]
    )
)
_FIXED = re.compile(
    "|".join(
        [
            re.escape(MARKER),
            re.escape(DETECTIONS_TABLE),
            rf"runs/{_NAME}/(wanted\.parquet|detections\.parquet|run\.json|progress\.json)",
            rf"nights/{_NIGHT}/(report\.(json|html)|attempt-\d{{3,}}/(started\.json|run\.json|report\.(json|html)))",
            rf"leases/(all|\d+-of-\d+)/{_LEASE}",
            rf"publish/(state\.parquet|intents/{_HEX}\.parquet|turns/{_LEASE})",
            rf"publish/(history/\d{{9}}|pins/{_NAME})\.parquet",
            rf"probes/{_HEX}",
            rf"{_TABLE}/_delta_log/_last_checkpoint",
            _DATA_FILE,
            _LOG_ENTRY,
        ]
    )
)
_OF_A_VIDEO = {
    "parts": re.compile(rf"{_KEY}\.parquet"),
    "failures": re.compile(rf"({_KEY}|unknown)\.json"),
    "checkpoints": re.compile(rf"[0-9A-Za-z]{{1,128}}/(\d{{12}}-{_HEX}\.state|{_HEX}\.parquet)"),
    "states": re.compile(rf"{_KEY}/(\d{{12}}-{_HEX}\.state|index\.json)"),
    "corrections": re.compile(rf"{_NAME}\.json"),
}


def is_ours(path: str) -> bool:
    """Whether a path below an output is exactly one that this package writes."""
    return bool(_FIXED.fullmatch(path)) or _is_of_a_video(path) or is_unfinished_write(path)


def is_unfinished_write(path: str) -> bool:
    """Whether a path is a file that one of our processes is writing, or was writing when it was killed."""
    return bool(_UNFINISHED.fullmatch(path))


def is_data_file(path: str) -> bool:
    """Whether a path has the name of a table's data file, as other Delta tables' files may have, too."""
    return bool(re.fullmatch(_DATA_FILE, path))


def log_version(path: str) -> int | None:
    """The version of a table that an entry or a checkpoint of its log belongs to; None for every other path."""
    found = re.fullmatch(_LOG_ENTRY, path)
    return int(found["version"]) if found else None


def _is_of_a_video(path: str) -> bool:
    """Whether a path is in the folder of a video, whose name begins with a hash of the video's id."""
    room, _, rest = path.partition("/")
    pieces = rest.split("/", 2)
    if room not in _OF_A_VIDEO or len(pieces) < 3 or not _OF_A_VIDEO[room].fullmatch(pieces[2]):
        return False
    try:
        return video_dir(unquote_id(pieces[1])) == "/".join(pieces[:2])
    except (UsageError, UnicodeDecodeError):
        return False
