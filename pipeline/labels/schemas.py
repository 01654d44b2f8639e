"""The columns of the three label tables, and the row of the videos table."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipeline.storage import redact

UTC_TIME = pa.timestamp("us", tz="UTC")

MASKS = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("object_id", pa.int64(), nullable=False),
        pa.field("frame_index", pa.int32(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("is_prompted", pa.bool_(), nullable=False),
        pa.field("is_present", pa.bool_(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("counts", pa.string(), nullable=False),
        pa.field("area", pa.int64(), nullable=False),
        pa.field("x_min", pa.int32()),
        pa.field("y_min", pa.int32()),
        pa.field("x_max", pa.int32()),
        pa.field("y_max", pa.int32()),
        pa.field("object_logit", pa.float32()),
        pa.field("predicted_iou", pa.float32()),
        pa.field("stability", pa.float32()),
        pa.field("parts", pa.int32()),
        pa.field("overlap", pa.float32()),
        pa.field("overlap_object_id", pa.int64()),
        pa.field("touches_border", pa.bool_()),
        pa.field("area_change", pa.float32()),
        pa.field("center_shift", pa.float32()),
        pa.field("agreement", pa.float32()),
        pa.field("label_key", pa.string(), nullable=False),
    ]
)
"""One row per video, object and frame. From stability on: see labels.measures; nullable, absent in older labels."""

MASKLETS = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("object_id", pa.int64(), nullable=False),
        pa.field("category", pa.string()),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("prompted_frames", pa.int32(), nullable=False),
        pa.field("visible_frames", pa.int32(), nullable=False),
        pa.field("first_frame", pa.int32()),
        pa.field("last_frame", pa.int32()),
        pa.field("first_time_s", pa.float64()),
        pa.field("last_time_s", pa.float64()),
        pa.field("gaps", pa.int32(), nullable=False),
        pa.field("longest_gap", pa.int32(), nullable=False),
        pa.field("mean_area", pa.float64()),
        pa.field("mean_logit", pa.float64()),
        pa.field("min_logit", pa.float32()),
        pa.field("mean_iou", pa.float64()),
        pa.field("min_iou", pa.float32()),
        pa.field("visible_share", pa.float32()),
        pa.field("appearances", pa.int32()),
        pa.field("disappearances", pa.int32()),
        pa.field("mean_stability", pa.float32()),
        pa.field("min_stability", pa.float32()),
        pa.field("jumps", pa.int32()),
        pa.field("whole_frame_masks", pa.int32()),
        pa.field("max_overlap", pa.float32()),
        pa.field("swap_suspicions", pa.int32()),
        pa.field("drift", pa.float32()),
        pa.field("doubt", pa.float32()),
        pa.field("reasons", pa.list_(pa.string())),
        pa.field("label_key", pa.string(), nullable=False),
    ]
)
"""One row per video and object; first to last and the means are over the frames where it is visible.
From visible_share on: `pipeline.labels.masklets`."""

VIDEOS = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("prompts_digest", pa.string()),
        pa.field("prompts", pa.string()),
        pa.field("frames", pa.int64()),
        pa.field("objects", pa.int32()),
        pa.field("mask_rows", pa.int64()),
        pa.field("fps", pa.float64()),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("rotation", pa.int32()),
        pa.field("reflected", pa.bool_()),
        pa.field("sample_aspect_ratio", pa.float64()),
        pa.field("variable_rate", pa.bool_()),
        pa.field("codec", pa.string()),
        pa.field("pixel_format", pa.string()),
        pa.field("color_range", pa.string()),
        pa.field("container_frames", pa.int64()),
        pa.field("damaged_packets", pa.int64()),
        pa.field("truncated", pa.bool_()),
        pa.field("model", pa.string()),
        pa.field("weights_digest", pa.string()),
        pa.field("parameters", pa.string()),
        pa.field("algorithm_version", pa.int32()),
        pa.field("package_version", pa.string()),
        pa.field("run_id", pa.string()),
        pa.field("worker", pa.string()),
        pa.field("attempts", pa.int32()),
        pa.field("committed_at", UTC_TIME),
        pa.field("published_at", UTC_TIME),
        pa.field("decode_s", pa.float64()),
        pa.field("model_s", pa.float64()),
        pa.field("total_s", pa.float64()),
        pa.field("peak_memory_bytes", pa.int64()),
        pa.field("compute_device", pa.string()),
        pa.field("compute_capability", pa.string()),
        pa.field("torch_version", pa.string()),
        pa.field("transformers_version", pa.string()),
        pa.field("cuda_version", pa.string()),
        pa.field("engine", pa.string()),
        pa.field("doubt", pa.float32()),
        pa.field("detections_digest", pa.string()),
        pa.field("association", pa.string()),
        pa.field("dropped_detections", pa.string()),
        pa.field("duplicate_of", pa.string()),
        pa.field("label_key", pa.string(), nullable=False),
        pa.field("label_rate", pa.string()),
        pa.field("relabelled_from", pa.int32()),
    ]
)
"""One row per video; the manifest's extra columns follow under their own names. Publishing sets published_at; doubt is
that of its most doubtful object."""


def video_table(row: Mapping[str, Any]) -> pa.Table:
    """The videos row as a table: VIDEOS, then the manifest's extra columns, prefixed with manifest_ if a name is taken.

    Args:
        row: Values by the columns of VIDEOS; under "extra" the manifest's columns, as a table of one row in the
            manifest's Arrow types, or as Python values, whose types Arrow infers.
    """
    known = {name: value for name, value in row.items() if name != "extra"}
    if unknown := sorted(set(known) - set(VIDEOS.names)):
        raise ValueError(f"unknown videos columns {unknown}; the manifest's own go under 'extra'")
    known["uri"] = redact(str(known["uri"]))  # a signed URL holds a secret
    table = pa.Table.from_pylist([known], schema=VIDEOS)
    taken = {name.lower() for name in VIDEOS.names}
    extra = row.get("extra") or {}
    for name in sorted(extra.column_names if isinstance(extra, pa.Table) else extra):
        column = extra[name] if isinstance(extra, pa.Table) else pa.array([extra[name]])
        if column.null_count:
            continue
        while name.lower() in taken:  # names are case-insensitive in readers such as DuckDB
            name = f"manifest_{name}"
        taken.add(name.lower())
        table = table.append_column(name, column)
    return table
