"""Training batches: rendered clips as model inputs, with rows (clip, object) sorted by prompt kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.demo.clicks import depth, tight_box
from pipeline.demo.renderer import EVAL_SEEDS, render
from tests.demo.training.natural import render_natural

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
KINDS = {"click": 0.28, "box": 0.32, "mask": 0.18, "points": 0.1, "box+points": 0.12}
DURATION = 48


@dataclass(frozen=True)
class Prompt:
    """Of a block of rows: points (labels 1 in, 0 out, 2 and 3 the corners of a box), or else masks."""

    rows: slice
    points: Tensor | None = None
    """(rows, 1, N, 2) pixels of the model's frame"""
    labels: Tensor | None = None
    """(rows, 1, N) int32"""
    masks: Tensor | None = None
    """(rows, 1, S, S) float 0/1"""


@dataclass(frozen=True)
class Batch:
    pixels: Tensor
    """(clips, T, 3, S, S) normalised"""
    clip: Tensor
    """(R,) the clip of each row"""
    truth: Tensor
    """(R, T, S, S) float 0/1"""
    prompts: dict[int, list[Prompt]]
    """frame -> prompts that together cover all rows"""
    gap: int
    """frames that lie between frame 0 and frame 1"""


def make_batch(
    rng: np.random.Generator, *, clips: int, frames: int, rows: int, size: int, natural: float = 0.0
) -> Batch:
    """`rows` objects of each of `clips` clips; all are visible on frame 0 and on a later, corrected frame if any.

    A share of `natural` of the clips has natural textures, see `render_natural`.
    """
    correct = int(rng.integers(2, frames)) if frames >= 4 and rng.random() < 0.25 else None
    prompted = [0] if correct is None else [0, correct]
    gap = int(rng.integers(1, 40)) if frames > 1 and rng.random() < 0.4 else 0
    pixels: list[Tensor] = []
    masks: list[list[NDArray[np.bool_]]] = []
    while len(pixels) < clips:
        height, width = (round(size * rng.uniform(1, 1.5)) for _ in range(2))
        seed, times = int(rng.integers(EVAL_SEEDS)), _times(rng, frames, gap)
        if natural and rng.random() < natural:
            clip = render_natural(seed, frames=DURATION, height=height, width=width, times=times)
        elif frames > 1 and rng.random() < 0.8 and not _hides(seed, height // 4, width // 4, times):
            continue
        else:
            clip = render(seed, frames=DURATION, height=height, width=width, times=times)
        ids = _shrink(clip.ids, size)
        areas = np.stack([(ids[prompted] == i + 1).sum((1, 2)).min() for i in range(len(clip.objects))])
        seen = np.nonzero(areas >= 0.006 * size * size)[0] + 1
        if len(seen) == 0:
            continue
        resized = F.interpolate(
            torch.from_numpy(clip.frames).permute(0, 3, 1, 2), size=(size, size), mode="bilinear", antialias=True
        )
        pixels.append((resized.float() / 255 - MEAN) / STD)
        hides = [i for i in seen if not (ids == i).any((1, 2)).all()]
        first = rng.choice(hides if hides and rng.random() < 0.7 else seen)
        start = int(np.flatnonzero(seen == first)[0])
        masks.append([ids == seen[(start + k) % len(seen)] for k in range(rows)])

    order = rng.permutation(clips * rows)  # prompt kinds go by blocks of rows, so clips are dealt to all kinds
    clip_of = torch.from_numpy(order // rows)
    truth = np.stack([masks[n // rows][n % rows] for n in order])
    prompts = {t: _prompts(rng, truth[:, t]) for t in prompted}
    return Batch(torch.stack(pixels), clip_of, torch.from_numpy(truth).float(), prompts, gap)


def _hides(seed: int, height: int, width: int, times: list[float]) -> bool:
    """Whether an object that is well visible at first is hidden later; a small picture is enough to see that."""
    ids = render(seed, frames=DURATION, height=height, width=width, times=times).ids
    return any((ids[0] == i).mean() > 0.01 and not (ids == i).any((1, 2)).all() for i in range(1, 4))


def _times(rng: np.random.Generator, frames: int, gap: int) -> list[float]:
    stride = int(rng.integers(1, 1 + min(6, (DURATION - 2) // max(1, frames - 1))))
    times = rng.uniform(0, DURATION - 1 - stride * (frames - 1)) + stride * np.arange(frames)
    if rng.random() < 0.4:
        times = times[::-1].copy()
    if gap:
        times[0] = rng.uniform(0, DURATION - 1)
    return [float(t) for t in times]


def _shrink(ids: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    rows, columns = (((np.arange(size) + 0.5) * n / size).astype(int) for n in ids.shape[1:])
    return ids[:, rows[:, None], columns]


def _prompts(rng: np.random.Generator, masks: NDArray[np.bool_]) -> list[Prompt]:
    """Two or three kinds, each for a block of the rows of masks (R, S, S)."""
    blocks = min(len(masks), 3)
    edges = np.linspace(0, len(masks), blocks + 1).astype(int)
    kinds = rng.choice(list(KINDS), size=blocks, p=list(KINDS.values()))
    return [
        _prompt(rng, str(kind), slice(int(a), int(b)), masks[a:b])
        for kind, a, b in zip(kinds, edges[:-1], edges[1:], strict=True)
    ]


def _prompt(rng: np.random.Generator, kind: str, rows: slice, masks: NDArray[np.bool_]) -> Prompt:
    if kind == "mask":
        return Prompt(rows, masks=torch.from_numpy(masks)[:, None].float())
    clicks = {"click": 1, "box": 0, "points": int(rng.integers(2, 5)), "box+points": int(rng.integers(1, 3))}[kind]
    points, labels = [], []
    for mask in masks:
        point: list[tuple[float, float]] = []
        label: list[int] = []
        if kind.startswith("box"):
            x_min, y_min, x_max, y_max = np.array(tight_box(mask)) + rng.uniform(-1.5, 1.5, 4)
            point += [(x_min, y_min), (x_max, y_max)]
            label += [2, 3]
        distances = depth(mask)
        inside = distances >= np.quantile(distances[mask], rng.choice([0, 0.75], p=[0.3, 0.7]))
        for i in range(clicks):
            out = (i > 0 or kind == "box+points") and rng.random() < 0.4
            y, x = np.nonzero(~mask if out else inside & mask)
            pick = int(rng.integers(len(x)))
            point.append((float(x[pick]), float(y[pick])))
            label.append(0 if out else 1)
        points.append(point)
        labels.append(label)
    return Prompt(
        rows, torch.tensor(points, dtype=torch.float32)[:, None], torch.tensor(labels, dtype=torch.int32)[:, None]
    )
