"""Scenes of fast, crossing, entering and leaving things, with true masks and identities.

`make_scene(number)` is a pure function. Even numbers are drawn with the demo's outlines and textures, odd ones with
`cartoon`, which no training sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.demo import shapes
from tests.scenes import cartoon
from tests.scenes.cartoon import RADIUS, SIDE, Picture

SCENES = 32
RATE = 12
"""Frames per second."""
FRAMES, HEIGHT, WIDTH = 60, 160, 208
KINDS = ("crossing", "traffic", "overtaking", "visits")
MIN_AREA = 0.006
"""Share of the frame from which a thing can be seen by a detector."""

Path = Callable[[float], tuple[float, float]]
Random = np.random.Generator


@dataclass(frozen=True)
class Thing:
    category: str
    picture: Picture
    path: Path
    """centre (x, y) in units of the frame's height, at a time in frames"""
    radius: float
    """in units of the frame's height"""
    spin: float
    """radians per frame"""


@dataclass(frozen=True)
class Scene:
    name: str
    frames: NDArray[np.uint8]
    """(T, H, W, 3) RGB"""
    ids: NDArray[np.uint8]
    """(T, H, W): 0 for the ground, else the place in `categories` plus one"""
    categories: tuple[str, ...]

    def masks(self) -> dict[int, NDArray[np.bool_]]:
        """Thing -> (T, H, W) visible pixels, of the things that a detector can see on at least 6 frames."""
        found = {i: self.ids == i for i in range(1, len(self.categories) + 1)}
        return {i: mask for i, mask in found.items() if (mask.mean((1, 2)) >= MIN_AREA).sum() >= 6}


def make_scene(number: int, *, calm: bool = False, frames: int = FRAMES) -> Scene:
    """Scene of a number; a calm one has slow things that stay, to measure a tracker by itself."""
    rng = np.random.default_rng([20, number, calm])
    style = "shapes" if number % 2 == 0 else "cartoon"
    kind = "calm" if calm else KINDS[number // 2 % len(KINDS)]
    palette = _Palette(rng)
    ground = _ground(rng, style, palette)
    things = [_thing(rng, style, palette, path, radius) for path, radius in _PATHS[kind](rng, frames)]
    return _draw(f"{kind}-{style}-{number:02}", rng, ground, things, frames)


def _ground(rng: Random, style: str, palette: _Palette) -> NDArray[np.uint8]:
    size = 2 * max(HEIGHT, WIDTH)
    if style == "cartoon":
        picture = cartoon.ground(rng, size, size)
        palette.taken += [picture[y, x].astype(float) for y, x in rng.integers(0, size, (12, 2))]
        return picture
    first, second = palette.draw(), palette.draw()
    return shapes.texture("clouds", rng, size, size / HEIGHT, first, (first + second) / 2)


def _thing(rng: Random, style: str, palette: _Palette, path: Path, radius: float) -> Thing:
    first, second = palette.draw(), rng.uniform(0, 255, 3)
    if style == "cartoon":
        category = str(rng.choice(cartoon.CATEGORIES))
        red, green, blue = (int(c) for c in first)
        return Thing(category, cartoon.picture(category, (red, green, blue), rng), path, radius, 0.0)
    category = str(rng.choice(shapes.TRAIN_OUTLINES + shapes.EVAL_OUTLINES))
    skin = shapes.texture(
        str(rng.choice(shapes.TRAIN_TEXTURES)), rng, SIDE, 2 * SIDE / RADIUS / 2, first, 0.7 * first + 0.3 * second
    )
    mask = Image.new("L", (SIDE * 4, SIDE * 4))
    points = (shapes.outline(category, rng) * RADIUS + SIDE / 2) * 4
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in points], fill=255)
    alpha = np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.BOX))[..., None]
    return Thing(category, np.concatenate([skin, alpha], -1)[None], path, radius, rng.normal(0, 0.05))


