"""Prompts as the videos table keeps them: JSON in the manifest's own words, to draw and to correct them later."""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.manifest.schema import Prompt


def prompts_to_json(prompts: Sequence[Prompt]) -> str:
    """A list of the manifest's prompt records, without what is absent."""
    return json.dumps([prompt_record(prompt) for prompt in prompts], separators=(",", ":"), ensure_ascii=False)


def prompts_from_json(text: str | None) -> list[dict[str, Any]]:
    """The records again; none where older labels did not keep them."""
    return json.loads(text) if text else []


def prompt_record(prompt: Prompt) -> dict[str, Any]:
    """One prompt as a record of the manifest's `prompts` column."""
    record: dict[str, Any] = {
        "object_id": prompt.object_id,
        "frame_index": prompt.frame_index,
        "time_s": prompt.time_s,
        "category": prompt.category,
    }
    if prompt.points:
        record["points"] = [{"x": x, "y": y, "label": label} for x, y, label in prompt.points]
    if prompt.box:
        record["box"] = dict(zip(("x_min", "y_min", "x_max", "y_max"), prompt.box, strict=True))
    if prompt.mask:
        record["mask"] = {"size": list(prompt.mask[0]), "counts": prompt.mask[1]}
    if prompt.correct:
        record["correct"] = True
    return {name: value for name, value in record.items() if value is not None}
