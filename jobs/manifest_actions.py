"""The actions of jobs.manifest: each reads prompts or a manifest, and writes or prints a manifest."""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from jobs.command import counted
from jobs.detection_options import take_reading
from pipeline.detection import GIVEN
from pipeline.detection.sources.prompts import flat_detections
from pipeline.detection.sources.reading import Videos
from pipeline.detection.sources.source import Source
from pipeline.errors import CorpusError, UsageError
from pipeline.formats.frame_sizes import Size, video_size
from pipeline.formats.importing import import_prompts
from pipeline.formats.registry import FORMATS
from pipeline.manifest import PROMPT_KINDS, Manifest, describe, read_manifest, read_table, write_manifest, write_rows
from pipeline.manifest import build as prompting
from pipeline.manifest.bad_rows import BadRow, refuse_rows
from pipeline.manifest.build import FoundVideo, PromptRule, Shape, detections_to_prompts
from pipeline.manifest.normalized import normalized_notes
from pipeline.manifest.probe import probe_videos
from pipeline.runs.summary import next_line
from pipeline.storage import Storage, Store, open_source, redact
from pipeline.storage.uris import local_path

SHOWN = 20
"""Rows that are printed at most."""


def build(given: argparse.Namespace, storage: Storage) -> int:
    """Every video below a folder, or every camera of every episode of a LeRobot dataset."""
    rule, left_out = PromptRule.parse(given.prompt), 0
    store = Store(given.source, storage=storage)
    listing: prompting.LeRobotListing | prompting.VideoListing
    if given.pattern is None and prompting.is_lerobot(store):
        listing = prompting.LeRobotListing(store)
    else:
        listing = prompting.VideoListing(store, pattern=given.pattern)

    def shape_of(video: FoundVideo) -> Shape:
        return given.size or video.shape or prompting.probe(video, storage=storage)

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal left_out
        for row in prompting.manifest_rows(listing, rule, shape_of=shape_of, threads=given.threads):
            if isinstance(row, CorpusError):
                left_out += 1
                print(f"left out: {row}", file=sys.stderr)
            else:
                yield row

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        if write_rows(rows(), path) == 0:
            raise listing.nothing_found()
        manifest = read_manifest(path, on_bad_row="skip")
    if isinstance(listing, prompting.VideoListing) and listing.others:
        print(f"not videos by their name: {listing.others_text()}; --pattern picks others", file=sys.stderr)
    return _write(given, storage, manifest, left_out=left_out)


def from_detections(given: argparse.Namespace, storage: Storage) -> int:
    """Sampled detections: those of a tracker by its identities, others linked by overlap."""
    if not 0 < given.match_iou <= 1:
        raise UsageError(f"--match-iou is {given.match_iou}; it must be above 0 and at most 1")
    _require_videos(given)
    detections, bad = _read_detections(given, storage)
    left_out: Counter[str] = Counter()
    prompts = detections_to_prompts(
        detections,
        every=given.every,
        match_iou=given.match_iou,
        min_score=given.min_score,
        confirm_score=given.confirm_score,
        refine=given.refine,
        fps=given.fps,
        left_out=left_out,
    )
    for why, count in left_out.items():
        if count:
            print(f"{count} of {detections.num_rows} detections {why}", file=sys.stderr)
    return _join(given, storage, prompts, left_out=bad)


def _read_detections(given: argparse.Namespace, storage: Storage) -> tuple[pa.Table, int]:
    """The detections as a flat table, and how many rows are bad; they are printed and left out, or refused."""
    reading = take_reading(vars(given))
    ids = None
    if given.videos:
        videos = read_table(given.videos, open_file=_open(storage))
        ids = frozenset(videos["video_id"].to_pylist()) if "video_id" in videos.column_names else None
    size_of = _opened_size(given, storage) if reading.size is None else lambda _: reading.size
    source = Source(given.detections, reading, storage=storage, videos=Videos(ids=ids, size_of=size_of))
    batches, bad = [], list[BadRow]()
    for batch, wrong in source.batches():
        batches.append(batch)
        bad += wrong
    reading.check_mapped(source.categories.seen)
    for note in source.notes:
        print(f"note: {note}", file=sys.stderr)
    if bad and given.on_bad_row == "fail":
        refuse_rows(bad)
    _print_rows(bad)
    if bad:
        print(f"{len(bad)} detections break a rule (rows count from 0); they are left out", file=sys.stderr)
    table = pa.Table.from_batches(batches, schema=GIVEN)
    if not table.num_rows:
        raise UsageError(f"{redact(given.detections)} holds no detection that can be used; {len(bad)} left out")
    return flat_detections(table, prompt=given.prompt), len(bad)


def from_prompts(given: argparse.Namespace, storage: Storage) -> int:
    """Write the nested form of a flat prompt table."""
    return _join(given, storage, read_table(given.prompts, open_file=_open(storage)))


def from_labels(given: argparse.Namespace, storage: Storage) -> int:
    """Prompts from the labels of another tool."""
    prompts = import_prompts(
        given.format,
        given.labels,
        frames=given.frames,
        prompt=given.prompt,
        size_of=_size_of(given, storage),
        storage=storage,
    )
    return _join(given, storage, prompts, file_frames=FORMATS[given.format].numbers_file_frames)


def _size_of(given: argparse.Namespace, storage: Storage) -> Callable[[str], Size | None]:
    """How to find height and width of a video by its id: as given, else by opening the video."""
    if given.size:
        return lambda _: (given.size.height, given.size.width)
    return _opened_size(given, storage)


