"""Make, check and show manifests.

build            one default prompt rule for every video of a folder or bucket
from-detections  boxes of any detector become prompts; an object keeps its id on later frames
from-prompts     a flat table of prompts (Parquet, CSV, JSONL) and a table of videos become one manifest
from-labels      masks or boxes of another tool's labels become prompts
validate         check a manifest as jobs.label does, and summarize it
show             print rows of a manifest as text
"""

import argparse
from collections.abc import Callable
from typing import Any, get_args

from jobs.command import add_storage, handle_errors, open_storage, start
from jobs.command_line import Parser
from jobs.detection_options import DETECTIONS_HELP, add_reading
from jobs.manifest_actions import (
    SHOWN,
    build,
    check_output,
    from_detections,
    from_labels,
    from_prompts,
    show,
    validate,
)
from jobs.options import duration
from pipeline.errors import UsageError
from pipeline.formats.prompts import PromptWith
from pipeline.formats.registry import FORMATS
from pipeline.manifest.build import Every, Refine, Shape
from pipeline.storage import Storage


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.manifest",
        description=str(__doc__).partition("\n")[0],
        epilog="exit codes: 0 done; 3 done, but some videos or rows left out; 2 wrong usage or manifest; 1 unexpected",
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, Storage], int], text: str) -> Any:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(run=run)
        add_storage(sub)
        return sub.add_argument

    add = command("build", build, "one default prompt rule for every video of a folder or bucket")
    add("source", metavar="URI", help="folder or bucket prefix that holds the videos (MCAP recordings: "
        "a row for each camera topic), or a LeRobot dataset v3 (path or fsspec URL)")  # fmt: skip
    add("--prompt", default="centre-box", metavar="RULE", help="centre-box (default), centre-box:0.3 (share of width "
        "and height), full-frame, points:3x4 or boxes:3x4 (rows x columns, each an object)")  # fmt: skip
    add("--pattern", metavar="GLOB", help="pattern of file paths below the folder (default: video suffixes)")
    add("--size", type=_size, metavar="WxH", help="displayed size of all videos (default: open each video)")
    add(
        "--threads", type=_count, default=16, metavar="N", help="number of videos opened at the same time (default: 16)"
    )
    _output(add)

    add = command("from-detections", from_detections, "boxes of any detector become prompts")
    add("--detections", required=True, metavar="URI", help=DETECTIONS_HELP)
    add_reading(add)
    _prompt_with(add, "a detection")
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
        help="IoU with an object's last box from which a box is that object; not of a tracker's objects (default: 0.5)",
    )
    add(
        "--min-score",
        type=float,
        default=float("-inf"),
        metavar="X",
        help="skip boxes with a lower score (default: none)",
    )
    add("--confirm-score", type=float, default=0.8, metavar="X", help="score from which one box is an object; below "
        "it a second look must agree (default: 0.8)")  # fmt: skip
    add("--refine", choices=get_args(Refine), default="never", help="prompt an object again: never, on the look "
        "after one that missed it (lost), or at every interval (default: never)")  # fmt: skip
    add("--fps", type=float, metavar="X", help="frame rate of the videos, where the table has no column fps")
    _videos(add, on_bad_row="skip")  # videos without detections are no error
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
    _prompt_with(add, "an annotation")
    add("--size", type=_size, metavar="WxH", help="frame size of all videos, for labels in shares of the frame "
        "(default: that of pictures or videos beside the labels, else of the videos themselves)")  # fmt: skip
    _videos(add, on_bad_row="skip")
    _output(add)

    for name, run, text in (
        ("validate", validate, "check a manifest as jobs.label does, and summarize it"),
        ("show", show, "print rows of a manifest as text"),
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


def _prompt_with(add: Any, what: str) -> None:
    add("--prompt", choices=get_args(PromptWith), default="mask", help=f"what to prompt with where {what} has a mask: "
        "that, or its box (default: mask)")  # fmt: skip


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


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    storage = open_storage(given)
    if "output" in given:
        check_output(given, storage)
    code: int = given.run(given, storage)
    return code


if __name__ == "__main__":
    start(main)
