"""What the columns of quality cost: their share of the time that tracking itself takes, hiera-tiny at 512 px.

    python -m tests.benchmarks.quality [--size 512] [--objects 1 8]

Both are CPU seconds of one thread, of the same frames: the engine's steps, against all that quality adds (measures of
logits, motion from stored columns, masklets with their doubt). Random weights, whose ragged masks are dearer to count.
"""

import argparse
import time

import pyarrow as pa
import torch

from pipeline.labels.builder import PartBuilder
from pipeline.labels.masklets import masklet_quality
from pipeline.labels.measures.frames import measure_logits
from pipeline.labels.rows import measure_frame, measure_masklet
from pipeline.tracking import Engine, MaskPostprocessor
from pipeline.workers.frame_masks import count_logits, to_host
from tests.benchmarks.engine import objects
from tests.tracking import models, videos

FRAMES = 8


def share(size: int, count: int) -> tuple[float, float]:
    """CPU seconds of tracking and of quality, per frame."""
    sam2 = models.random_sam2(models.tiny_config(size))
    source = videos.MemorySource(sam2, videos.video(FRAMES))
    height, width = videos.HEIGHT, videos.WIDTH
    tracking = quality = 0.0
    with PartBuilder("v", label_key="k", height=height, width=width) as builder:
        frames = Engine(sam2).propagate(source, objects(count))
        while True:
            start = time.process_time()
            frame = next(frames, None)
            tracking += time.process_time() - start
            if frame is None:
                break
            start = time.process_time()
            counts = count_logits(frame.logits)
            measure_logits(counts, frame.object_ids)
            quality += time.process_time() - start
            masks = to_host(
                frame, MaskPostprocessor(), time_s=frame.frame_index, size=(height, width), with_logits=True
            )
            builder.add(measure_frame(masks))
        masklets: list[pa.Table] = [rows for _, rows in builder.by_object()]
    start = time.process_time()
    for rows in masklets:
        masklet_quality(measure_masklet(rows, None, height=height, width=width), pixels=height * width)
    quality += time.process_time() - start
    return tracking / FRAMES, quality / FRAMES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 8])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for count in given.objects:
        tracking, quality = share(given.size, count)
        print(
            f"hiera-tiny {given.size} px, {count} objects: tracking {1e3 * tracking:.0f} ms a frame, "
            f"quality {1e3 * quality:.2f} ms: {quality / tracking:.2%} (at most 3 %)"
        )


if __name__ == "__main__":
    main()
