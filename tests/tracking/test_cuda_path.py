"""The CUDA path without a device: results, waits, copies, launches, memory, and how busy a device would be.

Pretended CUDA computes real numbers (`pretended_cuda`); fake CUDA counts at the sizes of real models (`fake_cuda`).
"""

import dataclasses
from collections.abc import Iterator

import pytest
import torch

from pipeline.tracking import Direction, Engine, TrackedFrame, TrackedObject
from tests.tracking import compare, models
from tests.tracking import videos as v
from tests.tracking.pretended_cuda import Log, on_cuda, pretended_cuda

SAM2 = models.random_model(1)
OBJECTS = [
    v.tracked(0, f0=v.prompt("click")),
    v.tracked(1, f1=v.prompt("box"), f3=v.prompt("click")),
    v.tracked(2, f2=v.prompt("mask")),
    TrackedObject(object_id=3, prompts={2: v.prompt("box")}, corrections={5: v.click((70.0, 40.0, 0))}),
]


def on_host(frame: TrackedFrame) -> TrackedFrame:
    return dataclasses.replace(
        frame, **{name: getattr(frame, name).cpu() for name in ("logits", "object_logit", "predicted_iou")}
    )


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_masks_and_scores_are_those_of_a_cpu(direction: Direction) -> None:
    source = v.MemorySource(SAM2, v.video(8))
    expected = list(Engine(SAM2).propagate(source, OBJECTS, direction=direction))
    with pretended_cuda():
        engine = Engine(on_cuda(SAM2))
        whole = [on_host(f) for f in engine.propagate(source, OBJECTS, direction=direction)]
        with engine.propagate(source, OBJECTS, direction=direction) as first:
            head = [on_host(next(first)) for _ in range(5)]
            state = first.checkpoint()
        resumed = [on_host(f) for f in engine.propagate(source, OBJECTS, direction=direction, resume=state)]
    compare.frames_alike(expected, whole).check()
    compare.frames_alike(expected, head + resumed).check()


def test_bfloat16_is_no_worse_than_on_a_cpu() -> None:
    sam2 = models.embedded()
    source, objects = v.MemorySource(sam2, v.video(8)), [v.tracked(n, f0=v.prompt(k)) for n, k in enumerate(v.KINDS)]
    exact = list(Engine(sam2).propagate(source, objects))
    cpu = list(Engine(sam2, dtype=torch.bfloat16).propagate(source, objects))
    with pretended_cuda():
        cuda = [on_host(f) for f in Engine(on_cuda(sam2), dtype=torch.bfloat16).propagate(source, objects)]
    flipped_cpu, flipped_cuda = (compare.frames_alike(exact, bf16).flipped for bf16 in (cpu, cuda))
    print(f"\npixels that bfloat16 changes: {flipped_cpu} on a CPU, {flipped_cuda} on pretended CUDA")
    assert flipped_cuda <= 1.1 * flipped_cpu + 20


def steady(objects: int, *, frames: int = 12, dtype: torch.dtype = torch.float32) -> Iterator[TrackedFrame]:
    """Tracked frames on pretended CUDA, from the fourth on."""
    tracked = [v.tracked(n, f0=v.prompt(v.KINDS[n % 4])) for n in range(objects)]
    source = v.MemorySource(SAM2, v.video(frames))
    with Engine(on_cuda(SAM2), dtype=dtype).propagate(source, tracked) as propagation:
        for _ in range(3):
            next(propagation)
        yield from propagation


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_propagation_step_never_waits_for_the_device(dtype: torch.dtype) -> None:
    with pretended_cuda():
        for n, frame in enumerate(steady(3, dtype=dtype)):
            if n:
                assert Log.waits == [], frame.frame_index
            Log.clear()


def test_frames_go_up_once_as_bytes() -> None:
    frames, size = 12, SAM2.image_size
    with pretended_cuda():
        frame_bytes = 0
        for frame in steady(1, frames=frames):
            if frame.frame_index > 3:
                frame_bytes += Log.up
            Log.clear()
        assert Log.unsafe == []
    per_frame = frame_bytes / (frames - 4)
    assert per_frame <= 3 * size * size * 1.05, "at 1024 px, 3.2 MB"
