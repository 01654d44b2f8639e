"""Reviews: contact sheets of the most doubtful videos, and their prompts for correction."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CorpusError, UsageError
from pipeline.labels import VIDEOS
from pipeline.manifest import SCHEMA, digest_records
from pipeline.storage import Storage
from pipeline.storage.parquet import read_parquet
from pipeline.tables.query import Labels
from pipeline.video.content import content_version, open_labelled
from pipeline.views.preview import contact_sheet, file_names, load_videos, save_sheet

log = logging.getLogger(__name__)

PROMPTS_DIGEST = b"sam2-corpus:review-prompts"
"""In the metadata of a review's manifest: SHA-256 of its prompts.jsonl."""

PromptRecords = Sequence[Mapping[str, Any]]


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
    videos: Sequence[str] | None = None,
    storage: Storage | None = None,
    correct: Callable[[str, PromptRecords], PromptRecords] = lambda _video_id, prompts: prompts,
    watch: Callable[[int, int], None] = lambda _done, _all: None,
) -> Review:
    """Write contact sheets and the prompts of the most doubtful videos.

        FOLDER/sheets/0001-VIDEO.png   a contact sheet; numbers are ranks
        FOLDER/prompts.jsonl           current prompts, one video a line, for `jobs.review apply` once corrected
        FOLDER/manifest.parquet        the same as a manifest

    `videos` are written instead of the most doubtful ones, in their order.
    A video whose row is unchanged keeps its label key, so that only corrected videos are labelled again.
    `correct` makes the current prompts of a video, by its id, from those that its labels were made with.

    Raises:
        UsageError: A number is out of range, or the folder has corrections or files of others under these names.
    """
    if worst < 1:
        raise UsageError(f"--worst must be at least 1 (got {worst})")
    _check_replaceable(folder)
    if videos is None:
        doubtful = f"SELECT video_id FROM videos ORDER BY doubt DESC NULLS LAST, video_id LIMIT {worst}"
        videos = [video_id for (video_id,) in labels.sql(doubtful).fetchall()]
    chosen = videos[:worst]
    names = file_names(chosen)
    (folder / "sheets").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for rank, video_id in enumerate(chosen, start=1):
        (labelled,) = load_videos(labels, [video_id])
        try:
            if not labelled.prompts:
                raise UsageError("its labels are older than the prompts kept with them")
            with open_labelled(labelled.video, storage=storage) as reader:
                name = f"{rank:04d}-{names[video_id]}.png"
                save_sheet(contact_sheet(labelled, reader), folder / "sheets" / name)
            rows.append(manifest_row(labelled.video, correct(video_id, labelled.prompts), storage=storage))
        except CorpusError as error:
            left_out.append(f"{video_id!r}: {error}")
        watch(rank, len(chosen))
    reviewed = digest_records([row["prompts"] for row in rows])
    lines = [{**row, "reviewed_prompts": digest} for row, digest in zip(rows, reviewed, strict=True)]
    write_prompt_lines(lines, folder / "prompts.jsonl")
    mark = {PROMPTS_DIGEST: _digest_of(folder / "prompts.jsonl")}
    write_manifest_rows(labels, rows, folder / "manifest.parquet", metadata=mark)
    return Review(video_ids=tuple(row["video_id"] for row in rows), left_out=tuple(left_out))


def manifest_row(video: Mapping[str, Any], prompts: PromptRecords, *, storage: Storage | None = None) -> dict[str, Any]:
    """A row of the videos table as the row of a manifest that gives the same label key, apart from `prompts`.

    Raises:
        StorageError: The video cannot be reached.
    """
    version = content_version(str(video["uri"]), storage=storage)
    extra = {name: value for name, value in video.items() if name not in VIDEOS.names and value is not None}
    if "manifest_fps" in extra:  # the videos table has the name for itself
        extra["fps"] = extra.pop("manifest_fps")
    rate = video.get("label_rate")
    if rate:
        name, number = ("label_fps", float) if rate.endswith("fps") else ("label_every", int)
        extra[name] = number(rate.removesuffix("fps").removesuffix("f"))
    return extra | {
        "video_id": video["video_id"],
        "video_uri": video["uri"],
        "prompts": [{name: value for name, value in prompt.items() if value is not None} for prompt in prompts],
        "start_s": video["start_s"],
        "end_s": video["end_s"],
        "num_frames": video["frames"],
        "video_version": None if version and version.token() == video["version"] else video["version"],
    }


def write_manifest_rows(
    labels: Labels,
    rows: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    metadata: Mapping[bytes, bytes] = MappingProxyType({}),
) -> None:
    """Rows as a Parquet manifest; columns that manifests carry along keep their type in the videos table."""
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    kept = labels.arrow("videos").schema
    for name in sorted({name for row in rows for name in row} - set(SCHEMA.names)):
        table = table.append_column(name, pa.array([row.get(name) for row in rows], kept.field(name).type))
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def write_prompt_lines(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Rows as JSON lines, without what is absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({name: value for name, value in row.items() if value is not None}, default=str) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))


def _check_replaceable(folder: Path) -> None:
    """
    Raises:
        UsageError: A file that a review would replace was edited since a review wrote it, or no review wrote it.
    """
    prompts, manifest = folder / "prompts.jsonl", folder / "manifest.parquet"
    if (prompts.exists() or manifest.exists()) and not _is_untouched(prompts, manifest):
        raise UsageError(
            f"{prompts} or {manifest.name} was changed since a review wrote it, or no review wrote it; apply the "
            "corrections and choose another --folder"
        )


def _is_untouched(prompts: Path, manifest: Path) -> bool:
    """Whether both files of a review have the prompts with which it wrote them."""
    try:
        table = read_parquet(manifest.read_bytes())
        if (table.schema.metadata or {}).get(PROMPTS_DIGEST) != _digest_of(prompts):
            return False
        reviewed = [json.loads(line)["reviewed_prompts"] for line in prompts.read_text().splitlines()]
        return digest_records(table["prompts"].to_pylist()) == reviewed
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digest_of(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).hexdigest().encode()
