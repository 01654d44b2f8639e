"""Masks of LeRobot datasets: Parquet tables that are joined with a dataset by episode and frame."""

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.formats.format import ExportContext, Format, Piece
from pipeline.formats.video_masks import VideoMasks

SCHEMA = pa.schema(
    [
        ("episode_index", pa.int64()),
        ("frame_index", pa.int64()),
        ("timestamp", pa.float32()),
        ("camera", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("object_id", pa.list_(pa.int64())),
        ("category", pa.list_(pa.string())),
        ("counts", pa.list_(pa.string())),
    ]
)
"""A row per frame; the lists have one item per object. counts: COCO RLE of [height, width], empty masks included.
episode_index, frame_index and timestamp are those of the dataset's data files."""


class LeRobotFormat(Format):
    """`masks/CAMERA/episode-NNNNNN.parquet`: the masks of one camera in one episode.

    The videos are those of a manifest that `jobs.manifest build` made of a LeRobot dataset: its columns episode_index
    and camera are in the videos table.
    """

    name = "lerobot"
    about = "Parquet tables of RLE masks by episode and frame of a LeRobot dataset v3"

    def pieces(self, video: VideoMasks, _context: ExportContext) -> Iterator[Piece]:
        episode, camera = (video.facts.get(name) for name in ("episode_index", "camera"))
        if episode is None or camera is None:
            raise UsageError(
                f"video {video.video_id!r} has no episode_index and camera; build the manifest from a LeRobot dataset"
            )
        start_s = float(video.facts.get("start_s") or 0.0)
        height, width = video.size
        rows = [
            {
                "episode_index": int(episode),
                "frame_index": frame,
                "timestamp": masks[0]["time_s"] - start_s,
                "camera": camera,
                "height": height,
                "width": width,
                "object_id": [mask["object_id"] for mask in masks],
                "category": [mask["category"] for mask in masks],
                "counts": [mask["counts"] for mask in masks],
            }
            for frame, masks in video.by_frame()
        ]
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink, compression="zstd")
        yield Piece(f"masks/{camera}/episode-{int(episode):06d}.parquet", sink.getvalue())
