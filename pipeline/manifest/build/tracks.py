"""Prompts of the objects that a tracker identified: by their identity, without linking or confirmation."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.manifest.identities import main_categories, object_ids

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

Refine = Literal["never", "lost", "every"]
"""Which boxes of an object become prompts: the first, also those after looks that missed it, or one per interval."""


def prompts_of_tracks(
    video: Ints,
    moment: Floats,
    interval: Floats,
    identities: Sequence[str | None],
    scores: Floats,
    refine: Refine,
    left_out: Counter[str],
) -> Ints:
    """The rows with an identity that become prompts, each object's first one of an interval, sorted by object."""
    rows = np.flatnonzero([each is not None for each in identities])
    if not len(rows):
        return rows
    codes: dict[tuple[int, str | None], int] = {}
    track = np.array([codes.setdefault((int(video[row]), identities[row]), len(codes)) for row in rows.tolist()])
    order = np.lexsort((-scores[rows], moment[rows], track))
    rows, track = rows[order], track[order]
    same = track[1:] == track[:-1]
    repeated = np.append(False, same & (moment[rows][1:] == moment[rows][:-1]))
    left_out["repeat an identity on their frame, with a lower score"] += int(repeated.sum())
    rows, track = rows[~repeated], track[~repeated]
    gap = np.append(np.inf, np.diff(interval[rows]))
    gap[np.append(True, track[1:] != track[:-1])] = np.inf
    left_out["lie between two looks (--every)"] += int((gap == 0).sum())
    rows, gap = rows[gap > 0], gap[gap > 0]
    chosen = gap > {"never": np.finfo(np.float64).max, "lost": 1, "every": 0}[refine]
    left_out["show an object that is prompted already (--refine)"] += int((~chosen).sum())
    return rows[chosen]


def ids_of_tracks(video: Ints, rows: Ints, identities: Sequence[str | None]) -> dict[int, dict[str, int]]:
    """By video the object ids of its identities."""
    found: dict[int, list[str]] = {}
    for row in np.sort(rows).tolist():
        found.setdefault(int(video[row]), []).append(identities[row] or "")
    return {number: object_ids(some) for number, some in found.items()}


def with_main_categories(table: pa.Table, video: Ints, identities: Sequence[str | None]) -> pa.Table:
    """The table with one category for every identity: a tracker may see another class on some frames."""
    if "category" not in table.column_names or not any(each is not None for each in identities):
        return table
    keys = [None if each is None else (int(v), each) for v, each in zip(video, identities, strict=True)]
    given = table["category"].to_pylist()
    main = main_categories(zip(keys, given, strict=True))
    settled = [own if key is None else main[key] for key, own in zip(keys, given, strict=True)]
    return table.set_column(table.schema.get_field_index("category"), "category", pa.array(settled, pa.string()))
