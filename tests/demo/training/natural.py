"""Clips of cut-out things with natural textures, unlike the demo's: for training alone.

The pictures are those that scikit-image and scikit-learn ship in their wheels; `pictures` finds them in an environment
where these are installed. Things are random blobs or unions of parts, each with its own texture; they deform, move on
smooth random paths, leave and return, and hide each other.
"""

from __future__ import annotations

import importlib.util
import math
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipeline.demo.renderer import Clip, Thing

_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
_SUFFIXES = {".png", ".jpg"}
SIDE = 96  # pixels of a thing's picture; the thing fits into 0.4 of it around its centre

Array = NDArray[np.float64]
Random = np.random.Generator


@cache
def pictures() -> tuple[NDArray[np.uint8], ...]:
    """RGB pictures of at least 200 pixels a side, at most 400.

    Raises:
        ModuleNotFoundError: Neither package is installed.
    """
    found = []
    for package, folder in _FOLDERS.items():
        spec = importlib.util.find_spec(package)
        places = spec.submodule_search_locations if spec else None
        for path in sorted(p for place in places or () for p in (Path(place) / folder).iterdir()):
            if path.suffix in _SUFFIXES:
                image = Image.open(path).convert("RGB")
                image.thumbnail((400, 400))
                if min(image.size) >= 200:
                    found.append(np.asarray(image))
    if not found:
        raise ModuleNotFoundError("natural textures need `pip install scikit-image scikit-learn`")
    return tuple(found)


def render_natural(seed: int, *, frames: int, height: int, width: int, times: list[float]) -> Clip:
    """Clip of the moments `times` (in frames, of `frames`) of a scene."""
    rng = np.random.default_rng([3, seed])
    unit = min(height, width)
    extent = np.array([width, height]) / unit
    ground = _texture(rng, int(unit * 2.4))
    tone = ground.mean((0, 1))
    things = [_Cutout(rng, extent, frames, tone, front=False) for _ in range(int(rng.integers(1, 5)))]
    front = [_Cutout(rng, extent, frames, tone, front=True) for _ in range(int(rng.random() < 0.35))]
    pan, sway = rng.normal(0, 0.15, 2), rng.uniform(0, 0.1)
    flicker, grain, blur = rng.uniform(0, 0.12), rng.uniform(0, 6), rng.uniform(0, 0.9)
    drawn, owners = [], []
    for t in times:
        shift = np.clip(0.7 + pan * t / frames + sway * math.sin(t / 9), 0, 1.3) * unit * 0.5
        left, top = (
            int(min(s, len(ground) - n - 1)) if len(ground) > n else 0
            for s, n in zip(shift, (width, height), strict=True)
        )
        tile = ground[top : top + height, left : left + width]
        image = np.asarray(Image.fromarray(tile).resize((width, height)), np.float32)
        owner = np.zeros((height, width), np.uint8)
        for number, thing in enumerate([*things, *front], 1):
            picture = thing.at(t, height, width, unit)
            alpha = picture[..., 3:].astype(np.float32) / 255
            image = image * (1 - alpha) + picture[..., :3] * alpha
            owner[picture[..., 3] > 127] = number if number <= len(things) else 0
        image = image * (1 + flicker * math.sin(t / 5)) + rng.normal(0, grain, image.shape)
        done = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
        drawn.append(np.asarray(done.filter(ImageFilter.GaussianBlur(blur))))
        owners.append(owner)
    objects = tuple(
        Thing(outline="cutout", texture="natural", motion="smooth", radius=thing.radius, colours=np.zeros((2, 3)))
        for thing in things
    )
    return Clip(np.stack(drawn), np.stack(owners), objects)


class _Cutout:
    """One thing: its picture, and its pose as a function of time."""

    def __init__(self, rng: Random, extent: Array, frames: int, ground: Array, *, front: bool) -> None:
        self.radius = rng.uniform(0.1, 0.28)
        self.picture = _picture(rng, ground)
        knots = int(rng.integers(2, 6))
        margin = -1.4 * self.radius if rng.random() < 0.5 else 0.5 * self.radius
        spots = rng.uniform(margin, extent - margin, (knots, 2))
        spots[0] = rng.uniform(0.5 * self.radius, extent - 0.5 * self.radius)
        self.spots, self.span = (spots[:1] if front and rng.random() < 0.5 else spots), frames
        self.angle, self.spin = rng.uniform(-math.pi, math.pi), rng.normal(0, 0.04)
        self.swell, self.beat = rng.uniform(0, 0.25), rng.uniform(0.05, 0.2)
        self.bend, self.wave = rng.uniform(0, 0.08), rng.uniform(0.1, 0.4)

    def _centre(self, t: float) -> Array:
        if len(self.spots) == 1:
            return self.spots[0]
        along = min(max(t / self.span, 0), 0.999) * (len(self.spots) - 1)
        i = int(along)
        share = along - i
        share = share * share * (3 - 2 * share)
        return self.spots[i] * (1 - share) + self.spots[i + 1] * share

    def at(self, t: float, height: int, width: int, unit: int) -> NDArray[np.uint8]:
        """The thing alone, (height, width, 4)."""
        scale = self.radius * (1 + self.swell * math.sin(self.beat * t))
        zoom = 0.4 * SIDE / (scale * unit)
        turn = self.angle + self.spin * t
        cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
        x, y = self._centre(t) * unit
        skew = self.bend * math.sin(self.wave * t)
        a, b, c, d = cos + skew * sin, sin + skew * cos, -sin, cos
        inverse = (a, b, SIDE / 2 - a * x - b * y, c, d, SIDE / 2 - c * x - d * y)
        drawn = Image.fromarray(self.picture).transform(
            (width, height), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR
        )
        return np.asarray(drawn)


