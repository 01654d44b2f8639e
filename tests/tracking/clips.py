"""Clips of the renderer that the embedded model was trained for, with prompts from their true masks."""

from collections.abc import Iterator
from typing import Any

from pipeline.demo.clicks import deepest
from pipeline.demo.renderer import EVAL_SEEDS, render
from pipeline.tracking import FramePrompt, TrackedObject
from tests.tracking import videos as v

HEIGHT, WIDTH = 192, 256


def clips(count: int, *, frames: int) -> Iterator[tuple[list[Any], list[TrackedObject]]]:
    for seed in range(EVAL_SEEDS, EVAL_SEEDS + count):
        clip = render(seed, frames=frames, height=HEIGHT, width=WIDTH, split="eval")
        objects = []
        for object_id in range(1, int(clip.ids.max()) + 1):
            mask = clip.mask(object_id)[0]
            if mask.sum() > 50:
                x, y = deepest(mask)
                prompt = v.click((x, y, 1)) if object_id % 2 else FramePrompt(mask=mask)
                objects.append(v.tracked(object_id, f0=prompt))
        if objects:
            yield list(clip.frames), objects
