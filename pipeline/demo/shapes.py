"""Outlines, textures and paths of the rendered clips, including those reserved for evaluation.

Lengths are in units of the frame's short side, times in frames, colours in 0..255 RGB.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
Path = Callable[[float], tuple[float, float]]

TRAIN_OUTLINES = ("ellipse", "polygon", "star", "blob", "capsule", "cross")
EVAL_OUTLINES = ("ring", "heart", "arrow", "gear", "crescent")
TRAIN_TEXTURES = ("flat", "gradient", "clouds", "stripes", "checks")
EVAL_TEXTURES = ("dots", "rays", "cells")
TRAIN_MOTIONS = ("drift", "wave", "excursion")
EVAL_MOTIONS = ("orbit", "hop")


def outline(kind: str, rng: np.random.Generator) -> Array:
    """Polygon (n, 2) about the origin, farthest point near radius 1; filled by the even-odd rule."""
    turn = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    if kind == "ellipse":
        return circle * [1, rng.uniform(0.55, 1)]
    if kind == "polygon":
        corners = int(rng.integers(3, 8))
        angle = np.linspace(0, 2 * math.pi, corners, endpoint=False) + rng.uniform(-0.2, 0.2, corners)
        return np.stack([np.cos(angle), np.sin(angle)], 1)
    if kind == "star":
        points = int(rng.integers(4, 8))
        angle = np.linspace(0, 2 * math.pi, 2 * points, endpoint=False)
        reach = np.where(np.arange(2 * points) % 2 == 0, 1, rng.uniform(0.5, 0.75))
        return np.stack([reach * np.cos(angle), reach * np.sin(angle)], 1)
    if kind == "blob":
        waves = [rng.uniform(0, 0.2) * np.cos(k * turn + rng.uniform(0, 6)) for k in (2, 3, 4)]
        reach = 1 + np.sum(waves, axis=0)
        return circle * (reach / reach.max())[:, None]
    if kind == "capsule":
        thick = rng.uniform(0.4, 0.6)
        return circle * thick + np.stack([np.sign(circle[:, 0]) * (1 - thick), np.zeros(48)], 1)
    if kind == "cross":
        a = rng.uniform(0.3, 0.45)
        arm = [
            (1, -a),
            (1, a),
            (a, a),
            (a, 1),
            (-a, 1),
            (-a, a),
            (-1, a),
            (-1, -a),
            (-a, -a),
            (-a, -1),
            (a, -1),
            (a, -a),
        ]
        return np.array(arm)
    if kind == "ring":
        closed = np.concatenate([circle, circle[:1]])
        return np.concatenate([closed, closed[::-1] * rng.uniform(0.35, 0.5)])
    if kind == "heart":
        x = 16 * np.sin(turn) ** 3
        y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        return np.stack([x, -y], 1) / 17
    if kind == "arrow":
        a = rng.uniform(0.25, 0.4)
        return np.array([(1, 0), (0.1, 0.85), (0.1, a), (-0.95, a), (-0.95, -a), (0.1, -a), (0.1, -0.85)])
    if kind == "gear":
        teeth = int(rng.integers(6, 10))
        angle = np.linspace(0, 2 * math.pi, 4 * teeth, endpoint=False)
        reach = np.where(np.arange(4 * teeth) % 4 < 2, 1, 0.75)
        return np.stack([reach * np.cos(angle), reach * np.sin(angle)], 1)
    if kind == "crescent":
        half = np.linspace(-2.2, 2.2, 36)
        outer = np.stack([np.cos(half), np.sin(half)], 1)
        inner = np.stack([0.55 * np.cos(half) - 0.25, 0.8 * np.sin(half)], 1)
        return np.concatenate([outer, inner[::-1]])
    raise ValueError(f"unknown outline {kind!r}")


def texture(
    kind: str, rng: np.random.Generator, size: int, span: float, first: Array, second: Array
) -> NDArray[np.uint8]:
    """Tile (size, size, 3) that covers `span` by `span` units and mixes two colours."""
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) * np.float32(span / size)
    angle = rng.uniform(0, 2 * math.pi)
    ramp = x * math.cos(angle) + y * math.sin(angle)
    if kind == "flat":
        mix = np.zeros_like(x)
    elif kind == "gradient":
        mix = (ramp - ramp.min()) / np.ptp(ramp)
    elif kind == "clouds":
        grid = max(3, round(span * rng.uniform(2.5, 8)))
        coarse = Image.fromarray((rng.random((grid, grid)) * 255).astype(np.uint8))
        mix = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255
    elif kind == "stripes":
        mix = (np.sin(2 * math.pi * rng.uniform(3, 10) * ramp) > 0).astype(np.float32)
    elif kind == "checks":
        squares = rng.uniform(3, 10)
        mix = ((np.floor(x * squares) + np.floor(y * squares)) % 2).astype(np.float32)
    elif kind == "dots":
        pitch = rng.uniform(4, 9)
        mix = (np.hypot((x * pitch) % 1 - 0.5, (y * pitch) % 1 - 0.5) < rng.uniform(0.25, 0.38)).astype(np.float32)
    elif kind == "rays":
        spokes = int(rng.integers(6, 14))
        mix = (np.sin(spokes * np.arctan2(y - span / 2, x - span / 2)) > 0).astype(np.float32)
    elif kind == "cells":
        seeds = rng.uniform(0, span, (int(8 + 10 * span), 2)).astype(np.float32)
        near = np.sqrt(np.sort((x[..., None] - seeds[:, 0]) ** 2 + (y[..., None] - seeds[:, 1]) ** 2, axis=-1)[..., :2])
        mix = np.clip((near[..., 1] - near[..., 0]) * 20, 0, 1)
    else:
        raise ValueError(f"unknown texture {kind!r}")
    start, step = first.astype(np.float32), (second - first).astype(np.float32)
    return (start + step * mix[..., None]).astype(np.uint8)


def path(kind: str, rng: np.random.Generator, extent: tuple[float, float], radius: float, duration: int) -> Path:
    """Centre (x, y) of a thing as a function of time; `extent` is the frame's (width, height) in units."""
    low, high = np.full(2, 0.6 * radius), np.array(extent) - 0.6 * radius
    home = rng.uniform(low, high)
    if kind == "drift":
        speed, heading = rng.uniform(0, 0.022), rng.uniform(0, 2 * math.pi)
        return _bounce(home, np.array([math.cos(heading), math.sin(heading)]) * speed, low, high)
    if kind == "wave":
        middle, reach = np.array(extent) / 2, rng.uniform(0.1, 0.5, 2) * (high - low)
        pace, phase = 2 * math.pi * rng.uniform(0.004, 0.016, 2), rng.uniform(0, 2 * math.pi, 2)
        return lambda t: _pair(middle + reach * np.sin(pace * t + phase))
    if kind == "excursion":
        return _excursion(rng, extent, radius, duration, home)
    if kind == "orbit":
        middle = rng.uniform(0.35, 0.65, 2) * extent
        span, turn, start = rng.uniform(0.15, 0.4), rng.choice([-1, 1]) * rng.uniform(0.04, 0.1), rng.uniform(0, 6)
        return lambda t: _pair(middle + span * np.array([math.cos(turn * t + start), math.sin(turn * t + start)]))
    if kind == "hop":
        drift = _bounce(home, np.array([rng.choice([-1, 1]) * rng.uniform(0.008, 0.02), 0.0]), low, high)
        ground, height, beat = high[1], rng.uniform(0.25, 0.6) * (high[1] - low[1]), rng.uniform(14, 26)
        start = rng.uniform(0, 1)
        return lambda t: (drift(t)[0], float(ground - height * (1 - (2 * ((t / beat + start) % 1) - 1) ** 2)))
    raise ValueError(f"unknown motion {kind!r}")