def _opened_size(given: argparse.Namespace, storage: Storage) -> Callable[[str], Size | None]:
    """How to find height and width of a video by its id: by opening it."""

    @cache
    def uris() -> dict[str, str]:
        table = read_table(given.videos, open_file=_open(storage)).select(["video_id", "video_uri"])
        return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def size_of(video_id: str) -> Size | None:
        template = given.uri_template
        uri = template.replace("{video_id}", video_id) if template else uris().get(video_id) if given.videos else None
        return video_size(uri, storage=storage) if uri else None

    return size_of


def _join(
    given: argparse.Namespace, storage: Storage, prompts: pa.Table, *, file_frames: bool = False, left_out: int = 0
) -> int:
    _require_videos(given)
    videos = given.videos or prompting.videos_by_template(prompts, given.uri_template)
    manifest = read_manifest(videos, prompts=prompts, on_bad_row=given.on_bad_row, open_file=_open(storage))
    if file_frames and (cut := pc.filter(manifest.table["video_id"], pc.greater(manifest.table["start_s"], 0))):
        raise UsageError(
            f"{given.format} numbers the frames of the whole file, but video {cut[0].as_py()!r} has start_s, from "
            "which a manifest counts; leave start_s out"
        )
    return _write(given, storage, manifest, left_out=left_out)


def _require_videos(given: argparse.Namespace) -> None:
    if (given.videos is None) == (given.uri_template is None):
        raise UsageError("give either --videos or --uri-template, to locate the videos")


def validate(given: argparse.Namespace, storage: Storage) -> int:
    """Check a manifest as jobs.label does; with --probe, against its videos."""
    manifest = read_manifest(given.manifest, prompts=given.prompts, on_bad_row="skip", open_file=_open(storage))
    _print_bad_rows(manifest)
    for note in normalized_notes(manifest):
        print(f"warning: {note}", file=sys.stderr)
    kinds = ", ".join(f"{count} with {kind}" for kind, count in _kinds(manifest).items())
    videos, prompts = counted(len(manifest), "valid video"), counted(_prompts(manifest), "prompt")
    print(f"{videos}, {prompts} ({kinds}); {counted(len(manifest.bad_rows), 'bad row')}")
    if not given.probe:
        if not manifest.bad_rows and given.prompts is None:
            _say_next(redact(given.manifest))
        return 2 if manifest.bad_rows else 0
    rows: list[int] = []
    for problem in probe_videos(manifest, storage=storage, threads=given.threads):
        print(problem, file=sys.stderr)
        rows.append(problem.row)
    videos, problems = counted(len(manifest), "video"), counted(len(rows), "problem")
    print(f"{videos} probed; {problems} in {len(set(rows))} of them")
    return 2 if manifest.bad_rows else 3 if rows else 0


def show(given: argparse.Namespace, storage: Storage) -> int:
    """Print rows as text."""
    manifest = read_manifest(given.manifest, prompts=given.prompts, on_bad_row="skip", open_file=_open(storage))
    chosen = list(range(min(given.rows, len(manifest))))
    if given.video_id is not None:
        found = pc.index(manifest.table["video_id"], given.video_id).as_py()
        if found < 0:
            raise UsageError(f"no valid row has the video_id {given.video_id!r}")
        chosen = [found]
    for i in chosen:
        print("\n".join(describe(manifest.video(i))))
    print(f"{len(chosen)} of {counted(len(manifest), 'video')}; {counted(len(manifest.bad_rows), 'bad row')}")
    return 0


def _write(given: argparse.Namespace, storage: Storage, manifest: Manifest, *, left_out: int = 0) -> int:
    folder, name = folder_and_name(given.output)
    _print_bad_rows(manifest)
    left_out += len(manifest.bad_rows)
    if len(manifest) == 0:
        raise UsageError(f"no valid row is left to write; {left_out} left out")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "manifest.parquet"
        write_manifest(manifest, path)
        Store(folder, storage=storage).put(name, path)
    videos, prompts = counted(len(manifest), "video"), counted(_prompts(manifest), "prompt")
    print(f"{redact(given.output)}: {videos} with {prompts}; {left_out} left out")
    _say_next(redact(given.output))
    return 3 if left_out else 0


def _say_next(manifest: str) -> None:
    print(next_line(["preview", "--manifest", manifest], ["label", "--manifest", manifest, "--output", "LABELS"]))


def _print_bad_rows(manifest: Manifest) -> None:
    _print_rows(manifest.bad_rows)


def _print_rows(rows: Sequence[BadRow]) -> None:
    for bad in rows[:SHOWN]:
        print(bad, file=sys.stderr)
    if len(rows) > SHOWN:
        print(f"and {len(rows) - SHOWN} more", file=sys.stderr)


def folder_and_name(uri: str) -> tuple[str, str]:
    if (path := local_path(uri)) is not None:
        return str(path.parent), path.name
    folder, _, name = uri.rpartition("/")
    return folder, name


def check_output(given: argparse.Namespace, storage: Storage) -> None:
    folder, name = folder_and_name(given.output)
    if not name:
        raise UsageError(f"--output is {redact(given.output)!r}; it must name a file")
    if not given.overwrite and Store(folder, storage=storage).exists(name):
        raise UsageError(f"{redact(given.output)} exists already; --overwrite replaces it")


def _open(storage: Storage) -> Callable[[str], BinaryIO]:
    return lambda uri: open_source(uri, storage=storage)[0]


def _prompts(manifest: Manifest) -> int:
    return pc.sum(pc.list_value_length(manifest.table["prompts"])).as_py() or 0


def _kinds(manifest: Manifest) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for chunk in manifest.table["prompts"].chunks:
        values = chunk.flatten()
        for kind in PROMPT_KINDS:
            counts[kind.name] += len(values) - pc.struct_field(values, kind.name).null_count
    return {kind.name: counts[kind.name] for kind in PROMPT_KINDS}
