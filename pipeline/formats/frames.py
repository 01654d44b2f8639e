"""Pictures of the selected frames, decoded from the videos that were labelled."""

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import VideoError
from pipeline.formats.format import Format, Piece
from pipeline.formats.video_masks import VideoMasks
from pipeline.storage import Storage
from pipeline.video.content import open_labelled

QUALITY = 95
"""Quality of JPEG, about that of the pictures of SA-V and COCO."""


def pictures(video: VideoMasks, form: Format, *, storage: Storage | None = None) -> Iterator[Piece]:
    """A JPEG for each selected frame, at the path that the format expects.

    Raises:
        VideoError: The video can no longer be decoded, has another size, or ends before a selected frame.
    """
    uri = str(video.facts.get("uri") or "")
    if not uri:
        raise VideoError("the labels do not say where the video is")
    wanted = sorted(set(video.rows.column("frame_index").to_pylist()))
    with open_labelled(video.facts, storage=storage) as reader:
        left = iter(wanted)
        due = next(left)
        for frame in reader.forward(wanted[0]):
            if frame.index < due:
                continue
            yield Piece(form.image_path(video, due), _jpeg(frame.rgb))
            following = next(left, None)
            if following is None:
                return
            due = following
    raise VideoError(f"{uri} ends before frame {due}, which was labelled")


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(rgb).save(sink, "JPEG", quality=QUALITY)
    return sink.getvalue()