class _Palette:
    """Draws colours away from those drawn before."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.taken: list[NDArray[np.float64]] = []

    def draw(self) -> NDArray[np.float64]:
        tried = self.rng.uniform(20, 235, (40, 3))
        away = [min((float(np.linalg.norm(c - t)) for t in self.taken), default=0.0) for c in tried]
        self.taken.append(tried[int(np.argmax(away))] if self.taken else tried[0])
        return self.taken[-1]


def _draw(name: str, rng: Random, ground: NDArray[np.uint8], things: list[Thing], frames: int) -> Scene:
    pan, grain = rng.normal(0, 0.4, 2), rng.uniform(1, 4)
    pictures, ids = [], []
    for t in range(frames):
        left, top = (int(n / 2 + p * t) for n, p in zip((WIDTH, HEIGHT), pan, strict=True))
        image = ground[top : top + HEIGHT, left : left + WIDTH].astype(np.float32)
        owner = np.zeros((HEIGHT, WIDTH), np.uint8)
        for number, thing in enumerate(things, 1):
            x, y = thing.path(t)
            zoom, turn = RADIUS / (thing.radius * HEIGHT), thing.spin * t
            cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
            across, down = x * HEIGHT, y * HEIGHT
            inverse = (cos, sin, SIDE / 2 - cos * across - sin * down, -sin, cos, SIDE / 2 + sin * across - cos * down)
            phase = Image.fromarray(thing.picture[t % len(thing.picture)])
            drawn = np.asarray(
                phase.transform((WIDTH, HEIGHT), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
            )
            alpha = drawn[..., 3:].astype(np.float32) / 255
            image = image * (1 - alpha) + drawn[..., :3] * alpha
            owner[drawn[..., 3] > 127] = number
        noisy = image + rng.normal(0, grain, image.shape)
        pictures.append(np.clip(noisy, 0, 255).astype(np.uint8))
        ids.append(owner)
    return Scene(name, np.stack(pictures), np.stack(ids), tuple(thing.category for thing in things))


Placed = list[tuple[Path, float]]
_ASPECT = WIDTH / HEIGHT


def _across(start: float, seconds: float, lane: float, radius: float, *, back: bool, wave: float = 0.0) -> Path:
    """Crosses the frame from one side to the other within `seconds`, from frame `start` on."""
    span = _ASPECT + 2.4 * radius

    def at(t: float) -> tuple[float, float]:
        share = (t - start) / (seconds * RATE)
        x = -1.2 * radius + span * share
        return (_ASPECT - x if back else x), lane + wave * math.sin(6 * share)

    return at


def _visit(start: float, stay: float, spot: tuple[float, float], radius: float, side: int) -> Path:
    """Comes in from a side within a second, stays for `stay` seconds, and leaves to where it came from."""
    x, y = spot
    away = ((-1.3 * radius, y), (_ASPECT + 1.3 * radius, y), (x, -1.3 * radius), (x, 1 + 1.3 * radius))[side]

    def at(t: float) -> tuple[float, float]:
        inside = min((t - start) / RATE, stay + 2 - (t - start) / RATE)
        share = min(1.0, max(0.0, inside)) if inside > 0 else 0.0
        share = share * share * (3 - 2 * share)
        return away[0] + (x - away[0]) * share, away[1] + (y - away[1]) * share

    return at


def _roam(rng: Random, radius: float, pace: float) -> Path:
    """Wanders within the frame."""
    middle = np.array([_ASPECT / 2, 0.5])
    reach = (middle - radius) * rng.uniform(0.4, 0.9, 2)
    speed, phase = rng.uniform(0.6, 1.3, 2) * pace, rng.uniform(0, 2 * math.pi, 2)

    def at(t: float) -> tuple[float, float]:
        x, y = middle + reach * np.sin(speed * t + phase)
        return float(x), float(y)

    return at


def _crossing(rng: Random, frames: int) -> Placed:
    """Two things on almost the same lane in opposite directions, twice, and one that roams behind them."""
    placed: Placed = [(_roam(rng, 0.17, 0.05), rng.uniform(0.14, 0.2))]
    for pair in range(2):
        lane, start, seconds = rng.uniform(0.3, 0.7), pair * frames * 0.45 + rng.uniform(0, 4), rng.uniform(1.5, 2.4)
        for back in (False, True):
            radius = rng.uniform(0.12, 0.2)
            placed.append((_across(start, seconds, lane + rng.normal(0, 0.06), radius, back=back), radius))
    return placed


def _traffic(rng: Random, frames: int) -> Placed:
    """Six things that enter one after the other and leave, fast."""
    placed: Placed = []
    for i in range(6):
        radius = rng.uniform(0.1, 0.18)
        lane, start = (0.25, 0.5, 0.75)[i % 3] + rng.normal(0, 0.03), i * frames / 7 + rng.uniform(-2, 2)
        path = _across(
            start, rng.uniform(1.2, 2.2), lane, radius, back=bool(rng.random() < 0.5), wave=rng.normal(0, 0.05)
        )
        placed.append((path, radius))
    return placed


def _overtaking(rng: Random, frames: int) -> Placed:
    """A slow thing, two fast ones that pass in front of it in the same direction, and one that visits."""
    back, lane = bool(rng.random() < 0.5), rng.uniform(0.35, 0.6)
    placed: Placed = [(_across(-8, frames / RATE + 1, lane, 0.2, back=back), 0.2)]
    for i in range(2):
        radius = rng.uniform(0.12, 0.17)
        start = frames * (0.15 + 0.4 * i)
        placed.append((_across(start, rng.uniform(1.3, 2), lane + rng.normal(0, 0.07), radius, back=back), radius))
    spot = rng.uniform(0.4, _ASPECT - 0.4), 0.85
    placed.append((_visit(frames * 0.2, 1.5, spot, 0.13, int(rng.integers(4))), 0.13))
    return placed


def _visits(rng: Random, frames: int) -> Placed:
    """Things that come, stay and leave, one of which comes twice, and one that roams."""
    placed: Placed = [(_roam(rng, 0.15, 0.1), rng.uniform(0.12, 0.17))]
    for i in range(3):
        radius, spot = rng.uniform(0.12, 0.19), (rng.uniform(0.3, _ASPECT - 0.3), rng.uniform(0.3, 0.7))
        side = int(rng.integers(4))
        first = _visit(i * 9 + rng.uniform(0, 4), rng.uniform(0.3, 1), spot, radius, side)
        placed.append((first, radius))
    radius, side = rng.uniform(0.12, 0.17), int(rng.integers(4))
    spot = rng.uniform(0.3, _ASPECT - 0.3), rng.uniform(0.3, 0.7)
    early, late = _visit(-6, 0.4, spot, radius, side), _visit(frames * 0.5, 0.5, spot, radius, side)
    placed.append((lambda t: early(t) if t < frames * 0.4 else late(t), radius))
    return placed


def _calm(rng: Random, _frames: int) -> Placed:
    """Two or three slow things that stay in the frame."""
    return [(_roam(rng, radius, 0.035), radius) for radius in rng.uniform(0.14, 0.25, int(rng.integers(2, 4)))]


_PATHS = {
    "crossing": _crossing,
    "traffic": _traffic,
    "overtaking": _overtaking,
    "visits": _visits,
    "calm": _calm,
}