def _bounce(home: Array, velocity: Array, low: Array, high: Array) -> Path:
    def at(t: float) -> tuple[float, float]:
        along = np.mod(home + velocity * t - low, 2 * (high - low))
        return _pair(low + (high - low) - np.abs(along - (high - low)))

    return at


def _excursion(
    rng: np.random.Generator, extent: tuple[float, float], radius: float, duration: int, home: Array
) -> Path:
    """Leaves the frame wholly at one side and returns from the same or another side."""
    low, high = np.full(2, 0.6 * radius), np.array(extent) - 0.6 * radius
    back = rng.uniform(low, high)

    def beyond(point: Array) -> Array:
        axis, side = int(rng.integers(2)), int(rng.integers(2))
        out = point.copy()
        out[axis] = extent[axis] + 1.5 * radius if side else -1.5 * radius
        return out

    exit_at, entry_at = beyond(home), beyond(back)
    leave, travel, away = rng.uniform(0.05, 0.3) * duration, rng.uniform(0.15, 0.22) * duration, rng.uniform(0.08, 0.25)
    gone = leave + travel
    enter = gone + away * duration

    def at(t: float) -> tuple[float, float]:
        if t < (gone + enter) / 2:
            return _pair(home + (exit_at - home) * _ease((t - leave) / travel))
        return _pair(entry_at + (back - entry_at) * _ease((t - enter) / travel))

    return at


def _ease(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def _pair(p: Array) -> tuple[float, float]:
    return float(p[0]), float(p[1])
