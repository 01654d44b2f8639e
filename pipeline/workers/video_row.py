"""The videos row of a labelled video."""

import resource
import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from typing import Any

from pipeline.labels.key import ALGORITHM_VERSION
from pipeline.manifest import prompts_to_json
from pipeline.video import VideoReader
from pipeline.workers.task import LabelerSettings, Task


def video_row(
    task: Task,
    settings: LabelerSettings,
    reader: VideoReader,
    *,
    frames: int,
    size: int,
    seconds: Mapping[str, float],
    environment: Mapping[str, str | None],
    relabelled_from: int | None = None,
) -> dict[str, Any]:
    """Columns of VIDEOS (video, settings and results), and under "extra" the manifest's own columns.

    Args:
        task: the video and its label key.
        settings: settings of the run.
        reader: the video, read to its end.
        frames: number of frames of the labelled segment.
        size: bytes of the source.
        seconds: decode_s, step_s, starved_s and total_s spent on this video.
        environment: columns of the device and the software that computed the masks.
        relabelled_from: first frame that was tracked, where the rows before it are those of earlier labels.
    """
    info, damage, video = reader.info, reader.damage, task.video
    return {
        "outcome": "labelled",
        "uri": video.video_uri,
        "version": task.version,
        "size": size,
        "start_s": video.start_s,
        "end_s": video.end_s,
        "prompts_digest": task.prompts_digest,
        "prompts": prompts_to_json(video.prompts),
        "frames": frames,
        "fps": info.fps,
        "label_rate": task.label_rate,
        "height": info.height,
        "width": info.width,
        "rotation": info.rotation,
        "reflected": info.reflected,
        "sample_aspect_ratio": info.sar[0] / info.sar[1] if info.sar else None,
        "variable_rate": info.variable_rate,
        "codec": info.codec,
        "pixel_format": info.pix_fmt,
        "color_range": info.color_range,
        "container_frames": info.container_frames,
        "damaged_packets": damage.damaged_packets,
        "truncated": damage.truncated,
        "model": settings.model,
        "weights_digest": settings.weights_digest,
        "parameters": (task.parameters or settings.parameters).to_json(),
        "detections_digest": task.detections_digest,
        "association": replace(settings.association, cuts=task.cuts).to_json()
        if task.detections_digest is not None
        else None,
        "algorithm_version": ALGORITHM_VERSION,
        "package_version": package_version("sam2-corpus"),
        "run_id": settings.run_id,
        "worker": socket.gethostname(),
        "attempts": task.attempt,
        "committed_at": datetime.now(UTC),
        "decode_s": seconds.get("decode_s", 0.0),
        "model_s": seconds.get("step_s", 0.0) - seconds.get("starved_s", 0.0),
        "total_s": seconds["total_s"],
        "relabelled_from": relabelled_from,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **environment,
        "extra": video.carried,
    }
