"""Compares a fast stepper with the reference on three synthetic frames, before a worker takes its first video.

The fast steppers compute with transformers' weights but not with its code. If a release of transformers changes what a
weight means, masks would change without an error. The comparison runs every kind of step once: a click, a box and a
mask prompt on the first frame, two objects and a correction on the second, and the third as frame 40 of a longer video,
with a full memory bank. Both steppers get the reference's memories, so that each step is compared by itself.

It is always in float32. In bfloat16, rounding alone differs by 2e-2 and exchanges masks of nearly the same score, which
would hide a change or pretend one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.tracking.bank import MemoryBank
from pipeline.tracking.objects import FramePrompt
from pipeline.tracking.results import Results
from pipeline.tracking.stepping import Correction, Stepper

ALLOWED = {"logits": 3e-4, "object_logit": 3e-4, "predicted_iou": 3e-4, "pointer": 3e-4, "memory": 2e-3}
"""Largest difference that is rounding: of scores, relative to 1 or more; else the root mean square of the difference
relative to that of the values. On a CPU, 2e-6 (EdgeTAM: 5e-5) and, of memories, 2e-4 were measured."""
SEEDS = (0, 1)
"""Synthetic videos. Two masks of equal score may change places by rounding, on one video but not on two."""

_LATE_FRAME = 40


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A value of one step that differs from the reference by more than rounding."""

    step: str
    value: str
    found: float
    allowed: float

    def __str__(self) -> str:
        return f"{self.value} of {self.step} differs by {self.found:.1e} (allowed: {self.allowed:.0e})"


def differences(fast: Stepper, reference: Stepper, *, size: int) -> list[Difference]:
    """What differs by more than rounding on every synthetic video, in the order of the steps; empty if nothing does.

    Args:
        fast: the stepper that is compared, in float32.
        reference: transformers' own loop on the same model, in float32.
        size: side of the model's image, in pixels.
    """
    found: list[Difference] = []
    for seed in SEEDS:
        found = [d for d in compare_steps(fast, reference, size=size, seed=seed) if not d.found <= d.allowed]
        if not found:
            return []
    return found


def compare_steps(fast: Stepper, reference: Stepper, *, size: int, seed: int = 0) -> Iterator[Difference]:
    """The differences of every value of every step, allowed ones included."""
    frames, prompts, correction = _scene(size, seed)
    height, width = size * 3 // 4, size
    steppers: tuple[Stepper, ...] = (fast, reference)
    with fast.inference(), reference.inference():
        features = [stepper.encode(frames) for stepper in steppers]

        def prepared(prompt: FramePrompt) -> list[Any]:
            return [stepper.prepare(prompt, height=height, width=width) for stepper in steppers]

        def step(name: str, results: Sequence[Results]) -> Iterator[Difference]:
            yield from _apart_by_value(name, *results)

        banks = [MemoryBank(start=0, limits=reference.limits, keep_start=False) for _ in prompts]
        first: list[Results] = []
        for name, prompt in prompts.items():
            made = prepared(prompt)
            both = [s.prompt([(f[0], p)]) for s, f, p in zip(steppers, features, made, strict=True)]
            yield from step(f"a {name} prompt", both)
            first.append(both[1])
        for bank, result in zip(banks, first, strict=True):
            bank.add_prompted(0, result.memory[0], result.pointer[0])
        pointers = reference.max_pointers
        contexts = [bank.context(1, reverse=False, max_pointers=min(3, pointers)) for bank in banks[:2]]
        both = [s.track([(f[1], c) for c in contexts]) for s, f in zip(steppers, features, strict=True)]
        yield from step("tracking", both)
        tracked = both[1]
        corrections = [
            Correction(context=contexts[0], prompt=p, logits=tracked.logits[0]) for p in prepared(correction)
        ]
        corrected = [s.correct([(f[1], c)]) for s, f, c in zip(steppers, features, corrections, strict=True)]
        yield from step("a correction", corrected)
        bank = banks[0]
        for age in range(reference.limits.pointers, 0, -1):  # as if every frame had been like the second
            bank.add_tracked(_LATE_FRAME - age, tracked.memory[0], tracked.pointer[0], reverse=False)
        context = bank.context(_LATE_FRAME, reverse=False, max_pointers=pointers)
        both = [s.track([(f[2], context)]) for s, f in zip(steppers, features, strict=True)]
        yield from step("tracking with a full memory", both)


def _apart_by_value(step: str, fast: Results, reference: Results) -> Iterator[Difference]:
    for name, allowed in ALLOWED.items():
        own, wanted = (getattr(results, name).float() for results in (fast, reference))
        found = _apart(own, wanted, relative=wanted.dim() > 1)
        yield Difference(step=step, value=name, found=found, allowed=allowed)


def _apart(own: torch.Tensor, wanted: torch.Tensor, *, relative: bool) -> float:
    """The difference; infinite where the shapes differ or a number is missing on one side alone."""
    if own.shape != wanted.shape or not torch.equal(own.isnan(), wanted.isnan()):
        return torch.inf
    own, wanted = own.nan_to_num(), wanted.nan_to_num()
    if not relative:
        return float(((own - wanted).abs() / wanted.abs().clamp(min=1.0)).max())
    scale = wanted.square().mean().sqrt().clamp(min=1e-6)
    return float((own - wanted).square().mean().sqrt() / scale)


def _scene(size: int, seed: int) -> tuple[list[torch.Tensor], dict[str, FramePrompt], FramePrompt]:
    """Three frames (S, S, 3) of a disc and a box that move over noise, prompts of the first, and a correction.

    Prompts are in pixels of a displayed frame of 3 to 4, as if the model's frames were resized from it.
    """
    rng = np.random.default_rng(seed)
    ground = rng.integers(60, 120, (size, size, 3), dtype=np.uint8)
    ys, xs = np.mgrid[:size, :size] / size
    frames = []
    for t in range(3):
        frame = ground.copy()
        frame[(ys - 0.4) ** 2 + (xs - 0.3 - 0.03 * t) ** 2 < 0.02] = (220, 60, 40)
        frame[np.maximum(abs(ys - 0.6 + 0.02 * t), abs(xs - 0.7)) < 0.13] = (30, 80, 230)
        frames.append(torch.from_numpy(frame))
    height, width = size * 3 // 4, size
    shape = np.array([width, height], np.float32)
    drawn = np.zeros((height, width), np.bool_)
    drawn[height // 4 : height // 2, width // 5 : width // 3] = True
    prompts = {
        "click": FramePrompt(points=_points((0.3, 0.4)) * shape, labels=np.array([1])),
        "box": FramePrompt(box=(_points((0.57, 0.47), (0.83, 0.73)) * shape).flatten()),
        "mask": FramePrompt(mask=drawn),
    }
    return frames, prompts, FramePrompt(points=_points((0.35, 0.4), (0.6, 0.8)) * shape, labels=np.array([1, 0]))


def _points(*places: tuple[float, float]) -> NDArray[np.float32]:
    return np.array(places, np.float32)
