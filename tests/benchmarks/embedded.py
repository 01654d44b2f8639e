"""Mean IoU of the embedded tracker on scenes of a renderer that it was not trained on, and on held-out demo clips.

    python -m tests.benchmarks.embedded [FOLDER] [--scenes 12] [--frames 36]

Every thing is prompted once, on the first frame where it is well visible; the mean is over the later frames on which it
is visible. FOLDER is a model folder (default: embedded).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.demo.clicks import deepest, tight_box
from pipeline.demo.renderer import EVAL_SEEDS, render
from pipeline.tracking import Engine, TrackedObject
from pipeline.tracking.model import load
from tests.scenes.scene import make_scene
from tests.tracking import videos as v

Masks = NDArray[np.bool_]
Clip = tuple[NDArray[np.uint8], list[Masks]]


def held_out_scenes(count: int, frames: int) -> Iterator[Clip]:
    """Frames (T, H, W, 3) and the visible masks (T, H, W) of the things in calm cartoon scenes."""
    for number in range(1, 2 * count, 2):
        scene = make_scene(number, calm=True, frames=frames)
        yield scene.frames, list(scene.masks().values())


def demo_clips(count: int, frames: int) -> Iterator[Clip]:
    """The same of clips of the demo's renderer with evaluation seeds."""
    for number in range(count):
        clip = render(EVAL_SEEDS + 200_000 + number, frames=frames, height=192, width=256, split="eval")
        yield clip.frames, [clip.mask(i + 1) for i in range(len(clip.objects))]


def mean_iou(engine: Engine, source: v.MemorySource, masks: list[Masks], kind: str) -> list[float]:
    """Mean IoU of each thing from one prompt of a kind, click or box."""
    objects, shown = [], {}
    for number, mask in enumerate(masks):
        visible = np.nonzero(mask.mean((1, 2)) >= 0.01)[0]
        if len(visible) == 0:
            continue
        first = int(visible[0])
        x, y = deepest(mask[first])
        prompt = v.click((x + 0.5, y + 0.5, 1)) if kind == "click" else v.box(*tight_box(mask[first]))
        objects.append(TrackedObject(object_id=number, prompts={first: prompt}))
        shown[number] = (first, list[float]())
    height, width = masks[0].shape[1:]
    for frame in engine.propagate(source, objects):
        for at, number in enumerate(frame.object_ids):
            first, ious = shown[number]
            true = masks[number][frame.frame_index]
            if frame.frame_index <= first or not true.any():
                continue
            ours = F.interpolate(frame.logits[at][None, None], (height, width), mode="bilinear")[0, 0].numpy() > 0
            ious.append(float((ours & true).sum() / (ours | true).sum()))
    return [float(np.mean(ious)) for _, ious in shown.values() if ious]


def main() -> None:
    """Prints a line for each renderer and prompt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="embedded")
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--frames", type=int, default=36)
    options = parser.parse_args()
    sam2 = load(options.folder, device="cpu")
    engine = Engine(sam2)
    for title, clips in (("held-out renderer", held_out_scenes), ("demo's renderer", demo_clips)):
        scores: dict[str, list[float]] = {"click": [], "box": []}
        for frames, masks in clips(options.scenes, options.frames):
            source = v.MemorySource(sam2, list(frames))
            for kind, found in scores.items():
                found += mean_iou(engine, source, masks, kind)
        for kind, found in scores.items():
            print(f"{title}, {kind}: mean IoU {np.mean(found):.3f} of {len(found)} things", flush=True)


if __name__ == "__main__":
    main()
