"""YOLO's segmentation labels: a text file for each frame, a polygon for each object in shares of the frame's size."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from pipeline.detection.sources.classes import read_names
from pipeline.detection.sources.pictures import frame_of_picture
from pipeline.detection.sources.yolo_lines import YoloObject, read_yolo
from pipeline.errors import CorpusError, UsageError
from pipeline.formats.format import Document, ExportContext, Format, Piece, lines
from pipeline.formats.frame_sizes import FrameSizes
from pipeline.formats.location import Location, decode_text
from pipeline.formats.prompts import PromptRequest, PromptRow, box_prompt, mask_prompt
from pipeline.formats.rows import RowBuilder
from pipeline.formats.sources import FileMasks, MaskSource
from pipeline.formats.video_masks import VideoMasks
from pipeline.masks import rle
from pipeline.masks.outlines import Points, polygon


class YoloFormat(Format):
    """`labels/SPLIT/VIDEO_000012.txt` and `data.yaml`, as Ultralytics reads them.

    Points are pixel centres, so that filling the polygon with its outline, as OpenCV does, gives back the mask; parts
    of a mask and its holes are linked by lines, which are drawn too. `tracks_SPLIT.csv` holds the rest: the object of
    each line, and the frame's size.
    """

    name = "yolo"
    about = "YOLO segmentation for Ultralytics"
    has_polygons = True

    def pieces(self, video: VideoMasks, context: ExportContext) -> Iterator[Piece]:
        height, width = video.size
        for frame, rows in video.by_frame():
            written, tracks = [], []
            for row in rows:
                ring = polygon(row["counts"], (height, width), tolerance=context.tolerance, through_centres=True)
                if len(ring):
                    written.append(_line(context.category(row["category"]), ring, (height, width)))
                    tracks.append(row["object_id"])
            stem = f"{video.name}_{frame:06d}"
            yield Piece(f"labels/{video.split}/{stem}.txt", "".join(written).encode())
            record = (stem, video.video_id, frame, height, width, " ".join(map(str, tracks)))
            yield Piece(f"tracks_{video.split}.csv", _csv(record), section="lines")

    def documents(self, context: ExportContext) -> Iterable[Document]:
        names = "".join(f"  {at}: {json.dumps(name)}\n" for at, name in enumerate(context.categories))
        yield Document("data.yaml", (f"{_yaml_splits(context)}names:\n{names}".encode(),))
        yield from (lines(f"tracks_{name}.csv") for name in context.filled_splits)

    def image_path(self, video: VideoMasks, frame_index: int) -> str:
        return f"images/{video.split}/{video.name}_{frame_index:06d}.jpg"

    def recognizes(self, at: Location) -> bool:
        return "labels" in at.folders

    def open_masks(self, at: Location) -> MaskSource:
        classes, frames, sizes = _classes(at), _frames(at), FrameSizes(at)
        by_video: dict[str, list[str]] = {}
        for path, frame in frames.items():
            by_video.setdefault(frame.video_id, []).append(path)

        def read_video(video_id: str) -> pa.Table:
            rows = RowBuilder()
            for path in by_video[video_id]:
                size = frames[path].size or sizes.of(video_id, path)
                for object_id, line in _objects(at, path, frames[path]):
                    counts = line.counts(size)
                    rows.add(video_id, object_id, frames[path].frame_index, size, counts, classes.get(line.kind))
            return rows.table()

        return FileMasks(by_video, read_video, self.name, self.protocol)

    def prompts(self, at: Location, request: PromptRequest) -> Iterator[PromptRow]:
        classes, sizes = _classes(at), FrameSizes(at, request.size_of)
        for path, frame in sorted(_frames(at).items()):
            size = frame.size or sizes.of(frame.video_id, path)
            for object_id, line in _objects(at, path, frame):
                category = classes.get(line.kind)
                about = (frame.video_id, object_id, frame.frame_index)
                if request.prompt == "mask" and line.ring is not None:
                    yield mask_prompt(*about, size, line.counts(size), category)
                else:
                    yield box_prompt(*about, line.pixels(size), category)


@dataclass(frozen=True, kw_only=True)
class YoloFrame:
    """The frame of a label file, and the object of each line."""

    video_id: str
    frame_index: int
    size: tuple[int, int] | None = None
    object_ids: tuple[int, ...] | None = None


def read_tracks(text: str, *, name: str = "tracks") -> dict[str, YoloFrame]:
    """The rows of `tracks_SPLIT.csv` by the label file's stem."""
    found = {}
    try:
        for stem, video_id, frame, height, width, objects in csv.reader(io.StringIO(text)):
            found[stem] = YoloFrame(
                video_id=video_id,
                frame_index=int(frame),
                size=rle.check_size((int(height), int(width))),
                object_ids=tuple(int(one) for one in objects.split()),
            )
    except (ValueError, csv.Error, CorpusError) as error:
        raise UsageError(f"{name} is not a table of frames and objects: {error}") from error
    return found


