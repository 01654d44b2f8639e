"""Prompts and videos as text: JSON for the videos table, lines for people."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pipeline.manifest.kinds import Prompt, kinds_of, to_record
from pipeline.manifest.modifiers import MODIFIERS
from pipeline.manifest.schema import Video
from pipeline.storage import redact


def prompts_to_json(prompts: Sequence[Prompt]) -> str:
    """The prompts as the videos table keeps them: a JSON list of the manifest's records, without what is absent."""
    return json.dumps([to_record(prompt) for prompt in prompts], separators=(",", ":"), ensure_ascii=False)


def prompts_from_json(text: str | None) -> list[dict[str, Any]]:
    """The records of `prompts_to_json`; an empty list for labels made before the videos table kept prompts.

    Without `why` and `track_id`, which prompts decided from detections have.
    """
    records = json.loads(text) if text else []
    return [{name: value for name, value in record.items() if name not in ("why", "track_id")} for record in records]


def describe(video: Video) -> Iterator[str]:
    """A video's facts and prompts, a line each; control characters in its values are escaped."""
    yield f"row {video.row}  {video.video_id!a}  {redact(video.video_uri)!a}"
    facts = {
        name: getattr(video, name)
        for name in ("start_s", "end_s", "fps", "video_version", "num_frames", "priority", "label_fps", "label_every")
    }
    given = [f"{name} {value!r}" for name, value in facts.items() if value is not None]
    others = {name: video.extra[name] for name in video.extra.column_names}
    given += [f"{name} {_shown(column)}" for name, column in others.items() if column.null_count == 0]
    if given:
        yield f"    {', '.join(given)}"
    for prompt in video.prompts:
        when = f"frame {prompt.frame_index}" if prompt.time_s is None else f"{prompt.time_s:g} s"
        name = f" {prompt.category!r}" if prompt.category else ""
        how = [text for modifier in MODIFIERS for text in modifier.describe(getattr(prompt, modifier.name))]
        what = [text for kind, value in kinds_of(prompt) for text in kind.describe(value)]
        yield f"    object {prompt.object_id}{name}, {' '.join([when, *how])}: {', '.join(what)}"


def _shown(column: pa.ChunkedArray) -> str:
    """The one value of a column of any type; times beyond Python's calendar as Arrow writes them."""
    try:
        return repr(column[0].as_py())
    except (ValueError, OverflowError):
        return str(column.cast(pa.string())[0].as_py())
