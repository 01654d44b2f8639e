"""What a run of detection does differently: its videos have no prompts, and its parts become one file."""

import logging
from dataclasses import replace

import pyarrow as pa

from pipeline.detection.publication import publish_detections
from pipeline.errors import CorpusError, ManifestError
from pipeline.manifest import PROMPT, Manifest, read_manifest, read_table
from pipeline.manifest.build import VideoListing
from pipeline.runs.config import OnBadRow
from pipeline.runs.plan import Plan
from pipeline.runs.prepare import committed_parts
from pipeline.storage import Storage, Store, open_source, redact
from pipeline.tables import Published

log = logging.getLogger(__name__)

TABLE_SUFFIXES = (".parquet", ".pq", ".csv", ".jsonl", ".ndjson")
_ANY_PROMPT = {"object_id": 1, "frame_index": 0, "points": [{"x": 0.0, "y": 0.0, "label": 1}]}
"""Stands for prompts, which rows of a manifest need, while the other columns are checked."""


def read_videos(uri: str, *, storage: Storage, on_bad_row: OnBadRow = "fail") -> Manifest:
    """The videos at a URI, as a manifest without prompts.

    They are the rows of a table (Parquet, CSV or JSON lines) with video_id, video_uri and other columns of manifests,
    or the videos below a folder.

    Raises:
        UsageError: The table or folder cannot be read, has no videos, or rows break a rule and may not be left out.
    """
    if uri.partition("?")[0].lower().endswith(TABLE_SUFFIXES):
        table = read_table(uri, open_file=lambda each: open_source(each, storage=storage)[0])
    else:
        table = _listed(Store(uri, storage=storage))
    if "prompts" in table.column_names:
        table = table.drop_columns(["prompts"])
    prompts = pa.repeat(pa.scalar([_ANY_PROMPT], pa.list_(PROMPT)), table.num_rows)
    try:
        manifest = read_manifest(table.append_column("prompts", prompts), on_bad_row=on_bad_row)
    except ManifestError as error:
        text = str(error).replace("manifest-table.parquet", redact(uri))
        raise ManifestError(text.replace("video_id, video_uri, prompts are", "video_id, video_uri are")) from None
    at = manifest.table.column_names.index("prompts")
    none = pa.repeat(pa.scalar([], pa.list_(PROMPT)), len(manifest))
    return replace(manifest, table=manifest.table.set_column(at, "prompts", none))


def publish_wanted(store: Store, *, plan: Plan) -> Published:
    """Bring the table of detections up to date with the committed parts of a plan."""
    wanted = plan.table.select(["video_id", "label_key"]).filter(plan.table["label_key"].is_valid())
    both = wanted.join(committed_parts(store), ["video_id", "label_key"], join_type="left semi", use_threads=False)
    keys = dict(zip(both["video_id"].to_pylist(), both["label_key"].to_pylist(), strict=True))
    published = publish_detections(store, keys)
    return Published(videos=published.videos, mask_rows=published.rows, waiting=wanted.num_rows - both.num_rows)


def _listed(store: Store) -> pa.Table:
    listing, ids, uris = VideoListing(store), [], []
    for video in listing:
        if isinstance(video, CorpusError):
            log.warning("left out: %s", video)
            continue
        ids.append(video.video_id)
        uris.append(video.uri)
    if not ids:
        raise listing.nothing_found()
    return pa.table({"video_id": ids, "video_uri": uris})
