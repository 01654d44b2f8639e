"""Sound prompts of each kind, to be spoilt by a test."""

from typing import Any

BOX = {"x_min": 10.0, "y_min": 20.0, "x_max": 110.5, "y_max": 80.0}
POINT = {"x": 12.5, "y": 30.0, "label": 1}
MASK = {"size": [4, 3], "counts": "525"}


def prompt(**fields: Any) -> dict[str, Any]:
    """A box for object 1 in frame 0, or what `fields` say."""
    when = {} if "time_s" in fields else {"frame_index": 0}
    what = {} if {"points", "box", "mask"} & fields.keys() else {"box": BOX}
    return {"object_id": 1, **when, **what, **fields}


def row(*prompts: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """A manifest row with these prompts, or with one sound one."""
    given = list(prompts) or [prompt()]
    return {"video_id": "a", "video_uri": "s3://bucket/a.mp4", "prompts": given, **columns}
