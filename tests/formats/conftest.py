"""A small label output in memory: two classes, objects that come and go, one whose mask has holes and pieces."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pyarrow as pa
import pytest

from pipeline.formats.labels import connect
from pipeline.formats.selection import Selection
from pipeline.labels import PartBuilder, read_part
from pipeline.masks import rle
from tests.labelling import mask_rows

SIZE = (72, 128)
FRAMES = 9
FPS = 24.0
TIMES = tuple(t / FPS for t in range(FRAMES))


class Labels(NamedTuple):
    masks: pa.Table
    masklets: pa.Table
    videos: pa.Table

    def select(self, **options) -> Selection:
        return Selection(connect(*self), **options)


def drawing(kind: int, t: int, *, size: tuple[int, int] = SIZE, apart: bool = False) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    shift = 40 * kind if apart else 12 * kind
    disk = (y - 30) ** 2 + (x - 20 - shift - t) ** 2 < (14 - 2 * kind) ** 2
    if kind == 1:
        disk &= ~((abs(y - 30) < 4) & (abs(x - 20 - shift - t) < 5))  # a hole
        disk |= (abs(y - 60) < 3) & (abs(x - 20 - shift - t) < 6)  # a second piece
    if kind == 2 and 3 <= t < 5:
        disk[:] = False
    return disk


def part(
    video_id: str,
    objects: dict[int, str | None],
    *,
    key: str = "k1",
    apart: bool = False,
    start: int = 0,
    times: Sequence[float] = TIMES,
    **facts,
):
    """The labels of one video; `times` are those of its frames in the file."""
    with PartBuilder(video_id, label_key=key, height=SIZE[0], width=SIZE[1]) as builder:
        for t in range(start, len(times)):
            masks = np.stack([drawing(at % 3, t, apart=apart) for at in range(len(objects))])
            counts = rle.encode(masks)
            columns = {
                "object_id": list(objects),
                "is_prompted": [t == start] * len(objects),
                "counts": counts,
                "area": [rle.area(one) for one in counts],
                "boxes": [rle.bbox(one, SIZE) for one in counts],
                "object_logit": [5.0] * len(objects),
                "predicted_iou": [0.9 - 0.1 * at for at in range(len(objects))],
            }
            builder.add(mask_rows(t, times[t], columns))
        video = {
            "outcome": "labelled",
            "uri": f"videos/{video_id}.mp4",
            "frames": len(times),
            "fps": FPS,
            "height": SIZE[0],
            "width": SIZE[1],
            "extra": {"weather": "rain" if "2" in video_id else "sun"},
            **facts,
        }
        masklets = {one: {"category": name} for one, name in objects.items()}
        return read_part(builder.finish(video, masklets=masklets))


def labels_of(*parts) -> Labels:
    return Labels(*(pa.concat_tables([getattr(one, name) for one in parts]) for name in ("masks", "masklets", "video")))


def write_clip(path: Path, times: Sequence[float] = TIMES) -> str:
    """A video that shows a grey of 5 t at frame t, at times of whole milliseconds; returns its path."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv444p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for t, time_s in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((*SIZE, 3), 5 * t, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time_s), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


VIDEOS = ("clip 1", "clip/2", "..3", "ünï4", "clip5", "clip6", "clip7", "clip8")


@pytest.fixture(scope="session")
def labels() -> Labels:
    """Masks that overlap."""
    return labels_of(*(part(name, {0: "cat", 1: "dog", 7: None}, start=at % 2) for at, name in enumerate(VIDEOS)))


@pytest.fixture(scope="session")
def apart() -> Labels:
    """Masks that do not overlap, which is all that DAVIS and MOTS can hold."""
    return labels_of(*(part(name, {1: "cat", 2: "dog", 3: "dog"}, apart=True) for name in VIDEOS))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out"
