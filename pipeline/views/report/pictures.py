"""Thumbnails and clips of a report, and the address of a source that a browser can play."""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from PIL import Image

from pipeline.storage import Storage
from pipeline.storage.uris import local_path
from pipeline.tables.query import Labels
from pipeline.video import VideoReader
from pipeline.video.content import open_labelled
from pipeline.video.writer import VideoWriter
from pipeline.views.preview import load_videos
from pipeline.views.preview.draw import draw_frame
from pipeline.views.preview.sheet import scaled

CLIP_SIDE = 480
PLAYABLE_SUFFIXES = (".mp4", ".m4v", ".webm")


def link_to(uri: str, folder: Path) -> str | None:
    """The address from which a browser can load the source, relative to `folder`; None if there is none."""
    parts = urlsplit(uri)
    if parts.scheme in ("https", "http"):
        return uri
    if (path := local_path(uri)) is None or uri.startswith("memory:"):
        return None
    return quote(os.path.relpath(path.absolute(), folder.absolute()))


def is_playable(video: Mapping[str, Any]) -> bool:
    """Whether browsers play such a file, by its name and codec; unknown codecs of older outputs count as playable.

    HEVC, 10-bit H.264 and QuickTime files play in some browsers only.
    """
    codec, pixels = video.get("codec"), video.get("pixel_format")
    if PurePosixPath(urlsplit(str(video["uri"])).path).suffix.lower() not in PLAYABLE_SUFFIXES:
        return False
    return codec in (None, "vp8", "vp9", "av1") or (codec == "h264" and pixels in (None, "yuv420p", "yuvj420p"))


def write_pictures(
    labels: Labels, video: dict[str, Any], index: int, folder: Path, n: int, *, copy: bool, storage: Storage | None
) -> str | None:
    """Write frame `index` of the video as thumbs/N.jpg and, with `copy`, a small clip as clips/N.mp4.

    Returns the address of the clip, if there is one.

    Raises:
        CorpusError: The video cannot be opened or decoded.
    """
    (labelled,) = load_videos(labels, [video["video_id"]])
    with open_labelled(labelled.video, storage=storage) as reader:
        frame = reader.at([index])[index]
        names = {key: row["category"] for key, row in labelled.masklets.items() if row["category"]}
        drawn = draw_frame(frame.rgb, labelled.frames.get(index, ()), names=names)
        scaled(drawn, 320).save(folder / "thumbs" / f"{n}.jpg", quality=80)
        return _write_clip(reader, folder, n) if copy else None


def _write_clip(reader: VideoReader, folder: Path, n: int) -> str:
    """Write a copy of the video of at most CLIP_SIDE pixels a side; returns its address."""
    path = f"clips/{n}.mp4"
    (folder / "clips").mkdir(exist_ok=True)
    ratio = min(1.0, CLIP_SIDE / max(reader.info.height, reader.info.width))
    width, height = (max(round(side * ratio), 1) for side in (reader.info.width, reader.info.height))
    with VideoWriter(folder / path, height=height, width=width, fps=reader.info.fps or 24) as writer:
        first: float | None = None
        for frame in reader.forward():
            first = frame.time_s if first is None else first
            whole = Image.fromarray(frame.rgb)
            small = frame.rgb if ratio == 1 else np.asarray(whole.resize((width, height), Image.Resampling.LANCZOS))
            writer.add(small, frame.time_s - first)
    return path
