"""Data of the pages of single videos, read from the tables for many videos at once."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.tables.query import Labels
from pipeline.video import FrameGrid
from pipeline.video.info import TOLERANCE_S
from pipeline.views.preview import color_of, worst_frame

CHUNK_ROWS = 40_000
NEW_OBJECTS = 12
MAX_OBJECT_ID = 2**63 - 1
COLUMNS = (
    *("video_id", "uri", "version", "frames", "fps", "height", "width", "start_s", "end_s", "codec", "pixel_format"),
    *("mask_rows", "doubt", "model", "label_rate", "prompts"),
)


def list_videos(labels: Labels, run_id: str | None) -> list[dict[str, Any]]:
    """Rows of the videos table, of one run or all, by video id; columns that older outputs lack are null."""
    has = set(labels.arrow("videos").schema.names)
    columns = [name if name in has else f"NULL AS {name}" for name in COLUMNS]
    found = labels.connection.sql(
        f"SELECT {', '.join(columns)} FROM videos WHERE $run IS NULL OR run_id = $run ORDER BY video_id",
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
    video: dict[str, Any],
    masklets: Sequence[dict[str, Any]],
    masks: pa.Table | None,
    prompts: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Data of a video's page: per object its frames, RLE counts, areas (pixels) and scores; and the video's prompts."""
    objects = []
    times: dict[int, float] = {}
    if masks is not None:
        id_column = masks.column("object_id").to_numpy()
        for masklet in masklets:
            low, high = np.searchsorted(id_column, [masklet["object_id"], masklet["object_id"] + 1]).tolist()
            rows = masks.slice(low, high - low)
            times |= dict(zip(*(rows.column(name).to_pylist() for name in ("frame_index", "time_s")), strict=True))
            objects.append(_object_data(masklet, rows))
    last, rate = max(times, default=-1), video.get("label_rate")
    return {
        "id": video["video_id"], "height": video["height"], "width": video["width"], "fps": video["fps"],
        "frames": last + 1,
        "times": [round(times[t], 4) if t in times else None for t in range(last + 1)],
        "labelled": sorted(times) if rate else None, "rate": rate,
        "stride": FrameGrid.of(rate).stride(video["fps"]) if rate else 1,
        "objects": objects, "model": video["model"],
        "prompts": [_prompt_data(prompt, sorted(times.items())) for prompt in prompts],
        "new": _new_objects([*(row["object_id"] for row in masklets), *(p["object_id"] for p in prompts)]),
        "same": {name: video.get(name) for name in ("start_s", "end_s", "version")},
    }  # fmt: skip


def _object_data(masklet: Mapping[str, Any], rows: pa.Table) -> dict[str, Any]:
    frames = rows.column("frame_index").to_pylist()
    scores = [name for name in ("predicted_iou", "stability") if name in rows.schema.names]
    return {
        "id": str(masklet["object_id"]),  # numbers in JavaScript have 53 bits
        "color": color_of(masklet["object_id"]),
        "category": masklet["category"],
        "doubt": _rounded(masklet.get("doubt")),
        "why": masklet.get("reasons") or [],
        "frames": frames,
        "counts": rows.column("counts").to_pylist(),
        "area": rows.column("area").to_pylist(),
        "iou": _column(rows, "predicted_iou"),
        "stability": _column(rows, "stability"),
        "worst": worst_frame(rows.select(["frame_index", "is_present", *scores]).to_pylist()),
        "prompted": [f for f, is_ in zip(frames, rows.column("is_prompted").to_pylist(), strict=True) if is_],
    }


def _prompt_data(prompt: Mapping[str, Any], times: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """The prompt's record, and under `at` the frame where it is shown."""
    at = prompt.get("frame_index")
    if at is None:
        after = bisect_right(times, prompt["time_s"] + TOLERANCE_S, key=lambda each: each[1])
        at = times[max(after - 1, 0)][0] if times else 0
    given = {name: value for name, value in prompt.items() if value is not None}
    return {**given, "object_id": str(prompt["object_id"]), "at": at}


def _new_objects(taken: Iterable[int]) -> list[dict[str, Any]]:
    """Ids and colours for objects that a reviewer adds."""
    first = min(max(taken, default=0), MAX_OBJECT_ID - NEW_OBJECTS) + 1
    return [{"id": str(each), "color": color_of(each)} for each in range(first, first + NEW_OBJECTS)]


def _column(rows: pa.Table, name: str) -> list[float | None]:
    if name not in rows.schema.names:
        return [None] * len(rows)
    return [_rounded(value) for value in rows.column(name).to_pylist()]


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else round(value, 3)
