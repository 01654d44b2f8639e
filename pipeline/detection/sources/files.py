"""The files of detections at a URI: a file itself, or those of one kind below a folder."""

from pathlib import PurePosixPath

from pipeline.detection.location import TABLE_SUFFIXES, is_table
from pipeline.errors import ManifestError, StorageError
from pipeline.storage import MissingError, Storage, Store, redact
from pipeline.storage.paths import DETECTIONS_TABLE

NOT_LABELS = frozenset(
    ("classes.txt", "names.txt", "readme.txt", "requirements.txt", "seqmap.txt", "train.txt", "val.txt")
)
"""Text files that lie beside label files."""
ALLOWED = (
    "allowed are a table (.parquet, .csv, .jsonl), JSON (COCO, Ultralytics), a MOT file (.txt), and a folder of one of "
    "these, of YOLO label files, or of jobs.detect"
)


def find_files(uri: str, storage: Storage | None = None) -> tuple[list[str], str | None]:
    """URIs of the files, and of the data.yaml that names their classes, if the folder has one.

    Raises:
        ManifestError: There are none, or of several kinds.
    """
    if is_table(uri) or suffix_of(uri) in (".json", ".txt"):
        return [uri], None
    return _files_below(uri, storage)


def suffix_of(uri: str) -> str:
    """The suffix of a URI in lower case, with its dot."""
    path = uri.partition("?")[0] if "://" in uri else uri
    return PurePosixPath(path.rstrip("/").lower()).suffix


def _files_below(uri: str, storage: Storage | None) -> tuple[list[str], str | None]:
    """The files of a folder that hold detections, and its data.yaml.

    Raises:
        ManifestError: There are none, or of several kinds.
    """
    store = Store(uri, storage=storage)
    try:
        if store.exists(DETECTIONS_TABLE):
            return [store.uri_of(DETECTIONS_TABLE)], None
        paths = sorted(entry.path for entry in store.list(""))
    except (MissingError, StorageError, OSError) as error:
        raise ManifestError(f"{redact(uri)} holds no files of detections ({error}); {ALLOWED}") from None
    yaml = next((store.uri_of(path) for path in paths if path.rpartition("/")[2] == "data.yaml"), None)
    labels = [path for path in paths if "labels" in path.split("/")[:-1]] or paths
    kinds: dict[str, list[str]] = {}
    for path in labels:
        suffix = suffix_of(path)
        if suffix in (*TABLE_SUFFIXES, ".json", ".txt") and path.rpartition("/")[2].lower() not in NOT_LABELS:
            kinds.setdefault(suffix, []).append(path)
    if len(kinds) != 1:
        found = " and ".join(f"{len(some)} {suffix}" for suffix, some in kinds.items()) or "no"
        raise ManifestError(f"{redact(uri)} holds {found} files of detections; {ALLOWED}")
    [files] = kinds.values()
    return [store.uri_of(path) for path in files], yaml
