"""Make, check and show manifests.

build            one default prompt rule for every video of a folder or bucket
from-detections  boxes of any detector become prompts; an object keeps its number from look to look
from-prompts     a flat table of prompts (Parquet, CSV, JSONL) and a table of videos become one manifest
from-labels      masks or boxes of another tool's labels become prompts
validate         whether jobs.label would take it, and what is in it
show             its rows as text
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from jobs.command import add_storage, handle_errors, open_storage, start
from jobs.options import duration
from pipeline.errors import CorpusError, UsageError
from pipeline.formats.frame_sizes import Size, video_size
from pipeline.formats.importing import import_prompts
from pipeline.formats.registry import FORMATS
from pipeline.manifest import PROMPT_KINDS, Manifest, describe, read_manifest, read_table, write_manifest, write_rows
from pipeline.manifest import build as prompting
from pipeline.manifest.build import Every, FoundVideo, PromptRule, Shape, detections_to_prompts
from pipeline.manifest.normalized import normalized_notes
from pipeline.manifest.probe import probe_videos
from pipeline.storage import Storage, Store, open_source, redact
from pipeline.storage.uris import local_path

SHOWN = 20


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.manifest",
        description=str(__doc__).partition("\n")[0],
        epilog="exit codes: 0 done; 3 done, but some videos or rows were left out; 2 wrong usage or manifest; 1 else",
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, Storage], int], text: str) -> Any:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(run=run)
        add_storage(sub)
        return sub.add_argument

    add = command("build", build, "one default prompt rule for every video of a folder or bucket")
    add("source", metavar="URI", help="folder or bucket prefix that holds the videos (path or fsspec URL)")
    add("--prompt", default="centre-box", metavar="RULE", help="centre-box (default), centre-box:0.3 (share of width "
        "and height), full-frame, points:3x4 or boxes:3x4 (rows x columns, each an object)")  # fmt: skip
    add("--pattern", metavar="GLOB", help="pattern of file paths below the folder (default: video suffixes)")
    add("--size", type=_size, metavar="WxH", help="displayed size of all videos (default: open each video)")
    add(
        "--threads", type=_count, default=16, metavar="N", help="number of videos opened at the same time (default: 16)"
    )
    _output(add)

    add = command("from-detections", from_detections, "boxes of any detector become prompts")
    add("--detections", required=True, metavar="URI", help="table (Parquet, CSV, JSONL), one row a box: video_id, "
        "frame_index or time_s, x_min, y_min, x_max, y_max; optionally score, category, fps")  # fmt: skip
    add(
        "--every",
        type=_every,
        default="1s",
        metavar="T",
        help="prompt at most once per interval: a duration, 0.5s, or frames, 30f (default: 1s)",
    )
    add(
        "--match-iou",
        type=float,
        default=0.5,
        metavar="X",
        help="IoU with an object's last box from which a box is that object (default: 0.5)",
    )
    add(
        "--min-score",
        type=float,
        default=float("-inf"),
        metavar="X",
        help="skip boxes with a lower score (default: none)",
    )
    add("--fps", type=float, metavar="X", help="frame rate of the videos, where the table has no column fps")
    _videos(add, on_bad_row="skip")  # a detector that finds nothing in some videos is no mistake
    _output(add)

    add = command("from-prompts", from_prompts, "a flat prompt table and a table of videos become one manifest")
    add("--prompts", required=True, metavar="URI", help="prompt table (Parquet, CSV, JSONL), one row a prompt")
    _videos(add, on_bad_row="fail")
    _output(add)

    add = command("from-labels", from_labels, "masks or boxes of another tool's labels become prompts")
    add("--format", required=True, choices=FORMATS, help="format of the labels")
    add("--labels", required=True, metavar="URI", help="file or folder of labels")
    add("--frames", choices=("first", "all"), default="first",
        help="annotated frames that become prompts (default: the first one where an object is visible)")  # fmt: skip
    add("--size", type=_size, metavar="WxH", help="frame size of all videos, for labels in shares of the frame "
        "(default: that of pictures or videos beside the labels, else of the videos themselves)")  # fmt: skip
    _videos(add, on_bad_row="skip")
    _output(add)

    for name, run, text in (
        ("validate", validate, "whether jobs.label would take a manifest, and what is in it"),
        ("show", show, "rows of a manifest as text"),
    ):
        add = command(name, run, text)
        add("manifest", metavar="URI", help="Parquet manifest (path or fsspec URL)")
        add("--prompts", metavar="URI", help="flat table of its prompts")
        if name == "validate":
            add("--probe", action="store_true", help="open every video and check prompts against its frames and size")
            add(
                "--threads",
                type=_count,
                default=16,
                metavar="N",
                help="number of videos opened at the same time (default: 16)",
            )
        if name == "show":
            add("--video-id", metavar="ID", help="show only this video")
            add("--rows", type=_count, default=SHOWN, metavar="N", help=f"number of rows shown (default: {SHOWN})")
    return p


def _output(add: Any) -> None:
    add("--output", required=True, metavar="URI", help="manifest to write (path or fsspec URL)")
    add("--overwrite", action="store_true", help="replace an existing manifest")


def _videos(add: Any, *, on_bad_row: str) -> None:
    add("--on-bad-row", choices=("fail", "skip"), default=on_bad_row,
        help=f"stop at videos with missing or invalid prompts, or skip them (default: {on_bad_row})")  # fmt: skip
    add("--videos", metavar="URI", help="Parquet table of video_id, video_uri and other columns of manifests")
    add("--uri-template", metavar="TEXT", help="URI of each video instead, e.g. s3://bucket/videos/{video_id}.mp4")


def _every(text: str) -> Every:
    """An interval: a duration, or frames as `30f`."""
    try:
        return Every.parse(text if text.endswith("f") else f"{duration(text)}s")
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no count; write a whole number from 1")
    return int(text)


def _size(text: str) -> Shape:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write WIDTHxHEIGHT, such as 1280x720")
    return Shape(width=int(width), height=int(height))


def build(given: argparse.Namespace, storage: Storage) -> int:
    """Every video below a folder."""
    rule, left_out = PromptRule.parse(given.prompt), 0
    listing = prompting.VideoListing(Store(given.source, storage=storage), pattern=given.pattern)

    def shape_of(video: FoundVideo) -> Shape:
        return given.size or prompting.probe(video, storage=storage)

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
    if listing.others:
        print(f"not videos by their name: {listing.others_text()}; --pattern picks others", file=sys.stderr)
    return _write(given, storage, manifest, left_out=left_out)


def from_detections(given: argparse.Namespace, storage: Storage) -> int:
    """Sampled and linked boxes."""
    if not 0 < given.match_iou <= 1:
        raise UsageError(f"--match-iou is {given.match_iou}; it must be above 0 and at most 1")
    detections = read_table(given.detections, open_file=_open(storage))
    prompts = detections_to_prompts(
        detections,
        every=given.every,
        match_iou=given.match_iou,
        min_score=given.min_score,
        fps=given.fps,
    )
    return _join(given, storage, prompts)


def from_prompts(given: argparse.Namespace, storage: Storage) -> int:
    """Write the nested form of a flat prompt table."""
    return _join(given, storage, read_table(given.prompts, open_file=_open(storage)))


def from_labels(given: argparse.Namespace, storage: Storage) -> int:
    """Prompts from the labels of another tool."""
    prompts = import_prompts(
        given.format, given.labels, frames=given.frames, size_of=_size_of(given, storage), storage=storage
    )
    return _join(given, storage, prompts, file_frames=FORMATS[given.format].numbers_file_frames)


def _size_of(given: argparse.Namespace, storage: Storage) -> Callable[[str], Size | None]:
    """How to find height and width of a video by its id: as given, else by opening the video."""
    if given.size:
        return lambda _: (given.size.height, given.size.width)

    @cache
    def uris() -> dict[str, str]:
        table = read_table(given.videos, open_file=_open(storage)).select(["video_id", "video_uri"])
        return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def size_of(video_id: str) -> Size | None:
        template = given.uri_template
        uri = template.replace("{video_id}", video_id) if template else uris().get(video_id) if given.videos else None
        return video_size(uri, storage=storage) if uri else None

    return size_of


def _join(given: argparse.Namespace, storage: Storage, prompts: pa.Table, *, file_frames: bool = False) -> int:
    if (given.videos is None) == (given.uri_template is None):
        raise UsageError("give either --videos or --uri-template, which say where the videos lie")
    videos = given.videos or prompting.videos_by_template(prompts, given.uri_template)
    manifest = read_manifest(videos, prompts=prompts, on_bad_row=given.on_bad_row, open_file=_open(storage))
    if file_frames and (cut := pc.filter(manifest.table["video_id"], pc.greater(manifest.table["start_s"], 0))):
        raise UsageError(
            f"{given.format} numbers the frames of the whole file, but video {cut[0].as_py()!r} has start_s, from "
            "which a manifest counts; leave start_s out"
        )
    return _write(given, storage, manifest)


def validate(given: argparse.Namespace, storage: Storage) -> int:
    """Check a manifest as jobs.label does; with --probe, against its videos."""
    manifest = read_manifest(given.manifest, prompts=given.prompts, on_bad_row="skip", open_file=_open(storage))
    _print_bad_rows(manifest)
    for note in normalized_notes(manifest):
        print(f"warning: {note}", file=sys.stderr)
    kinds = ", ".join(f"{count} with {kind}" for kind, count in _kinds(manifest).items())
    print(f"{len(manifest)} valid videos, {_prompts(manifest)} prompts ({kinds}); {len(manifest.bad_rows)} bad rows")
    if not given.probe:
        return 2 if manifest.bad_rows else 0
    rows: list[int] = []
    for problem in probe_videos(manifest, storage=storage, threads=given.threads):
        print(problem, file=sys.stderr)
        rows.append(problem.row)
    print(f"{len(manifest)} videos probed; {len(rows)} problems in {len(set(rows))} of them")
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
    print(f"{len(chosen)} of {len(manifest)} videos; {len(manifest.bad_rows)} bad rows")
    return 0


def _write(given: argparse.Namespace, storage: Storage, manifest: Manifest, *, left_out: int = 0) -> int:
    folder, name = _folder_and_name(given.output)
    _print_bad_rows(manifest)
    left_out += len(manifest.bad_rows)
    if len(manifest) == 0:
        raise UsageError(f"no valid row is left to write; {left_out} left out")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "manifest.parquet"
        write_manifest(manifest, path)
        Store(folder, storage=storage).put(name, path)
    print(f"{redact(given.output)}: {len(manifest)} videos with {_prompts(manifest)} prompts; {left_out} left out")
    return 3 if left_out else 0


def _print_bad_rows(manifest: Manifest) -> None:
    for bad in manifest.bad_rows[:SHOWN]:
        print(bad, file=sys.stderr)
    if len(manifest.bad_rows) > SHOWN:
        print(f"and {len(manifest.bad_rows) - SHOWN} more", file=sys.stderr)


def _folder_and_name(uri: str) -> tuple[str, str]:
    if (path := local_path(uri)) is not None:
        return str(path.parent), path.name
    folder, _, name = uri.rpartition("/")
    return folder, name


def _check_output(given: argparse.Namespace, storage: Storage) -> None:
    folder, name = _folder_and_name(given.output)
    if not name:
        raise UsageError(f"--output is {redact(given.output)!r}; it must name a file")
    if not given.overwrite and Store(folder, storage=storage).exists(name):
        raise UsageError(f"{redact(given.output)} is there already; --overwrite replaces it")


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


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    storage = open_storage(given)
    if "output" in given:
        _check_output(given, storage)
    code: int = given.run(given, storage)
    return code


if __name__ == "__main__":
    start(main)
