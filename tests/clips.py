"""Small real videos of one or two moving squares, and manifests for them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.demo.corpus import write_video
from pipeline.manifest import SCHEMA

HEIGHT, WIDTH = 64, 96


def write_clip(path: Path, *, frames: int = 8, seed: int = 0, rate: int = 10) -> str:
    """A red and a green square that move towards each other over noise; returns the path as text."""
    rng = np.random.default_rng(seed)
    video = np.repeat(rng.integers(60, 110, (1, HEIGHT, WIDTH, 3), np.uint8), frames, axis=0)
    for t in range(frames):
        step = t % 30
        video[t, 8:30, 6 + step : 28 + step] = (230, 40, 40)
        video[t, 34:56, 68 - step : 90 - step] = (40, 220, 60)
    write_video(path, video, Fraction(rate))
    return str(path)


def red(frame: int = 0, object_id: int = 1, **more) -> dict:
    """A click on the red square."""
    return {"object_id": object_id, "frame_index": frame, "points": [point(17 + frame, 19)], **more}


def green(frame: int = 0, object_id: int = 2, **more) -> dict:
    """A box around the green square."""
    box = {"x_min": 68 - frame, "y_min": 34, "x_max": 90 - frame, "y_max": 56}
    return {"object_id": object_id, "frame_index": frame, "box": box, **more}


def point(x: float, y: float, label: int = 1) -> dict:
    return {"x": x, "y": y, "label": label}


def write_manifest(path: Path, rows: list[dict]) -> str:
    """Rows of the canonical schema, extra columns behind it; returns the path as text."""
    names = {name for row in rows for name in row} - set(SCHEMA.names)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    for name in sorted(names):
        table = table.append_column(name, pa.array([row.get(name) for row in rows]))
    pq.write_table(table, path)
    return str(path)
