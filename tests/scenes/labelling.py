"""Masklets of a scene from prompts, and its figures; in this process, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.demo.clicks import tight_box
from pipeline.detection.table import to_detections
from pipeline.detection.track import track_detections
from pipeline.manifest.build.detections import SIDES, Every, detections_to_prompts
from pipeline.tracking import Engine, FramePrompt, TrackedFrame, TrackedObject
from pipeline.tracking.sam2.model import Sam2
from tests.scenes.metrics import Frame, overlaps
from tests.scenes.scene import HEIGHT, MIN_AREA, RATE, WIDTH, Scene
from tests.tracking import videos as v

Masklets = dict[int, NDArray[np.bool_]]
Method = Callable[[Sam2, Scene, pa.Table, float], Masklets]
"""From a model, a scene, its detections and the seconds between looks to masklets."""


def masklets(frames: Iterable[TrackedFrame], scene: Scene) -> Masklets:
    """Masks (T, H, W) of each tracked object."""
    found: Masklets = {}
    for frame in frames:
        large = F.interpolate(frame.logits[:, None], (HEIGHT, WIDTH), mode="bilinear")[:, 0].numpy() > 0
        for object_id, mask in zip(frame.object_ids, large, strict=True):
            found.setdefault(object_id, np.zeros(scene.ids.shape, bool))[frame.frame_index] = mask
    return found


def from_prompts(sam2: Sam2, scene: Scene, prompts: dict[int, dict[int, FramePrompt]]) -> Masklets:
    """Masklets from prompts by object and frame."""
    if not prompts:
        return {}
    objects = [TrackedObject(object_id=i, prompts=dict(sorted(given.items()))) for i, given in sorted(prompts.items())]
    source = v.MemorySource(sam2, list(scene.frames))
    return masklets(Engine(sam2).propagate(source, objects), scene)


def from_true_box(sam2: Sam2, scene: Scene, _detections: pa.Table, every_s: float) -> Masklets:
    """Masklets from the true box of each thing on the first look that can see it."""
    prompts: dict[int, dict[int, FramePrompt]] = {}
    for i, mask in scene.masks().items():
        looks = range(0, len(mask), round(every_s * RATE))
        first = next((t for t in looks if mask[t].mean() >= MIN_AREA), None)
        if first is not None:
            prompts[i] = {first: v.box(*tight_box(mask[first]))}
    return from_prompts(sam2, scene, prompts)


def from_detections(sam2: Sam2, scene: Scene, detections: pa.Table, _every_s: float) -> Masklets:
    """Masklets of objects that are decided while tracking, as `jobs.label --detections` does."""
    source = v.MemorySource(sam2, list(scene.frames))
    table = to_detections(detections.combine_chunks().to_batches()[0])[0]
    frames, _ = track_detections(Engine(sam2), source, pa.Table.from_batches([table]), fps=RATE)
    return masklets(frames, scene)


def from_manifest(sam2: Sam2, scene: Scene, detections: pa.Table, every_s: float) -> Masklets:
    """Masklets from the prompts of `jobs.manifest from-detections --refine every --confirm-score 0`, of all looks."""
    boxes = detections.filter(pc.is_valid(detections["box"]))
    sides = boxes["box"].combine_chunks()
    flat = boxes.drop(["box"])
    for name in SIDES:
        flat = flat.append_column(name, sides.field(name))
    table = detections_to_prompts(flat, every=Every(frames=round(every_s * RATE)), match_iou=0.3)
    prompts: dict[int, dict[int, FramePrompt]] = {}
    for row in table.to_pylist():
        prompt = v.box(*(row[side] for side in SIDES))
        prompts.setdefault(row["object_id"], {})[row["frame_index"]] = prompt
    return from_prompts(sam2, scene, prompts)


def score(scene: Scene, ours: Masklets) -> list[Frame]:
    """Overlaps of the things that a detector can see with masklets, for `metrics.figures`.

    Pixels of things that no detector can see long enough count neither as right nor as wrong.
    """
    true = scene.masks()
    ignored = (scene.ids > 0) & ~np.isin(scene.ids, list(true))
    shown = {i: mask & ~ignored for i, mask in ours.items()}
    return overlaps(true, {i: mask for i, mask in shown.items() if mask.any()})
