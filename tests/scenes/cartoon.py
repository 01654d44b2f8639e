"""Pictures of things for scenes that neither embedded model was trained on: drawn from parts, shaded, some moving.

Every picture is (P, SIDE, SIDE, 4) RGBA: P phases of a cycle, alpha 255 inside the thing. The thing fits into a circle
of radius 1, which is RADIUS pixels of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE, RADIUS = 128, 60
_FINE = 4  # parts are drawn at this multiple of SIDE

Colour = tuple[int, int, int]
Picture = NDArray[np.uint8]


class _Pen:
    """Draws parts in units of the thing's radius, y downwards."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (SIDE * _FINE,) * 2)
        self.draw = ImageDraw.Draw(self.image)

    def _at(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        return [((x * RADIUS + SIDE / 2) * _FINE, (y * RADIUS + SIDE / 2) * _FINE) for x, y in points]

    def oval(self, x: float, y: float, a: float, b: float, colour: Colour) -> None:
        self.draw.ellipse([n for p in self._at((x - a, y - b), (x + a, y + b)) for n in p], fill=colour)

    def slab(self, x: float, y: float, x2: float, y2: float, colour: Colour, corner: float = 0.0) -> None:
        box = [n for p in self._at((x, y), (x2, y2)) for n in p]
        self.draw.rounded_rectangle(box, corner * RADIUS * _FINE, fill=colour)

    def patch(self, *points: tuple[float, float], colour: Colour) -> None:
        self.draw.polygon(self._at(*points), fill=colour)

    def limb(self, x: float, y: float, x2: float, y2: float, width: float, colour: Colour) -> None:
        self.draw.line([n for p in self._at((x, y), (x2, y2)) for n in p], colour, round(width * RADIUS * _FINE))


def _tone(colour: Colour, share: float) -> Colour:
    """A colour, darker below 1 and lighter above."""
    end = 255 if share > 1 else 0
    weight = min(1.0, abs(share - 1))
    return tuple(round(c + (end - c) * weight) for c in colour)  # type: ignore[return-value]


def _car(pen: _Pen, c: Colour, _turn: float) -> None:
    pen.patch((-0.55, -0.1), (-0.35, -0.5), (0.3, -0.5), (0.6, -0.1), colour=_tone(c, 0.8))
    pen.slab(-0.95, -0.15, 0.95, 0.35, c, 0.15)
    pen.patch((-0.4, -0.12), (-0.27, -0.4), (0.0, -0.4), (0.0, -0.12), colour=_tone(c, 1.6))
    for x in (-0.5, 0.5):
        pen.oval(x, 0.35, 0.22, 0.22, _tone(c, 0.4))


def _fish(pen: _Pen, c: Colour, turn: float) -> None:
    sway = 0.15 * math.sin(turn)
    pen.patch((-0.4, 0), (-0.95, -0.4 + sway), (-0.95, 0.4 + sway), colour=_tone(c, 0.75))
    pen.oval(0.1, 0, 0.75, 0.42, c)
    pen.oval(0.2, 0.15, 0.5, 0.2, _tone(c, 1.3))
    pen.oval(0.5, -0.1, 0.07, 0.07, _tone(c, 0.2))


def _house(pen: _Pen, c: Colour, _turn: float) -> None:
    pen.slab(-0.6, -0.2, 0.6, 0.75, c)
    pen.patch((-0.75, -0.2), (0, -0.9), (0.75, -0.2), colour=_tone(c, 0.6))
    pen.slab(-0.15, 0.25, 0.15, 0.75, _tone(c, 0.5))
    pen.slab(0.25, 0.0, 0.5, 0.25, _tone(c, 1.5))


def _tree(pen: _Pen, c: Colour, turn: float) -> None:
    pen.slab(-0.13, 0.1, 0.13, 0.95, _tone(c, 0.55))
    for x, y, r in ((-0.35, 0.0, 0.42), (0.35, 0.0, 0.42), (0.0, -0.42, 0.5)):
        pen.oval(x + 0.04 * math.sin(turn), y, r, r, _tone(c, 1 - 0.15 * x))


def _walker(pen: _Pen, c: Colour, turn: float) -> None:
    step = 0.35 * math.sin(turn)
    pen.limb(0, 0.2, step, 0.9, 0.2, _tone(c, 0.65))
    pen.limb(0, 0.2, -step, 0.9, 0.2, _tone(c, 0.8))
    pen.limb(0, -0.25, -0.8 * step - 0.2, 0.25, 0.15, _tone(c, 0.9))
    pen.slab(-0.25, -0.4, 0.25, 0.35, c, 0.15)
    pen.oval(0, -0.65, 0.25, 0.27, _tone(c, 1.35))


def _bird(pen: _Pen, c: Colour, turn: float) -> None:
    lift = 0.6 * math.sin(turn)
    pen.patch((-0.25, 0), (0.25, 0), (-0.1, -lift - 0.1), colour=_tone(c, 0.7))
    pen.oval(0, 0.05, 0.55, 0.25, c)
    pen.oval(0.55, -0.08, 0.2, 0.18, _tone(c, 1.2))
    pen.patch((0.7, -0.1), (0.95, -0.02), (0.7, 0.04), colour=_tone(c, 0.5))
    pen.patch((-0.4, 0), (-0.95, -0.12), (-0.95, 0.2), colour=_tone(c, 0.85))


def _cup(pen: _Pen, c: Colour, _turn: float) -> None:
    pen.oval(0.5, 0, 0.4, 0.4, _tone(c, 0.8))
    pen.patch((-0.75, -0.65), (0.55, -0.65), (0.4, 0.7), (-0.6, 0.7), colour=c)
    pen.oval(-0.1, -0.65, 0.65, 0.15, _tone(c, 1.4))
    pen.slab(-0.68, -0.1, 0.5, 0.1, _tone(c, 0.65))


def _robot(pen: _Pen, c: Colour, turn: float) -> None:
    arm = 0.25 * math.sin(turn)
    pen.limb(-0.45, -0.1, -0.85, 0.2 + arm, 0.16, _tone(c, 0.7))
    pen.limb(0.45, -0.1, 0.85, 0.2 - arm, 0.16, _tone(c, 0.7))
    pen.slab(-0.45, -0.25, 0.45, 0.5, c, 0.08)
    pen.slab(-0.3, -0.8, 0.3, -0.25, _tone(c, 1.25), 0.08)
    pen.slab(-0.2, -0.65, 0.2, -0.5, _tone(c, 0.35))
    for x in (-0.25, 0.25):
        pen.slab(x - 0.13, 0.5, x + 0.13, 0.9, _tone(c, 0.8))


_DRAWN: dict[str, Callable[[_Pen, Colour, float], None]] = {
    "car": _car,
    "fish": _fish,
    "house": _house,
    "tree": _tree,
    "walker": _walker,
    "bird": _bird,
    "cup": _cup,
    "robot": _robot,
}
CATEGORIES = tuple(_DRAWN)
_MOVING = {"fish", "walker", "bird", "robot"}


def picture(category: str, colour: Colour, rng: np.random.Generator) -> Picture:
    """The picture of a thing in a colour, lit from a random side, with grain."""
    phases = 8 if category in _MOVING else 1
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 0.35)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    light = 1 + strength * (x * math.cos(angle) + y * math.sin(angle)) * 2 + noise(rng, SIDE, SIDE, 12) * 0.15
    drawn = []
    for phase in range(phases):
        pen = _Pen()
        _DRAWN[category](pen, colour, 2 * math.pi * phase / phases)
        image = np.asarray(pen.image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
        lit = np.clip(image[..., :3] * light[..., None], 0, 255)
        drawn.append(np.concatenate([lit, image[..., 3:]], -1).astype(np.uint8))
    return np.stack(drawn)


def ground(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A landscape (height, width, 3): sky over land, both cloudy."""
    colours = rng.uniform(30, 225, (4, 3))
    horizon = rng.uniform(0.3, 0.7) * height + noise(rng, 1, width, 3)[0] * height * 0.15
    land = (np.arange(height)[:, None] > horizon)[..., None]
    mix = [(0.5 + 0.5 * noise(rng, height, width, n))[..., None] for n in (4, 7)]
    upper = colours[0] * mix[0] + colours[1] * (1 - mix[0])
    lower = colours[2] * mix[1] + colours[3] * (1 - mix[1])
    return np.clip(np.where(land, lower, upper), 0, 255).astype(np.uint8)


def noise(rng: np.random.Generator, height: int, width: int, cells: int) -> NDArray[np.float64]:
    """Value noise (height, width) of three octaves in -1..1, the coarsest with `cells` cells a side."""
    total = np.zeros((height, width))
    for octave in range(3):
        n = cells * 2**octave
        grid = Image.fromarray(rng.uniform(-1, 1, (n, n)).astype(np.float32))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) / 2**octave
    return np.clip(total / 1.5, -1, 1)
