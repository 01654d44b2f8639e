"""Options of commands that read the detections of detectors and trackers."""

import argparse
from collections.abc import Callable
from typing import Any

from pipeline.detection.sources.reading import Reading, parse_map
from pipeline.errors import UsageError

DETECTIONS_HELP = (
    "what a detector or tracker wrote: a table (Parquet, CSV, JSON lines), COCO or Ultralytics JSON, a MOTChallenge "
    ".txt, a folder of such files or of YOLO label files, or an output of jobs.detect"
)


def add_reading(add: Callable[..., Any], *, size: bool = True) -> None:
    """Add what the files of --detections do not say themselves; `size` where the command has no --size of its own."""
    add("--coco-images", metavar="FILE", help="COCO file whose images and categories the results of --detections refer "
        "to")  # fmt: skip
    add("--name-pattern", metavar="REGEX", help="regular expression with the named groups video and frame for names of "
        "pictures and label files (default: VIDEO_frame0000.jpg, VIDEO/00000.jpg, VIDEO_000123.png)")  # fmt: skip
    add("--first-frame", type=int, metavar="N", help="number of a video's first frame in these names and in MOT files "
        "(default: 0; 1 in MOT files, and in label files that Ultralytics wrote for videos)")  # fmt: skip
    add("--names", metavar="FILE", help="names of classes that are numbers: a data.yaml, JSON, or one name a line")
    add("--map", action="append", type=_map, metavar="NAME=CATEGORY", help="rename a class, or merge several into one; "
        "repeatable")  # fmt: skip
    if size:
        add("--size", type=frame_size, metavar="WxH", help="frame size of all videos, for coordinates in shares of the "
            "frame and for polygons (default: that of COCO's images, else open each video)")  # fmt: skip


def take_reading(given: dict[str, Any]) -> Reading:
    """The reading among the options, which are removed.

    Raises:
        UsageError: A value is not allowed.
    """
    names = ("coco_images", "name_pattern", "first_frame", "names", "map", "size")
    values = {name: given.pop(name) for name in names if given.get(name) is not None}
    return Reading(**{**values, "map": tuple(values.get("map", ()))})


def frame_size(text: str) -> tuple[int, int]:
    """Height and width of `1280x720`."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write WIDTHxHEIGHT, such as 1280x720")
    return int(height), int(width)


def _map(text: str) -> tuple[str, str]:
    try:
        return parse_map(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
