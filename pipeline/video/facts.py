"""Facts of a video from its container and first frame."""

from typing import Literal

from av.video.frame import VideoFrame

from pipeline.video.container import VideoDecoder
from pipeline.video.display import orientation_of
from pipeline.video.info import VideoInfo
from pipeline.video.timeline import timestamp

_RANGES: dict[int, Literal["limited", "full"]] = {1: "limited", 2: "full"}


def facts_of(decoder: VideoDecoder, first: VideoFrame) -> VideoInfo:
    """The VideoInfo of a file, from its container, codec and first frame."""
    stream = decoder.stream
    orientation = orientation_of(first)
    width, height = orientation.size(first.width, first.height)
    sar = stream.sample_aspect_ratio
    average, base = stream.average_rate, stream.base_rate
    stamp = timestamp(first, decoder.by_dts)
    return VideoInfo(
        width=width,
        height=height,
        rotation=orientation.rotation,
        reflected=orientation.reflected,
        sar=(sar.numerator, sar.denominator) if sar else None,
        fps=float(average) if average else None,
        variable_rate=None if not average or not base else average != base,
        codec=stream.codec_context.codec.canonical_name,
        pix_fmt=first.format.name,
        color_range=_RANGES.get(first.color_range, "unspecified"),
        container=decoder.format,
        container_frames=stream.frames or None,
        duration_s=decoder.duration_s,
        first_timestamp_s=None if stamp is None else float(stamp * decoder.time_base),
        video_streams=decoder.video_streams,
        stream_index=stream.index,
    )