def frame_of(path: str) -> YoloFrame:
    """The frame from the name of a label file: `VIDEO_000012.txt`, or another of `FORMS`.

    Raises:
        ManifestError: It has another name.
    """
    video, _, number = PurePosixPath(path).stem.rpartition("_")
    if video and number.isascii() and number.isdigit() and len(number) < 10:
        return YoloFrame(video_id=video, frame_index=int(number))
    video, index = frame_of_picture(path)
    return YoloFrame(video_id=video, frame_index=index)


def _yaml_splits(context: ExportContext) -> str:
    """The lines of `data.yaml` that name folders of pictures.

    There is no `path`: Ultralytics then resolves folders from that of data.yaml, whatever the working directory
    (https://github.com/ultralytics/ultralytics/blob/main/ultralytics/data/utils.py, check_det_dataset). It requires
    `train` and `val`, and fails if a folder does not exist, so a split without videos is left out.
    """
    filled = list(context.filled_splits)
    folders = {name: name for name in filled}
    for name, instead in (("train", filled[0]), ("val", "train")):
        folders.setdefault(name, folders.get(instead, filled[0]))
    return "".join(
        f"{name}: images/{folder}" + ("\n" if name == folder else f"  # no video is in the split {name}\n")
        for name, folder in folders.items()
    )


def _frames(at: Location) -> dict[str, YoloFrame]:
    """The frame of each label file."""
    tracks: dict[str, YoloFrame] = {}
    for one in at.store.list(at.path):
        if PurePosixPath(one.path).name.startswith("tracks_") and one.path.endswith(".csv"):
            tracks |= read_tracks(at.read_text(one.path), name=at.name_of(one.path))
    return {path: tracks.get(PurePosixPath(path).stem) or frame_of(path) for path in at.below("labels").files(".txt")}


def _classes(at: Location) -> dict[int, str]:
    said = at.read_or_none("data.yaml")
    return read_names(decode_text(said, "data.yaml")) if said else {}


def _objects(at: Location, path: str, frame: YoloFrame) -> Iterator[tuple[int, YoloObject]]:
    """The lines of a label file, each with its object id."""
    lines_read = read_yolo(at.read_text(path), name=at.name_of(path))
    if frame.object_ids is not None and len(frame.object_ids) != len(lines_read):
        raise UsageError(f"{at.name_of(path)} has {len(lines_read)} lines for {len(frame.object_ids)} objects")
    yield from zip(frame.object_ids or range(len(lines_read)), lines_read, strict=False)


def _line(kind: int, ring: Points, size: tuple[int, int]) -> str:
    height, width = size
    if len(ring) < 3:  # a single pixel or a row of two: the format requires three points
        ring = np.concatenate((ring, np.repeat(ring[-1:], 3 - len(ring), axis=0)))
    shares = ring / (width, height)
    return f"{kind} " + " ".join(f"{value:.6f}" for value in shares.reshape(-1).tolist()) + "\n"


def _csv(record: tuple[object, ...]) -> bytes:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerow(record)
    return sink.getvalue().encode()
