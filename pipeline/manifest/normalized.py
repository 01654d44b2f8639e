"""Videos whose prompts look like shares of the frame, where the manifest has pixels."""

import numpy as np
import pyarrow as pa

from pipeline.manifest.bad_rows import clip
from pipeline.manifest.conform import list_parts
from pipeline.manifest.kinds import PROMPT_KINDS
from pipeline.manifest.schema import Manifest

_SHOWN = 3


def normalized_rows(manifest: Manifest) -> list[int]:
    """Rows of the manifest's table whose points and boxes are all between 0 and 1: shares, not pixels."""
    found: list[int] = []
    first = 0
    for chunk in manifest.table["prompts"].chunks:
        offsets, prompts = list_parts(chunk)
        row = np.repeat(np.arange(len(chunk)), np.diff(offsets))
        shares, pixels = np.zeros(len(chunk), np.bool_), np.zeros(len(chunk), np.bool_)
        for kind in PROMPT_KINDS:
            if kind.in_pixels and len(prompts):
                array: pa.Array = prompts.field(kind.name)
                normalized = kind.normalized(array)
                shares[row[normalized]] = True
                pixels[row[np.asarray(array.is_valid()) & ~normalized]] = True
        found += (first + np.flatnonzero(shares & ~pixels)).tolist()
        first += len(chunk)
    return found


def normalized_notes(manifest: Manifest) -> list[str]:
    """One warning that names the first of `normalized_rows`; none where there are none."""
    if not (places := normalized_rows(manifest)):
        return []
    ids = manifest.table["video_id"]
    named = ", ".join(f"{manifest.place(at)} {clip(ids[at].as_py())}" for at in places[:_SHOWN])
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return [
        f"points and boxes of {len(places)} videos lie between 0 and 1 ({named}{more}); coordinates are pixels of the "
        "displayed frame: multiply shares of it by its width and height"
    ]