def _picture(rng: Random, ground: Array) -> NDArray[np.uint8]:
    """A thing (SIDE, SIDE, 4): a blob of one texture, or parts of related ones."""
    parts = 1 if rng.random() < 0.5 else int(rng.integers(2, 5))
    skin = _texture(rng, SIDE)
    for _ in range(4):  # most things differ from the ground; some are camouflaged
        if np.linalg.norm(skin.mean((0, 1)) - ground) > 50:
            break
        skin = _texture(rng, SIDE)
    whole = np.zeros((SIDE, SIDE, 4), np.uint8)
    for part in range(parts):
        centre = np.array([0.0, 0.0]) if part == 0 else rng.uniform(-0.6, 0.6, 2)
        size = 0.9 if parts == 1 else rng.uniform(0.3, 0.65)
        points = (centre + size * _outline(rng)) * 0.4 * SIDE + SIDE / 2
        mask = Image.new("L", (SIDE * 2, SIDE * 2))
        ImageDraw.Draw(mask).polygon([(2 * float(a), 2 * float(b)) for a, b in points], fill=255)
        alpha = np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.BOX))
        tint = 1.0 if part == 0 else rng.uniform(0.4, 1.7)
        colour = np.clip(skin * tint + rng.normal(0, 12, 3) * (part > 0), 0, 255)
        share = alpha[..., None] / 255
        whole[..., :3] = whole[..., :3] * (1 - share) + colour * share
        whole[..., 3] = np.maximum(whole[..., 3], alpha)
    if parts > 1:
        whole = whole.copy()
        count = (whole[..., 3] > 127).sum()
        if count < 0.05 * SIDE * SIDE:
            return _picture(rng, ground)
    return whole


def _outline(rng: Random) -> Array:
    """Polygon (n, 2) within the unit circle: waves, corners or a slab."""
    angle = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    kind = rng.random()
    if kind < 0.5:
        reach = 1 + sum(rng.normal(0, 0.5 / k) * np.cos(k * angle + rng.uniform(0, 6)) for k in range(2, 7))
        reach = np.maximum(reach, 0.2)
    elif kind < 0.75:
        angle = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 9))))
        reach = rng.uniform(0.5, 1, len(angle))
    else:
        reach = 1 / np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle)))
    shape = np.stack([reach * np.cos(angle), reach * rng.uniform(0.35, 1) * np.sin(angle)], 1)
    turn = rng.uniform(0, math.pi)
    shape = shape @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return shape / np.abs(shape).max()


def _texture(rng: Random, size: int) -> NDArray[np.uint8]:
    """A square of a picture, mirrored, turned and recoloured; or, now and then, plain."""
    if rng.random() < 0.2:
        first, second = rng.uniform(10, 245, (2, 3))
        ramp = np.linspace(0, rng.uniform(0, 0.5), size)[:, None, None] * np.ones((1, size, 1))
        return (first * (1 - ramp) + second * ramp).astype(np.uint8)
    source = pictures()[int(rng.integers(len(pictures())))]
    side = int(rng.uniform(0.15, 0.9) * min(source.shape[:2]))
    top, left = (int(rng.integers(n - side + 1)) for n in source.shape[:2])
    tile = Image.fromarray(np.ascontiguousarray(source[top : top + side, left : left + side])).resize((size, size))
    colour = np.rot90(np.asarray(tile, np.float32), int(rng.integers(4)))[..., rng.permutation(3)]
    mean = colour.mean((0, 1))
    changed = (colour - mean) * rng.uniform(0.3, 1.1) + mean * 0.4 + rng.uniform(10, 245, 3) * 0.6
    return np.clip(changed, 0, 255).astype(np.uint8)
