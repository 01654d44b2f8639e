"""A noisy detector of the things of a scene, as a detections table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.demo.clicks import tight_box
from tests.scenes.scene import HEIGHT, MIN_AREA, RATE, WIDTH, Scene

MISSED = 0.1
"""Of the things that can be seen on a look."""
INVENTED = 0.15
"""False detections of a look, on average."""
JITTER = 0.04
"""Standard deviation of a side, as a share of the box's extent."""

SCHEMA = pa.schema(
    {
        "video_id": pa.string(),
        "frame_index": pa.int64(),
        "box": pa.struct({side: pa.float32() for side in ("x_min", "y_min", "x_max", "y_max")}),
        "category": pa.string(),
        "score": pa.float32(),
    }
)


def detect(scene: Scene, video_id: str, every_s: float, *, seed: int = 0) -> pa.Table:
    """What a detector finds that looks every `every_s` seconds; a look that finds nothing has a row without a box."""
    rng = np.random.default_rng([seed, round(every_s * 100), *video_id.encode()])
    rows: list[dict[str, Any]] = []
    for t in range(0, len(scene.ids), round(every_s * RATE)):
        found = []
        for i, category in enumerate(scene.categories, 1):
            mask = scene.ids[t] == i
            if mask.mean() >= MIN_AREA and rng.random() >= MISSED:
                x_min, y_min, x_max, y_max = tight_box(mask)
                width, height = x_max - x_min, y_max - y_min
                sides = np.array([x_min, y_min, x_max, y_max]) + rng.normal(0, JITTER, 4) * np.tile([width, height], 2)
                found.append((sides, category, rng.uniform(0.5, 0.98)))
        for _ in range(rng.poisson(INVENTED)):
            x, y = rng.uniform(0, WIDTH * 0.8), rng.uniform(0, HEIGHT * 0.8)
            sides = np.array([x, y, x + rng.uniform(15, 50), y + rng.uniform(15, 50)])
            found.append((sides, str(rng.choice(scene.categories)), rng.uniform(0.3, 0.7)))
        look: dict[str, Any] = {"video_id": video_id, "frame_index": t}
        for sides, category, score in found:
            x_min, y_min, x_max, y_max = np.clip(sides, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]).tolist()
            box = {"x_min": x_min, "y_min": y_min, "x_max": x_max, "y_max": y_max}
            rows.append(look | {"box": box, "category": category, "score": score})
        if not found:
            rows.append(look)
    return pa.Table.from_pylist(rows, schema=SCHEMA)
