"""Small videos of every troublesome kind, encoded here, and plain PyAV as the oracle for their frames."""

import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.video import Frame, VideoReader

X264 = "libx264"


def picture(index: int, width: int, height: int) -> np.ndarray:
    """A gradient that moves, so that every frame differs from every other."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(x * 3 + index * 7) % 256, (y * 5 + index * 3) % 256, (x + y + index * 11) % 256], -1).astype("u1")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """How to encode a clip; `name` gives the container by its suffix."""

    name: str
    frames: int = 30
    size: tuple[int, int] = (96, 64)
    codec: str = X264
    pix_fmt: str = "yuv420p"
    rate: int = 25
    gop: int = 10
    options: dict[str, str] = field(default_factory=dict)
    container: dict[str, str] = field(default_factory=dict)
    format: str | None = None
    pts: tuple[int, ...] = ()
    time_base: Fraction | None = None
    matrix: tuple[int, ...] = ()
    """Display matrix, nine numbers in units of one."""
    sar: Fraction | None = None
    color_range: int | None = None

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        width, height = self.size
        with av.open(str(path), "w", format=self.format, container_options=self.container) as out:
            stream: Any = out.add_stream(self.codec, rate=self.rate, options=self.options)
            stream.width, stream.height, stream.pix_fmt = width, height, self.pix_fmt
            stream.codec_context.gop_size = self.gop
            if self.time_base:
                stream.codec_context.time_base = self.time_base
            if self.sar:
                stream.codec_context.sample_aspect_ratio = self.sar
            if self.color_range:
                stream.codec_context.color_range = self.color_range
            if self.matrix:
                stream.set_display_matrix(self.matrix)
            for index in range(self.frames):
                frame = av.VideoFrame.from_ndarray(picture(index, width, height), format="rgb24")
                if self.pts:
                    frame.pts, frame.time_base = self.pts[index], self.time_base
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        return path


def x264(name: str, params: str, **more: Any) -> Clip:
    return Clip(name=name, options={"x264-params": params}, **more)


CLIPS = (
    x264("open-gop.mp4", "open-gop=1:bframes=3:b-adapt=0", frames=60),
    x264("open-gop.ts", "open-gop=1:bframes=3:b-adapt=0", frames=60),
    x264("open-gop.mkv", "open-gop=1:bframes=3:b-adapt=0", frames=60),
    x264("intra-refresh.mp4", "intra-refresh=1:bframes=0", frames=60),
    x264("intra-refresh.ts", "intra-refresh=1:bframes=0", frames=60),
    x264("b-pyramid.mp4", "bframes=8:b-pyramid=normal:b-adapt=0", frames=60, gop=20),
    x264("interlaced.mp4", "tff=1"),
    x264("b-frames.avi", "bframes=3:b-adapt=0"),
    Clip(name="hevc-open-gop.mp4", codec="libx265", frames=40, options={"x265-params": "log-level=none:keyint=12"}),
    Clip(name="raw.h264", format="h264"),
    Clip(name="mpeg4.avi", codec="mpeg4"),
    Clip(name="mpeg2.mpg", codec="mpeg2video", frames=40, options={"bf": "2"}),
    Clip(name="mpeg2.ts", codec="mpeg2video", frames=40, options={"bf": "2"}),
    Clip(name="wmv.asf", codec="wmv2"),
    Clip(name="flash.flv"),
    Clip(name="vp8.webm", codec="libvpx", options={"deadline": "realtime"}),
    Clip(name="vp9.webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    Clip(name="mjpeg.avi", codec="mjpeg", pix_fmt="yuvj420p"),
    Clip(name="bottom-up.avi", codec="rawvideo", pix_fmt="bgr24", frames=5, size=(50, 40)),
    Clip(name="gray.mkv", codec="ffv1", pix_fmt="gray", frames=10),
    Clip(name="444.mp4", pix_fmt="yuv444p", frames=10),
    Clip(name="ten-bit.mp4", pix_fmt="yuv420p10le", frames=10),
    Clip(
        name="hdr.mp4",
        codec="libx265",
        pix_fmt="yuv420p10le",
        frames=10,
        options={"x265-params": "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"},
    ),
    Clip(name="full-range.mp4", frames=10, color_range=2),
    Clip(name="alpha.mkv", codec="ffv1", pix_fmt="bgra", frames=10),
    Clip(name="odd-size.mkv", codec="ffv1", frames=10, size=(95, 63)),
    Clip(name="prores.mov", codec="prores_ks", pix_fmt="yuv422p10le", frames=10),
    Clip(name="animated.png", format="apng", codec="apng", pix_fmt="rgba", frames=10),
    Clip(name="animated.gif", codec="gif", pix_fmt="rgb8", frames=10),
    Clip(name="one-frame.mp4", frames=1),
    Clip(name="one-a-second.mp4", rate=1, frames=5),
    Clip(name="240-a-second.mp4", rate=240, frames=60),
    Clip(name="fragmented.mp4", frames=40, container={"movflags": "frag_keyframe+empty_moov"}),
    Clip(
        name="variable.mkv",
        frames=12,
        pts=(0, 40, 45, 200, 1000, 1001, 1002, 1500, 1600, 2000, 2001, 9000),
        time_base=Fraction(1, 1000),
    ),
    Clip(name="late-start.mkv", frames=8, pts=tuple(range(5000, 5800, 100)), time_base=Fraction(1, 1000)),
)


def decoded(path: Path) -> list[tuple[float, int]]:
    """(time, checksum of RGB) of every frame as plain PyAV gives it, packet by packet, in one thread."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                frames += packet.decode()
            except av.error.InvalidDataError:
                continue
        unit = stream.time_base
    stamps = [frame.pts if frame.pts is not None else -1 for frame in frames]
    return [
        (float((stamp - stamps[0]) * unit), checksum(frame.to_ndarray(format="rgb24")))
        for stamp, frame in zip(stamps, frames, strict=True)
    ]


def checksum(rgb: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(rgb).data)


def summary(frame: Frame) -> tuple[int, float, tuple[int, ...], int]:
    return frame.index, frame.time_s, frame.rgb.shape, checksum(frame.rgb)


def forward(video: VideoReader, start: int = 0) -> list[tuple[int, float, tuple[int, ...], int]]:
    return [summary(frame) for frame in video.forward(start)]


def backward(video: VideoReader, start: int) -> list[tuple[int, float, tuple[int, ...], int]]:
    return [summary(frame) for frame in video.backward(start)]
