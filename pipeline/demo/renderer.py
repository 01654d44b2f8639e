"""Clips of moving shapes with exact masks: `render(seed, ...)` is a pure function of its arguments.

Shapes move, turn, grow, hide behind bars and each other, leave the frame and return, over a textured ground under a
moving camera. Colours of one thing keep a distance from those of every other thing and of the ground, so that no clip
is ambiguous. Seeds from EVAL_SEEDS upward are for evaluation: training never draws them, and `split="eval"` adds
outlines, textures, motions, sizes and zooms that training clips do not have. `split="all"` draws these with training's
seeds: a detector has to know every outline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipeline.demo import shapes

Split = Literal["train", "eval", "all"]

EVAL_SEEDS = 1_000_000_000
COLOUR_DISTANCE = 100.0  # between any colour of one thing and any of another, euclidean RGB
SKIN_SPAN = 2.6  # a texture covers its shape out to radius 1.3


@dataclass(frozen=True, kw_only=True)
class Thing:
    """What one object is; its id in `Clip.ids` is its place in `Clip.objects` plus one."""

    outline: str
    texture: str
    motion: str
    radius: float
    """of the circle around it at scale 1, in units of the frame's short side"""
    colours: NDArray[np.float64]
    """(2, 3) RGB, the ends of its texture"""


@dataclass(frozen=True)
class Clip:
    frames: NDArray[np.uint8]
    """(T, H, W, 3) RGB"""
    ids: NDArray[np.uint8]
    """(T, H, W) visible object of each pixel, 0 for the ground and for bars in front"""
    objects: tuple[Thing, ...]

    def mask(self, object_id: int) -> NDArray[np.bool_]:
        """(T, H, W) visible pixels of one object."""
        return self.ids == object_id


def render(
    seed: int,
    *,
    frames: int,
    height: int,
    width: int,
    split: Split = "train",
    times: Sequence[float] | None = None,
) -> Clip:
    """Clip of `frames` frames; `times` (in frames) draws only those moments of it."""
    if (seed >= EVAL_SEEDS) != (split == "eval"):
        raise ValueError(f"seed {seed} is not for {split!r}: evaluation seeds, and only those, are >= {EVAL_SEEDS}")
    scene = _Scene(np.random.default_rng(seed), frames, height, width, split)
    drawn = [scene.draw(t) for t in (range(frames) if times is None else times)]
    return Clip(np.stack([f for f, _ in drawn]), np.stack([i for _, i in drawn]), tuple(scene.things))


