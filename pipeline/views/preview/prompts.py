"""The prompts of a manifest drawn into their videos, before anything is labelled."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from pipeline.errors import PromptError
from pipeline.manifest import Video
from pipeline.manifest.fps import check_rate, rate_of
from pipeline.manifest.kinds import to_record
from pipeline.manifest.probe import FrameFinder, misfits
from pipeline.storage import Storage
from pipeline.video import VideoReader
from pipeline.video.content import open_uri
from pipeline.views.preview.draw import draw_frame
from pipeline.views.preview.sheet import TEXT, WARNING, Line, Tile, lay_out

TILES, WIDE, NARROW = 12, 640, 400
"""Frames of a sheet at most, and the width of one, in pixels, where there are one or two of them, or more."""
SHOWN = 6


def prompt_sheet(video: Video, *, storage: Storage | None = None) -> tuple[Image.Image, list[str]]:
    """The first prompted frames of a video with their prompts, and what could not be drawn.

    A video without a prompt that can be drawn is shown by its first frame.

    Raises:
        StorageError: The video cannot be reached.
        VideoError: The video cannot be decoded.
    """
    start_s, end_s = video.start_s, video.end_s
    with open_uri(video.video_uri, storage=storage, start_s=start_s, end_s=end_s, fps=rate_of(video)) as (reader, _):
        check_rate(video, reader)
        missing = [f"object {prompt.object_id}, {when}: {why}" for prompt, when, why in misfits(video.prompts, reader)]
        prompts = _by_frame(video, reader)
        shown = sorted(prompts)[:TILES] or [0]
        frames = reader.at(shown)
        names = {prompt.object_id: prompt.category for prompt in video.prompts if prompt.category}
        drawn = (
            draw_frame(frames[at].rgb, (), prompts.get(at, ()), caption=_caption(at, frames[at].time_s), names=names)
            for at in shown
        )
        tile = Tile.of(reader.info.width, reader.info.height, WIDE if len(shown) <= 2 else NARROW)
        columns = 2 if len(shown) <= 4 else 3
        return lay_out(
            drawn, len(shown), list(_lines(video, len(prompts), missing)), columns=columns, tile=tile
        ), missing


def _by_frame(video: Video, reader: VideoReader) -> dict[int, list[Mapping[str, Any]]]:
    """The prompts by frame index, without those on frames that the video does not have."""
    frame_of, found = FrameFinder(reader), dict[int, list[Mapping[str, Any]]]()
    for prompt in video.prompts:
        try:
            found.setdefault(frame_of(prompt), []).append(to_record(prompt))
        except PromptError:
            continue  # it is among the misfits
    return found


def _caption(frame: int, time_s: float) -> str:
    return f"{frame}   {time_s:.2f} s"


def _lines(video: Video, frames: int, missing: list[str]) -> Iterator[Line]:
    objects = len({prompt.object_id for prompt in video.prompts})
    counts = f"{objects} objects, {len(video.prompts)} prompts on {frames} frames"
    yield f"{video.video_id[:80]!r}   {counts}" + (f", the first {TILES} shown" if frames > TILES else ""), TEXT
    if not video.prompts:
        yield "no prompts: objects begin from detections", TEXT
    for line in missing[:SHOWN]:
        yield from ((part, WARNING) for part in textwrap.wrap(f"not drawn: {line}", 2 * NARROW // 7)[:3])
    if len(missing) > SHOWN:
        yield f"and {len(missing) - SHOWN} more", WARNING
