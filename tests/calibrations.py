"""Made-up calibrations of the embedded model."""

from pipeline.runs.calibration import Calibration, Rate
from pipeline.tracking.modelfiles import resolve

EMBEDDED = resolve("embedded")


def rate(objects: int, lanes: int, frames_per_s: float, video_s: float = 0.0) -> Rate:
    return Rate(
        objects=objects,
        lanes=lanes,
        frames_per_s=frames_per_s,
        video_s=video_s,
        frames=100,
        full_memory=True,
        starved=0.0,
        memory_bytes=10**9,
        gpu_memory_bytes=0,
    )


def calibration(*rates: Rate, **changed) -> Calibration:
    usual = {
        "model": "embedded",
        "weights_digest": EMBEDDED.digest,
        "dtype": "float32",
        "object_cost": 1.5,
        "machine": {"compute_device": "a GPU"},
        "clip": {"width": 640, "height": 360},
        "actors": 4,
        "gpus_per_actor": 1.0,
        "cpus_per_actor": 1.0,
        "start_s": 20.0,
        "decode_frames_per_core_s": 100.0,
        "encode_masks_per_core_s": 500.0,
        "rates": list(rates),
    }
    return Calibration(**usual | changed)