class _Scene:
    def __init__(self, rng: np.random.Generator, duration: int, height: int, width: int, split: Split) -> None:
        held_out = split != "train"
        outlines = shapes.TRAIN_OUTLINES + (shapes.EVAL_OUTLINES if held_out else ())
        textures = shapes.TRAIN_TEXTURES + (shapes.EVAL_TEXTURES if held_out else ())
        motions = shapes.TRAIN_MOTIONS + (shapes.EVAL_MOTIONS if held_out else ())
        self.height, self.width, self.unit = height, width, min(height, width)
        extent = (width / self.unit, height / self.unit)
        self.palette = _Palette(rng)

        colours = self.palette.draw(spread=(30, 80))
        assert colours is not None  # the first colours always fit
        self.ground_span = max(extent) + 1.2
        self.ground = shapes.texture(
            str(rng.choice(textures)), rng, int(self.unit * self.ground_span), self.ground_span, *colours
        )
        self.pan = rng.normal(0, 0.12, 2), rng.uniform(0, 0.1, 2), rng.uniform(0, 6, 2)
        self.zoom = rng.uniform(0, 0.16 if held_out else 0.1), rng.uniform(0, 6)
        self.period, self.duration = rng.uniform(30, 90), duration

        self.things: list[Thing] = []
        self.parts = []
        for _ in range(int(rng.integers(1, 4))):
            colours = self.palette.draw(spread=(20, 70))
            kinds = {"outline": outlines, "texture": textures, "motion": motions}
            chosen = {name: str(rng.choice(kind)) for name, kind in kinds.items()}
            radius = rng.uniform(0.12, 0.29) if held_out else rng.uniform(0.13, 0.27)
            if colours is None:
                continue
            self.things.append(Thing(**chosen, radius=radius, colours=colours))
            skin = shapes.texture(chosen["texture"], rng, 128, SKIN_SPAN, *colours)
            swell = rng.uniform(0, 0.3 if held_out else 0.2), rng.uniform(0, 6)
            self.parts.append(
                (
                    shapes.outline(chosen["outline"], rng),
                    skin,
                    shapes.path(chosen["motion"], rng, extent, radius, duration),
                    (rng.uniform(0, 6), rng.normal(0, 0.04)),
                    swell,
                )
            )
        self.bars = self._bars(rng, extent)
        self.noise, self.blur = rng.uniform(0, 5), rng.uniform(0.3, 0.7)
        self.noise_seed = int(rng.integers(1 << 62))
        self.grid = np.mgrid[0:height, 0:width].astype(np.float32) / self.unit

    def _bars(
        self, rng: np.random.Generator, extent: tuple[float, float]
    ) -> list[tuple[int, float, float, NDArray[np.float64]]]:
        """Bars in front of everything: (axis, position, thickness, colour)."""
        colours, axis = self.palette.draw(spread=(0, 1)), int(rng.integers(2))
        position, thickness = rng.uniform(0.2, 0.8) * extent[axis], rng.uniform(0.08, 0.24)
        if colours is None or rng.random() > 0.35:
            return []
        return [(axis, position, thickness, colours[0])]

    def draw(self, t: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frame (H, W, 3) and ids (H, W) at time t."""
        drift, sway, phase = self.pan
        shift = drift * (t / self.duration) + sway * np.sin(2 * math.pi * t / self.period + phase)
        zoom = 1 + self.zoom[0] * math.sin(2 * math.pi * t / self.period + self.zoom[1])
        y, x = self.grid
        size = self.ground.shape[0]
        texel = size / self.ground_span
        column = ((x[0] * zoom + 0.5 + shift[0]) * texel).astype(np.int32) % size
        row = ((y[:, 0] * zoom + 0.5 + shift[1]) * texel).astype(np.int32) % size
        image = self.ground[row[:, None], column]

        canvas = Image.new("L", (self.width, self.height))
        pen = ImageDraw.Draw(canvas)
        poses = []
        for number, (polygon, _, path, (angle, spin), (swell, beat)) in enumerate(self.parts, 1):
            scale = self.things[number - 1].radius * (1 + swell * math.sin(2 * math.pi * t / self.period + beat))
            cos, sin = math.cos(angle + spin * t), math.sin(angle + spin * t)
            centre = np.array(path(t))
            corners = (polygon * scale @ np.array([[cos, sin], [-sin, cos]]) + centre) * self.unit
            pen.polygon([(float(a), float(b)) for a, b in corners], fill=number)
            poses.append((centre, cos / scale, sin / scale))
        for bar, (axis, position, thickness, _) in enumerate(self.bars):
            low, high = ((position - shift[axis] + side * thickness / 2) * self.unit for side in (-1, 1))
            pen.rectangle((low, 0, high, self.height) if axis == 0 else (0, low, self.width, high), fill=255 - bar)
        ids = np.array(canvas)

        for number, (centre, cos, sin) in enumerate(poses, 1):
            rows, columns = np.nonzero(ids == number)
            dx, dy = columns / self.unit - centre[0], rows / self.unit - centre[1]
            skin = self.parts[number - 1][1]
            u, v = (
                ((a + SKIN_SPAN / 2) * (128 / SKIN_SPAN)).astype(np.int32) % 128
                for a in (cos * dx + sin * dy, cos * dy - sin * dx)
            )
            image[rows, columns] = skin[v, u]
        for bar, (_, _, _, colour) in enumerate(self.bars):
            image[ids == 255 - bar] = colour
        ids[ids > len(self.parts)] = 0

        grain = np.random.default_rng([self.noise_seed, round(t * 1000)]).standard_normal(image.shape, dtype=np.float32)
        soft = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(self.blur)), np.float32)
        return np.clip(soft + grain * self.noise, 0, 255).astype(np.uint8), ids


class _Palette:
    """Draws pairs of colours whose mixing line keeps COLOUR_DISTANCE from all lines drawn before."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.taken = np.zeros((0, 3))

    def draw(self, spread: tuple[float, float]) -> NDArray[np.float64] | None:
        """(2, 3) colours `spread` apart, or None if the remaining colours are too near to those drawn."""
        for _ in range(60):
            first = self.rng.uniform(10, 245, 3)
            way = self.rng.normal(0, 1, 3)
            second = np.clip(first + way / np.linalg.norm(way) * self.rng.uniform(*spread), 0, 255)
            line = first + (second - first) * np.array([[0.0], [0.25], [0.5], [0.75], [1.0]])
            gaps = np.linalg.norm(line[:, None] - self.taken[None], axis=-1)
            if gaps.size == 0 or gaps.min() >= COLOUR_DISTANCE:
                self.taken = np.concatenate([self.taken, line])
                return np.stack([first, second])
        return None
