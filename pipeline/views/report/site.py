"""Writing the site, video by video, in memory bounded by the longest one."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import numpy as np
import pyarrow as pa

from pipeline.errors import CorpusError
from pipeline.storage import Storage
from pipeline.tables.query import Labels
from pipeline.video.writer import VideoWriter
from pipeline.views.preview import LabelledVideo, load_videos, opened
from pipeline.views.preview.draw import draw_frame
from pipeline.views.preview.film import scaled
from pipeline.views.report.index import CARDS, asset, index_page, video_page
from pipeline.views.report.numbers import read_numbers

log = logging.getLogger(__name__)

Clips = Literal["link", "copy", "none"]
CHUNK_ROWS = 40_000
CLIP_SIDE = 480


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written."""

    videos: int
    thumbnails: int
    bytes: int
    unreadable: tuple[str, ...]
    """Why some videos have no picture."""


def write_report(
    labels: Labels,
    folder: Path,
    *,
    title: str,
    run_id: str | None = None,
    thumbnails: int = 200,
    clips: Clips = "link",
    storage: Storage | None = None,
    watch: Callable[[int, int], None] = lambda _done, _all: None,
) -> Report:
    """Write the report of a whole output, or of the videos that one run labelled.

    Args:
        thumbnails: the most doubtful videos get pictures, so many; each costs opening its video.
        clips: `link` plays videos from where they are (a browser plays https and files on its own machine), `copy`
            puts small H.264 copies beside the pages, also of only so many, `none` shows masks alone.
    """
    numbers = read_numbers(labels, run_id=run_id)
    videos = _videos(labels, run_id)
    for name in ("data", "thumbs", *(["clips"] if clips == "copy" else [])):
        (folder / name).mkdir(parents=True, exist_ok=True)
    by_doubt = sorted(range(len(videos)), key=lambda n: (-(videos[n]["doubt"] or 0), n))
    pictured, unreadable = set(by_doubt[:thumbnails]), []
    written = 0

    def write(path: str, text: str) -> None:
        nonlocal written
        data = text.encode("utf-8", "backslashreplace")
        (folder / path).write_bytes(data)
        written += len(data)

    summary: list[dict[str, Any]] = [{} for _ in videos]
    done = 0
    for numbers_of, masklets, masks in _chunks(labels, videos):
        for n in numbers_of:
            video = videos[n]
            mine = masklets.get(video["video_id"], [])
            doubted = max(mine, key=lambda row: row.get("doubt") or 0, default={})
            row = {
                "n": n, "id": video["video_id"], "doubt": video["doubt"], "frames": video["frames"],
                "objects": len(mine), "why": (doubted.get("reasons") or [])[:3], "thumb": False,
            }  # fmt: skip
            source = _link(str(video["uri"]), folder) if clips == "link" else None
            if n in pictured:
                try:
                    copied = _pictures(labels, video, doubted, folder, n, copy=clips == "copy", storage=storage)
                    row["thumb"] = True
                    source = copied or source
                except (CorpusError, OSError) as error:
                    unreadable.append(f"{video['video_id']!r}: {error}")
            write(
                f"data/{n}.js",
                f"show({_json(_data(video, mine, masks.get(video['video_id']), source, len(videos)))})\n",
            )
            summary[n] = row
            done += 1
            watch(done, len(videos))
    ranked = [summary[n] for n in by_doubt]
    write("data/videos.js", f"list({_json([list(row.values()) for row in summary])})\n")
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    write(
        "index.html",
        index_page(title if run_id is None else f"{title}, run {run_id}", numbers, ranked[:CARDS], when=when),
    )
    write("video.html", video_page())
    for name in ("index.js", "video.js"):
        write(name, asset(name))
    written += sum(path.stat().st_size for name in ("thumbs", "clips") for path in (folder / name).glob("*"))
    return Report(
        videos=len(videos),
        thumbnails=sum(bool(row["thumb"]) for row in summary),
        bytes=written,
        unreadable=tuple(unreadable),
    )


