"""The overlay film and the contact sheet of one labelled video."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.video import VideoReader
from pipeline.video.writer import VideoWriter, is_film_of_ours
from pipeline.views.preview.draw import draw_frame
from pipeline.views.preview.labelled import LabelledVideo
from pipeline.views.preview.sheet import TEXT, Tile, lay_out, not_ours

PROMPT_SHOWN_S = 0.4
"""Seconds for which a prompt is shown in the film; on a single frame it would be overlooked."""
MAX_GAP_S = 10.0
"""Longest time that a film shows one frame; captions have the true times."""


def write_film(labelled: LabelledVideo, reader: VideoReader, path: Path) -> int:
    """Write the whole labelled part with masks, ids, scores and prompts as an MP4; returns the number of frames.

    Raises:
        UsageError: There is a file of this name that is no such film; it may be the video itself.
        VideoError: The video cannot be decoded, or its frames cannot be encoded.
    """
    if path.exists() and not is_film_of_ours(path):
        raise not_ours(path)
    info = reader.info
    fps = info.fps or 24.0
    prompts, names, shown = labelled.prompts_at(reader), _names(labelled), max(1, round(PROMPT_SHOWN_S * fps))
    count, first = 0, 0.0
    with VideoWriter(path, height=info.height, width=info.width, fps=fps, max_gap_s=MAX_GAP_S) as writer:
        for frame in reader.forward():
            first = frame.time_s if count == 0 else first
            near = [p for at in range(frame.index - shown + 1, frame.index + 1) for p in prompts.get(at, ())]
            near_index = labelled.nearest(frame.index)
            rows, caption = labelled.frames.get(near_index, ()), f"{frame.index}   {frame.time_s:.2f} s"
            caption += "" if near_index == frame.index else f"   masks of frame {near_index}"
            writer.add(draw_frame(frame.rgb, rows, near, caption=caption, names=names), frame.time_s - first)
            count += 1
    return count


def contact_sheet(
    labelled: LabelledVideo, reader: VideoReader, *, tiles: int = 12, columns: int = 4, tile_width: int = 320
) -> Image.Image:
    """One picture of prompted frames, frames with suspicious masks, and frames at even intervals between them."""
    chosen = choose_frames(labelled, reader, tiles=tiles)
    prompts, names = labelled.prompts_at(reader), _names(labelled)
    frames = reader.at(chosen) if chosen else {}
    drawn = (
        draw_frame(
            frames[index].rgb,
            labelled.frames.get(index, ()),
            prompts.get(index, ()),
            caption=f"{index}   {frames[index].time_s:.2f} s" + ("   prompted" if index in prompts else ""),
            names=names,
        )
        for index in chosen
    )
    tile = Tile.of(reader.info.width, reader.info.height, tile_width)
    return lay_out(drawn, len(chosen), [(line, TEXT) for line in _headline(labelled)], columns=columns, tile=tile)


def choose_frames(labelled: LabelledVideo, reader: VideoReader, *, tiles: int) -> list[int]:
    """At most `tiles` frame indices in order: the prompted ones first, then the worst, then an even spread."""
    there = sorted(labelled.frames)
    if not there:
        return []
    prompted = sorted(labelled.prompts_at(reader))[: tiles // 2]
    worst = sorted(there, key=lambda t: -max(_badness(row) for row in labelled.frames[t]))
    picked = dict.fromkeys(prompted)
    for t in worst:  # frames near a bad one look alike
        if len(picked) >= len(prompted) + tiles // 4:
            break
        if all(abs(t - other) > len(there) / tiles / 2 for other in picked):
            picked[t] = None
    spread = np.linspace(there[0], there[-1], num=4 * tiles)
    while len(picked) < min(tiles, len(there)):
        gaps = [(min((abs(t - other) for other in picked), default=math.inf), -t) for t in spread.round().tolist()]
        far, t = max(gaps)
        if far == 0:
            break
        picked[int(-t)] = None
    return sorted(t for t in picked if t in labelled.frames)


def _badness(row: Mapping[str, Any]) -> float:
    """How suspicious a mask is: low scores, jumps of area or place, overlap with another object."""
    scores = [value for name in ("predicted_iou", "stability") if (value := row.get(name)) is not None]
    score = len(scores) - sum(scores)
    score += min(abs(row.get("area_change") or 0), 2) / 2 + min(row.get("center_shift") or 0, 1)
    return score + (row.get("overlap") or 0)


def _names(labelled: LabelledVideo) -> dict[int, str]:
    return {object_id: row["category"] for object_id, row in labelled.masklets.items() if row["category"]}


def _headline(labelled: LabelledVideo) -> Sequence[str]:
    lines = [f"{labelled.video_id[:80]!r}   {labelled.video['frames']} frames, {len(labelled.masklets)} objects"]
    for object_id, row in sorted(labelled.masklets.items(), key=lambda item: -(item[1].get("doubt") or 0))[:4]:
        doubt = "" if row.get("doubt") is None else f" doubt {row['doubt']:.2f}"
        lines.append(f"object {object_id}:{doubt}  {'; '.join((row.get('reasons') or [])[:3])}"[:150])
    return lines
