"""Annotations of another tool as prompts."""

from collections.abc import Callable

import pyarrow as pa

from pipeline.formats.frame_sizes import Size
from pipeline.formats.location import Location
from pipeline.formats.prompts import Frames, PromptRequest, PromptWith, prompt_table
from pipeline.formats.registry import format_of
from pipeline.storage import Storage


def import_prompts(
    name: str,
    uri: str,
    *,
    frames: Frames = "first",
    prompt: PromptWith = "mask",
    size_of: Callable[[str], Size | None] | None = None,
    storage: Storage | None = None,
) -> pa.Table:
    """The annotations at a path or fsspec URL as a table with the columns of PROMPTS.

    Args:
        name: the format of the annotations.
        frames: `first` prompts on the first frame where an object is visible, `all` on every annotated frame.
        prompt: what to prompt with where an annotation has a mask: that, or its box.
        size_of: gives height and width of a video by its id, where neither the annotations nor files beside them do.

    Raises:
        UsageError: They are not this format, or nothing is annotated.
    """
    request, at = PromptRequest(frames=frames, prompt=prompt, size_of=size_of), Location.of(uri, storage)
    return prompt_table(format_of(name).prompts(at, request), request, at)
