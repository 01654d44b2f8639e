"""The CUDA path without a device: results, waits, copies, launches, memory, and how busy a device would be.

Pretended CUDA computes real numbers (`pretended_cuda`); fake CUDA counts at the sizes of real models (`fake_cuda`).
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.labels.rows import measure_frame
from pipeline.tracking import Direction, Engine, MaskPostprocessor, TrackedFrame, TrackedObject
from pipeline.tracking.transfer import Ready
from pipeline.workers.frame_masks import to_host
from tests.tracking import compare, fake_cuda, models, simulated_device
from tests.tracking import videos as v
from tests.tracking.pretended_cuda import Log, Pretended, on_cuda, pretended_cuda

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_float32_is_ieee_single_precision(dtype: torch.dtype) -> None:
    with pretended_cuda():
        torch.backends.cudnn.conv.fp32_precision = "tf32"  # PyTorch's default
        Engine(on_cuda(SAM2), dtype=dtype)
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def steady(objects: int, *, frames: int = 9, dtype: torch.dtype = torch.float32) -> Iterator[TrackedFrame]:
    """Tracked frames on pretended CUDA, from the fourth on; the encoder takes frames 0 to 7 together, then the rest."""
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
                assert Log.unsafe == []
            Log.clear()
    per_frame = frame_bytes / (frames - 4)
    assert per_frame <= 3 * size * size * 1.05, "at 1024 px, 3.2 MB"


def rows(frame: TrackedFrame, postprocessor: MaskPostprocessor, *, height: int = v.HEIGHT, width: int = v.WIDTH) -> Any:
    return measure_frame(to_host(frame, postprocessor, time_s=0.0, size=(height, width), with_logits=True))


@pytest.mark.parametrize(
    "postprocessor",
    [
        MaskPostprocessor(),
        MaskPostprocessor(mask_threshold=0.5, max_hole_area=20, max_sprinkle_area=9),
        MaskPostprocessor(non_overlapping=True),
        MaskPostprocessor(max_hole_area=20, non_overlapping=True),
    ],
    ids=["plain", "areas", "non-overlapping", "both"],
)
def test_rows_are_those_of_a_cpu_and_come_down_in_one_copy(postprocessor: MaskPostprocessor) -> None:
    copies = 1 + (postprocessor.non_overlapping and postprocessor.max_hole_area > 0)
    with pretended_cuda():
        frames = list(steady(4))
        made = []
        for frame in frames:
            Log.clear()
            made.append(rows(frame, postprocessor))
            waits = [what for what, _ in Log.waits if what != "copy of pageable memory"]
            assert waits == ["event.synchronize"] * copies, Log.waits
            assert Log.unsafe == []
        kept = [on_host(frame) for frame in frames]
    assert any(any(each["area"]) for each in made)
    for frame, columns in zip(kept, made, strict=True):
        expected = rows(dataclasses.replace(frame, ready=None), postprocessor)
        assert columns.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_equal(np.asarray(columns[name]), np.asarray(values), err_msg=name)


def test_masks_come_down_as_bits() -> None:
    height, width, objects = 1080, 1920, 8
    with pretended_cuda():
        frame = next(steady(objects))
        frame = dataclasses.replace(frame, logits=torch.nn.functional.interpolate(frame.logits[None], (256, 256))[0])
        frame = dataclasses.replace(frame, ready=Ready.of(frame.ready.stream))
        Log.clear()
        rows(frame, MaskPostprocessor(), height=height, width=width)
        assert Log.down <= 2.2e6, "bytes of a 1080p frame with 8 objects"


def test_results_wait_for_their_own_frame_alone() -> None:
    with pretended_cuda():
        propagation = steady(2)
        first, later = next(propagation), next(propagation)
        default = torch.cuda.current_stream()
        launched = default.seen[default.id]
        assert first.ready.event.seen[default.id] < later.ready.event.seen[default.id] <= launched


def test_frames_that_do_not_fit_are_postprocessed_on_the_host(caplog: pytest.LogCaptureFixture) -> None:
    class Full(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.upsample_bilinear2d.default and isinstance(args[0], Pretended):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return func(*args, **(kwargs or {}))

    with pretended_cuda():
        frame = next(steady(3))
        with Full():
            made = rows(frame, MaskPostprocessor())
        expected = rows(dataclasses.replace(on_host(frame), ready=None), MaskPostprocessor())
    assert made["counts"] == expected["counts"]
    assert "postprocessed on the host" in caplog.text


@pytest.mark.parametrize(
    ("dtype", "launches"), [(torch.float32, 250), (torch.bfloat16, 270)], ids=["float32", "bfloat16"]
)
def test_a_frame_of_hiera_tiny_takes_few_launches_and_bytes(dtype: torch.dtype, launches: int) -> None:
    counted = fake_cuda.steady(models.tiny_config(1024), objects=1, dtype=dtype, warm=8)  # pointers add no launches
    print(f"\n{counted.launches:.0f} launches, {counted.up / 1e6:.2f} MB up")
    assert counted.launches <= launches
    assert counted.up <= 3.2e6


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "launches"), [(torch.float32, 250), (torch.bfloat16, 270)])
def test_eight_objects_take_no_more_launches_than_one(dtype: torch.dtype, launches: int) -> None:
    counted = fake_cuda.steady(models.tiny_config(1024), objects=8, dtype=dtype)
    print(f"\n{counted.launches:.0f} launches")
    assert counted.launches <= launches


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_32_objects_fit_into_4_gigabytes(dtype: torch.dtype) -> None:
    peak = fake_cuda.steady(models.tiny_config(1024), objects=32, dtype=dtype).peak
    print(f"\npeak {peak / 1e9:.2f} GB")
    assert peak <= 4e9


def test_batches_of_an_asynchronous_device_are_full() -> None:
    """With patience measured in launches instead of device batches, the mean is 2.5."""
    assert simulated_device.several_lanes(simulated_device.H100, frames=16).mean_batch >= 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("timing", "rate"), [(simulated_device.A100, 110), (simulated_device.H100, 215)], ids=["A100", "H100"]
)
def test_eight_lanes_keep_a_device_busy(timing: simulated_device.Timing, rate: float) -> None:
    outcome = simulated_device.several_lanes(timing)
    print(f"\n{outcome.frames_per_s:.0f} frames/s, {outcome.busy:.0%} busy, mean batch {outcome.mean_batch:.1f}")
    assert outcome.mean_batch >= 7.5
    assert outcome.busy >= 0.95
    assert outcome.frames_per_s >= rate


@pytest.mark.slow
def test_one_lane_keeps_a_device_busy() -> None:
    outcome = simulated_device.one_lane(simulated_device.H100, feed=0.004)
    print(f"\n{outcome.frames_per_s:.0f} frames/s, {outcome.busy:.0%} busy")
    assert outcome.frames_per_s >= 150
