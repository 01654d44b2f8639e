"""What a run of detection does differently: its videos have no prompts, and its parts become one file."""

import logging
from dataclasses import replace

import pyarrow as pa

from pipeline.detection.location import is_table
from pipeline.detection.publication import publish_detections
from pipeline.errors import CorpusError, ManifestError
from pipeline.manifest import PROMPT, Manifest, read_manifest, read_table
from pipeline.manifest.build import VideoListing
from pipeline.runs.config import OnBadRow, RunConfig
from pipeline.runs.existing import committed_parts
from pipeline.runs.plan import Plan
from pipeline.storage import Storage, Store, open_source, redact
from pipeline.tables import Published

log = logging.getLogger(__name__)

DETECTIONS_FOLDER = "detections"
"""Folder of an output of labels where a run with `detect` keeps its output of detections."""
OF_LABELLING = ("prompts", "detections", "label_fps", "label_every")
"""Columns of manifests that say what to label, and nothing of what to look at."""
_ANY_PROMPT = {"object_id": 1, "frame_index": 0, "points": [{"x": 0.0, "y": 0.0, "label": 1}]}
"""Stands for prompts, which rows of a manifest need, while the other columns are checked."""


def read_videos(uri: str, *, storage: Storage, on_bad_row: OnBadRow = "fail") -> Manifest:
    """The videos at a URI, as a manifest without prompts.

    They are the rows of a table (Parquet, CSV or JSON lines) with video_id, video_uri and other columns of manifests,
    or the videos below a folder.

    Raises:
        UsageError: The table or folder cannot be read, has no videos, or rows break a rule and may not be left out.
    """
    if is_table(uri):
        table = read_table(uri, open_file=lambda each: open_source(each, storage=storage)[0])
    else:
        table = _listed(Store(uri, storage=storage))
    table = table.drop_columns([name for name in OF_LABELLING if name in table.column_names])
    prompts = pa.repeat(pa.scalar([_ANY_PROMPT], pa.list_(PROMPT)), table.num_rows)
    try:
        manifest = read_manifest(table.append_column("prompts", prompts), on_bad_row=on_bad_row)
    except ManifestError as error:
        text = str(error).replace("manifest-table.parquet", redact(uri))
        raise ManifestError(text.replace("video_id, video_uri, prompts are", "video_id, video_uri are")) from None
    return videos_of(manifest)


def videos_of(manifest: Manifest) -> Manifest:
    """The videos of a manifest, without what it says to label in them."""
    table = manifest.table
    for at, column in enumerate(table.schema):
        if column.name in OF_LABELLING:
            value: list[object] | None = [] if column.name == "prompts" else None
            table = table.set_column(at, column, pa.repeat(pa.scalar(value, column.type), len(manifest)))
    return replace(manifest, table=table)


def detections_of(config: RunConfig) -> str:
    """The output of detections of a run with `detect`."""
    return f"{config.output.rstrip('/')}/{DETECTIONS_FOLDER}"


def detection_config(config: RunConfig) -> RunConfig:
    """The run of detection that comes before a run of labelling with `detect`."""
    assert config.detect
    return replace(
        config,
        output=detections_of(config),
        model=config.detect.model,
        revision=None,
        detection=config.detect.parameters,
        detect=None,
        detections=None,
        prompts=None,
        calibration=None,
        max_relabel=None,
        label_fps=None,
        every=None,
        check_drift=False,
        end_at_cuts=None,
        publish=True,
    )


def labelling_config(config: RunConfig) -> RunConfig:
    """The run of labelling that follows its detection; a video without detections is a bad row, which is left out."""
    return replace(config, detect=None, detections=detections_of(config), on_bad_row="skip")


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
