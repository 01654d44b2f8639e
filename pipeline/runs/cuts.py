"""Cuts of the manifest's videos, from a table of jobs.shots: no object survives one (`--end-at-cuts`)."""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detection.thresholds import Association
from pipeline.errors import ManifestError, UsageError
from pipeline.manifest import BadRow, Manifest
from pipeline.manifest.bad_rows import clip
from pipeline.manifest.source import naming_file
from pipeline.manifest.tables import read_table
from pipeline.runs.config import RunConfig
from pipeline.storage import redact

COLUMNS = {"video_id": pa.string(), "start_frame": pa.int64(), "start_s": pa.float64()}
"""Columns of the table that are read; the first shot of a video begins at no cut."""


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """The first frames after the cuts of one video, and their times in seconds of the file."""

    frames: tuple[int, ...]
    times: tuple[float, ...]

    def after(self, prompt: Mapping[str, Any]) -> tuple[int, float] | None:
        """The first cut after a prompt's frame: frame and time."""
        frame = prompt["frame_index"]
        n = bisect_right(self.frames, frame) if frame is not None else bisect_right(self.times, prompt["time_s"])
        return (self.frames[n], self.times[n]) if n < len(self.frames) else None


@dataclass(frozen=True, kw_only=True)
class CutManifest:
    """A manifest whose prompted objects end at cuts."""

    manifest: Manifest
    """Videos that the table of shots lacks are among its bad rows."""
    cuts: Mapping[str, Cuts] = field(default_factory=dict)
    """By video id; videos without a cut are missing."""


def end_at_cuts(manifest: Manifest, config: RunConfig, open_file: Callable[[str], BinaryIO]) -> CutManifest:
    """The manifest with `until_frame` at the next cut in every prompt whose object does not end before it.

    Raises:
        ManifestError: The table cannot be read, or lacks a column or a video, and bad rows are not to be left out.
        UsageError: Objects are followed back, where a cut could not end them.
    """
    if config.end_at_cuts is None or config.detection is not None:
        return CutManifest(manifest=manifest)
    if config.parameters.direction != "forward":
        raise UsageError(f"--direction is {config.parameters.direction!r}; allowed with --end-at-cuts: forward")
    shots = _read_shots(config.end_at_cuts, manifest.table["video_id"], open_file)
    known = pc.is_in(manifest.table["video_id"], value_set=pc.unique(shots["video_id"])).to_numpy()
    rule = "its table of shots has no row of this video; a video without a cut is one shot"
    ids = manifest.table["video_id"].to_pylist()
    bad = [
        BadRow(int(manifest.rows[n]), ids[n], "video_id", clip(ids[n]), rule) for n in np.flatnonzero(~known).tolist()
    ]
    if bad and config.on_bad_row == "fail":
        more = f" (and {len(bad) - 1} more such rows)" if len(bad) > 1 else ""
        raise ManifestError(f"{redact(config.end_at_cuts)}: {bad[0]}{more}")
    cuts = _cuts_of(shots)
    table = manifest.table.filter(pa.array(known))
    ids, column = table["video_id"].to_pylist(), table["prompts"]
    cut = [n for n, video_id in enumerate(ids) if video_id in cuts]
    prompts = {n: [_ended(prompt, cuts[ids[n]]) for prompt in column[n].as_py() or ()] for n in cut}
    if any(prompts.values()):
        changed = [prompts.get(n, kept) for n, kept in enumerate(column.to_pylist())]
        at = table.schema.get_field_index("prompts")
        table = table.set_column(at, table.schema.field(at), pa.array(changed, column.type))
    left = replace(manifest, table=table, rows=manifest.rows[known], bad_rows=[*manifest.bad_rows, *bad])
    return CutManifest(manifest=left, cuts=cuts)


def associations(ids: pa.ChunkedArray, association: Association, cuts: Mapping[str, Cuts]) -> pa.Array:
    """For each video the settings of association as JSON, with its cuts."""
    usual = association.to_json()
    texts = [
        replace(association, cuts=cuts[video_id].frames).to_json() if video_id in cuts else usual
        for video_id in (ids.to_pylist() if cuts else ())
    ]
    return pa.array(texts, pa.string()) if cuts else pa.repeat(pa.scalar(usual), len(ids))


def _read_shots(uri: str, ids: pa.ChunkedArray, open_file: Callable[[str], BinaryIO]) -> pa.Table:
    with naming_file(uri):
        table = read_table(uri, open_file=open_file)
        if missing := [name for name in COLUMNS if name not in table.column_names]:
            raise ManifestError(f"column {missing[0]} is missing; a table of jobs.shots has {', '.join(COLUMNS)}")
        try:
            table = table.select(list(COLUMNS)).cast(pa.schema(COLUMNS))
        except pa.ArrowException as error:
            raise ManifestError(f"its columns cannot be read as those of jobs.shots: {error}") from None
        if any(column.null_count for column in table.columns):
            raise ManifestError("a shot has no video_id, start_frame or start_s")
    return table.filter(pc.is_in(table["video_id"], value_set=ids.combine_chunks()))


def _cuts_of(shots: pa.Table) -> dict[str, Cuts]:
    starts: dict[str, dict[int, float]] = {}
    for row in shots.to_pylist():
        starts.setdefault(row["video_id"], {})[row["start_frame"]] = row["start_s"]
    found = {}
    for video_id, times in starts.items():
        cuts = sorted(times)[1:]
        if cuts:
            found[video_id] = Cuts(frames=tuple(cuts), times=tuple(times[t] for t in cuts))
    return found


def _ended(prompt: dict[str, Any], cuts: Cuts) -> dict[str, Any]:
    """The prompt, which ends its object at the next cut unless it ends it before."""
    cut = cuts.after(prompt)
    if cut is None:
        return prompt
    frame, time = cut
    earlier = [prompt["until_frame"] is not None and prompt["until_frame"] <= frame]
    earlier.append(prompt["until_s"] is not None and prompt["until_s"] <= time)
    return prompt if any(earlier) else {**prompt, "until_frame": frame, "until_s": None}