def _videos(labels: Labels, run_id: str | None) -> list[dict[str, Any]]:
    has = set(labels.arrow("videos").schema.names)
    doubt = "doubt" if "doubt" in has else "NULL AS doubt"
    found = labels.connection.sql(
        f"SELECT video_id, uri, frames, fps, height, width, start_s, mask_rows, {doubt}, model, "
        "committed_at::VARCHAR AS at FROM videos WHERE $run IS NULL OR run_id = $run ORDER BY video_id",
        params={"run": run_id},
    )
    return found.to_arrow_table().to_pylist()


Chunk = tuple[list[int], dict[str, list[dict[str, Any]]], dict[str, pa.Table]]


def _chunks(labels: Labels, videos: Sequence[dict[str, Any]]) -> Iterator[Chunk]:
    """Neighbouring videos with their masklet and mask rows: a table is asked once for many."""
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


def _data(
    video: dict[str, Any], masklets: Sequence[dict[str, Any]], masks: pa.Table | None, source: str | None, videos: int
) -> dict[str, Any]:
    """What a video's page knows."""
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
                    "id": str(masklet["object_id"]),  # a number of JavaScript holds 53 bits only
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
        "frames": last + 1, "start": video["start_s"] if source and not source.startswith("clips/") else 0,
        "times": [round(times[t], 4) if t in times else None for t in range(last + 1)],
        "source": source, "objects": objects, "videos": videos, "model": video["model"], "labelled": video["at"],
    }  # fmt: skip


def _column(rows: pa.Table, name: str) -> list[float | None]:
    return [_rounded(v) for v in rows.column(name).to_pylist()] if name in rows.schema.names else []


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else round(value, 3)


def _json(value: Any) -> str:
    """JSON that may stand in a script: nothing in it can end one."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _link(uri: str, folder: Path) -> str | None:
    """An address that a browser can play from, or none."""
    parts = urlsplit(uri)
    if parts.scheme in ("https", "http"):
        return uri
    path = uri[7:] if uri.startswith("file://") else uri
    if "://" in path or path.startswith("memory:"):
        return None
    return quote(os.path.relpath(Path(path).absolute(), folder.absolute()))


def _pictures(
    labels: Labels,
    video: dict[str, Any],
    masklet: dict[str, Any],
    folder: Path,
    n: int,
    *,
    copy: bool,
    storage: Storage | None,
) -> str | None:
    """The video's worst frame as a thumbnail; a small copy of its clip where asked for, and its address."""
    (labelled,) = load_videos(labels, [video["video_id"]])
    with opened(labelled, storage=storage) as reader:
        index = _worst_frame(labelled, masklet.get("object_id"))
        frame = reader.at([index])[index]
        names = {key: row["category"] for key, row in labelled.masklets.items() if row["category"]}
        drawn = draw_frame(frame.rgb, labelled.frames.get(index, ()), names=names)
        scaled(drawn, 320).save(folder / "thumbs" / f"{n}.jpg", quality=80)
        if not copy:
            return None
        ratio = min(1.0, CLIP_SIDE / max(reader.info.height, reader.info.width))
        width, height = round(reader.info.width * ratio), round(reader.info.height * ratio)
        with VideoWriter(
            folder / "clips" / f"{n}.mp4", height=height, width=width, fps=reader.info.fps or 24
        ) as writer:
            first: float | None = None
            for frame in reader.forward():
                first = frame.time_s if first is None else first
                small = frame.rgb if ratio == 1 else np.asarray(scaled(frame.rgb, width).resize((width, height)))
                writer.add(small, frame.time_s - first)
        return f"clips/{n}.mp4"


def _worst_frame(labelled: LabelledVideo, object_id: int | None) -> int:
    """Where the most doubtful object is there and its mask looks worst."""
    rows = [row for frame in labelled.frames.values() for row in frame if row["object_id"] == object_id]
    seen = [row for row in rows if row["is_present"]] or rows

    def looks(row: Mapping[str, Any]) -> float:
        return sum(1.0 if row.get(name) is None else row[name] for name in ("predicted_iou", "stability"))

    return min(seen, key=looks)["frame_index"] if seen else 0
