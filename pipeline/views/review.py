"""What a reviewer needs: pictures of the most doubtful videos, and the prompts that made them, to be corrected."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CorpusError, UsageError
from pipeline.labels import VIDEOS
from pipeline.manifest import SCHEMA
from pipeline.storage import Storage
from pipeline.tables.query import Labels
from pipeline.video.content import content_version, open_labelled
from pipeline.views.preview import LabelledVideo, contact_sheet, load_videos

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Review:
    """What was written, the most doubtful video first."""

    video_ids: tuple[str, ...]
    left_out: tuple[str, ...]
    """Why some videos are not among them."""


def write_review(
    labels: Labels,
    folder: Path,
    *,
    worst: int,
    storage: Storage | None = None,
    watch: Callable[[int, int], None] = lambda _done, _all: None,
) -> Review:
    """Write contact sheets and a manifest of the most doubtful videos.

        FOLDER/sheets/0001-VIDEO.png   a contact sheet, by rank
        FOLDER/manifest.parquet        their current prompts, for `jobs.label` once corrected
        FOLDER/prompts.jsonl           the same, one video a line, to edit by hand or read by a labelling tool

    A video whose row is left as it is has the label key that it had, so that labelling the manifest redoes those alone
    that were corrected.

    Raises:
        UsageError: A number is out of range.
    """
    if worst < 1:
        raise UsageError(f"the worst {worst} videos are none; allowed is 1 or more")
    chosen = labels.sql(
        f"SELECT video_id FROM videos ORDER BY doubt DESC NULLS LAST, video_id LIMIT {worst}"
    ).fetchall()
    (folder / "sheets").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for rank, (video_id,) in enumerate(chosen, start=1):
        (labelled,) = load_videos(labels, [video_id])
        try:
            if not labelled.prompts:
                raise UsageError("its labels are older than the prompts kept with them")
            with open_labelled(labelled.video, storage=storage) as reader:
                contact_sheet(labelled, reader).save(
                    folder / "sheets" / f"{rank:04d}-{quote(video_id, safe='')[:150]}.png"
                )
            rows.append(_row(labelled, storage))
        except CorpusError as error:
            left_out.append(f"{video_id!r}: {error}")
        watch(rank, len(chosen))
    _write(folder, rows)
    return Review(video_ids=tuple(row["video_id"] for row in rows), left_out=tuple(left_out))


def _row(labelled: LabelledVideo, storage: Storage | None) -> dict[str, Any]:
    """The video's row of a manifest that would give the same label key."""
    video = labelled.video
    version = content_version(str(video["uri"]), storage=storage)
    known = {name: value for name, value in video.items() if name not in VIDEOS.names and value is not None}
    if "manifest_fps" in known:  # the videos table has the name for itself
        known["fps"] = known.pop("manifest_fps")
    return known | {
        "video_id": video["video_id"],
        "video_uri": video["uri"],
        "prompts": list(labelled.prompts),
        "start_s": video["start_s"],
        "end_s": video["end_s"],
        "num_frames": video["frames"],
        "video_version": None if version and version.token() == video["version"] else video["version"],
    }


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    for name in sorted({name for row in rows for name in row} - set(SCHEMA.names)):
        table = table.append_column(name, pa.array([row.get(name) for row in rows]))
    pq.write_table(table, folder / "manifest.parquet", compression="zstd")
    lines = [json.dumps({name: value for name, value in row.items() if value is not None}, default=str) for row in rows]
    (folder / "prompts.jsonl").write_text("".join(line + "\n" for line in lines))
