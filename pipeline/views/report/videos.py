"""Data of the pages of single videos, read from the tables for many videos at once."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.tables.query import Labels

CHUNK_ROWS = 40_000


def list_videos(labels: Labels, run_id: str | None) -> list[dict[str, Any]]:
    """Rows of the videos table, of one run or all, by video id."""
    has = set(labels.arrow("videos").schema.names)
    doubt = "doubt" if "doubt" in has else "NULL AS doubt"
    rate = "label_rate" if "label_rate" in has else "NULL AS label_rate"
    found = labels.connection.sql(
        f"SELECT video_id, uri, frames, fps, height, width, start_s, mask_rows, {doubt}, model, {rate} "
        "FROM videos WHERE $run IS NULL OR run_id = $run ORDER BY video_id",
        params={"run": run_id},
    )
    return found.to_arrow_table().to_pylist()


Chunk = tuple[list[int], dict[str, list[dict[str, Any]]], dict[str, pa.Table]]


def read_chunks(labels: Labels, videos: Sequence[dict[str, Any]]) -> Iterator[Chunk]:
    """Positions of neighbouring videos, with their masklet rows and mask tables by video id; one query reads many."""
    waiting: list[int] = []
    rows = 0
    for n, video in enumerate(videos):
        waiting.append(n)
        rows += video["mask_rows"] or 0
        if rows >= CHUNK_ROWS or n == len(videos) - 1:
            given = {"first": videos[waiting[0]]["video_id"], "last": videos[n]["video_id"]}
            within, read = "video_id BETWEEN $first AND $last", labels.connection.sql
            masklets: dict[str, list[dict[str, Any]]] = {}
            found = read(f"SELECT * FROM masklets WHERE {within} ORDER BY object_id", params=given).to_arrow_table()
            for row in found.to_pylist():
                masklets.setdefault(row["video_id"], []).append(row)
            masks = read(f"SELECT * FROM masks WHERE {within} ORDER BY video_id, object_id, frame_index", params=given)
            table = masks.to_arrow_table().combine_chunks()
            ids = np.array(table.column("video_id").to_pylist(), dtype=object)
            starts = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist()] if len(ids) else []
            stops = [*starts[1:], len(ids)]
            yield waiting, masklets, {ids[a]: table.slice(a, b - a) for a, b in zip(starts, stops, strict=True)}
            waiting, rows = [], 0


def page_data(
    video: dict[str, Any], masklets: Sequence[dict[str, Any]], masks: pa.Table | None, source: str | None
) -> dict[str, Any]:
    """Data of a video's page: per object its frames, RLE counts, areas (pixels) and scores."""
    objects = []
    times: dict[int, float] = {}
    if masks is not None:
        id_column = masks.column("object_id").to_numpy()
        for masklet in masklets:
            low, high = np.searchsorted(id_column, [masklet["object_id"], masklet["object_id"] + 1]).tolist()
            rows = masks.slice(low, high - low)
            frames = rows.column("frame_index").to_pylist()
            times |= dict(zip(frames, rows.column("time_s").to_pylist(), strict=True))
            objects.append(
                {
                    "id": str(masklet["object_id"]),  # numbers in JavaScript have 53 bits
                    "hue": (0.58 + masklet["object_id"] * 0.6180339887) % 1 * 360,
                    "category": masklet["category"],
                    "doubt": _rounded(masklet.get("doubt")),
                    "why": masklet.get("reasons") or [],
                    "frames": frames,
                    "counts": rows.column("counts").to_pylist(),
                    "area": rows.column("area").to_pylist(),
                    "iou": _column(rows, "predicted_iou"),
                    "stability": _column(rows, "stability"),
                    "prompted": [
                        f for f, is_ in zip(frames, rows.column("is_prompted").to_pylist(), strict=True) if is_
                    ],
                }
            )
    last = max(times, default=-1)
    return {
        "id": video["video_id"], "height": video["height"], "width": video["width"], "fps": video["fps"],
        "frames": last + 1,
        "times": [round(times[t], 4) if t in times else None for t in range(last + 1)],
        "labelled": sorted(times) if video.get("label_rate") else None, "rate": video.get("label_rate"),
        "source": source, "objects": objects, "model": video["model"],
    }  # fmt: skip


def _column(rows: pa.Table, name: str) -> list[float | None]:
    return [_rounded(v) for v in rows.column(name).to_pylist()] if name in rows.schema.names else []


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else round(value, 3)
