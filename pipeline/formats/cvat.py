"""CVAT's XML for video tasks (`CVAT for video 1.1`): a track for each object, a polygon for each frame.

It is read with polygons, boxes and masks. `cvat_masks` writes masks.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pyarrow as pa

from pipeline.errors import CorpusError, UsageError
from pipeline.formats.format import ExportContext, Format, Piece
from pipeline.formats.location import Location
from pipeline.formats.prompts import PromptRequest, PromptRow, box_prompt, mask_prompt, with_ends
from pipeline.formats.rows import RowBuilder
from pipeline.formats.segments import FileFrames
from pipeline.formats.sources import FileMasks, MaskSource, file_of_each_video
from pipeline.formats.video_masks import VideoMasks
from pipeline.masks import rle
from pipeline.masks.outlines import Points, fill, polygon
from pipeline.storage.paths import unquote_id

ID_ATTRIBUTE = "object_id"
"""CVAT numbers tracks itself; the object's own id is kept as an attribute."""


class CvatFormat(Format):
    """`SPLIT/VIDEO.xml`, to be uploaded into a task of that video. Parts of a mask and its holes are joined into one
    polygon by paths that enclose nothing.

    CVAT shows a shape until the next one of its track, so a track is closed by a shape with `outside` at the first
    selected frame after its last one, and wherever selected frames of it are missing. Frame numbers are those of the
    file, also if only a segment was labelled. Read back, a box stays a box.
    """

    name = "cvat"
    about = "polygon tracks for CVAT's video tasks (CVAT for video 1.1)"
    shape: ClassVar[str] = "polygon"
    """Type of the labels, as CVAT names it."""
    has_polygons = True
    numbers_file_frames = True

    def pieces(self, video: VideoMasks, context: ExportContext) -> Iterator[Piece]:
        in_file = video.in_file(context.storage)
        head = _HEAD.format(**_about(video, context, in_file, shape=self.shape))
        written = "".join([head, *self.tracks(video, context, in_file), "</annotations>\n"])
        yield Piece(f"{video.split}/{video.name}.xml", written.encode())

    def tracks(self, video: VideoMasks, context: ExportContext, in_file: FileFrames) -> Iterator[str]:
        """Lines of the video's track elements."""
        tracks: dict[int, list[tuple[int, Points]]] = {}
        for frame, rows in video.by_frame():
            for row in rows:
                ring = polygon(row["counts"], video.size, tolerance=context.tolerance)
                tracks.setdefault(row["object_id"], []).append((frame, ring))
        for number, (object_id, name) in enumerate(video.categories().items()):
            yield f'  <track id="{number}" label={quoteattr(legal(name))} source="auto">\n'
            for frame, ring in _closed(tracks[object_id], lambda t: video.next_frame(t, context.every), in_file):
                yield _shape(frame, ring).format(id_attribute(object_id))
            yield "  </track>\n"

    def image_path(self, video: VideoMasks, frame_index: int) -> str:
        return f"images/{video.name}/frame_{frame_index:06d}.jpg"

    def recognizes(self, at: Location) -> bool:
        return ".xml" in at.suffixes

    def open_masks(self, at: Location) -> MaskSource:
        paths = file_of_each_video((_video_id(path), path) for path in at.files(".xml"))

        def read_video(video_id: str) -> pa.Table:
            path = paths[video_id]
            return masks_of(read_cvat(at.read(path), name=at.name_of(path)), video_id)

        return FileMasks(paths, read_video, self.name, self.protocol)

    def prompts(self, at: Location, request: PromptRequest) -> Iterator[PromptRow]:
        for path in at.files(".xml"):
            video, video_id = read_cvat(at.read(path), name=at.name_of(path)), _video_id(path)
            # CVAT ends each mask on the next frame, because it does not track masks: this says nothing of the object.
            gone = [s for s in video.shapes if s.outside and s.counts is None]
            ends = [(video_id, shape.object_id, shape.frame_index) for shape in gone]
            yield from with_ends(self._visible(video, video_id), ends, request)

    def _visible(self, video: "CvatVideo", video_id: str) -> Iterator[PromptRow]:
        for shape in video.shapes:
            about = (video_id, shape.object_id, shape.frame_index)
            if shape.outside or not shape.keyframe:
                continue
            if shape.box:
                yield box_prompt(*about, shape.box, shape.category)
            elif rle.area(counts := shape.mask(video.size)):
                yield mask_prompt(*about, video.size, counts, shape.category)


@dataclass(frozen=True, kw_only=True)
class CvatShape:
    """One shape of a track."""

    object_id: int
    frame_index: int
    category: str
    keyframe: bool
    outside: bool
    """The object is not visible."""
    ring: Points | None = None
    box: tuple[float, float, float, float] | None = None
    counts: str | None = None
    """Runs of a mask, along the rows of its box."""

    def mask(self, size: tuple[int, int]) -> str:
        """RLE counts of the shape in its frame, empty where it is outside; a box covers its inside."""
        if self.counts is not None and not self.outside:
            return self.counts
        ring = self.ring
        if self.box is not None:
            x_min, y_min, x_max, y_max = self.box
            ring = np.array([(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max)])
        mask = fill([ring], size) if ring is not None and not self.outside else np.zeros(size, np.bool_)
        return rle.encode(mask[None])[0]


@dataclass(frozen=True, kw_only=True)
class CvatVideo:
    """One task."""

    name: str
    size: tuple[int, int]
    shapes: tuple[CvatShape, ...]


def read_cvat(data: bytes, *, name: str = "CVAT XML") -> CvatVideo:
    """The tracks of a video task. Expat reads it and refuses XML with exponential entities."""
    try:
        root = ElementTree.parse(io.BytesIO(data)).getroot()
        if root.tag != "annotations":
            raise ValueError(f"its root is <{root.tag}>, not <annotations>")
        task = root.find("meta/task")
        task = task if task is not None else root.find("meta/job")
        if task is None:
            raise ValueError("it has no meta/task")
        size_of = task.find("original_size")
        if size_of is None:
            raise ValueError("it has no original_size; only video tasks are read")
        size = rle.check_size((int(size_of.findtext("height") or ""), int(size_of.findtext("width") or "")))
        shapes = _without_closing([shape for track in root.iter("track") for shape in _shapes(track, size)])
        return CvatVideo(name=task.findtext("name") or "", size=size, shapes=shapes)
    except (ElementTree.ParseError, KeyError, ValueError, TypeError, OverflowError, CorpusError) as error:
        raise UsageError(f"{name} is not CVAT's XML for video: {error}") from error


def masks_of(video: CvatVideo, video_id: str) -> pa.Table:
    """Masks of its shapes; boxes are left out."""
    rows = RowBuilder()
    for shape in video.shapes:
        if shape.box is None:
            rows.add(video_id, shape.object_id, shape.frame_index, video.size, shape.mask(video.size), shape.category)
    return rows.table()


def id_attribute(object_id: int) -> str:
    """The element of a shape that holds the object's own id."""
    return f'<attribute name="{ID_ATTRIBUTE}">{object_id}</attribute>'


def legal(text: str) -> str:
    """The text without characters that XML cannot hold."""
    return _ILLEGAL.sub("\ufffd", text)


def _without_closing(shapes: list[CvatShape]) -> tuple[CvatShape, ...]:
    """The shapes without those that only end a track where another track of the object continues.

    CVAT writes each mask as a track of one frame, which it ends on the next frame.
    """
    visible = {(shape.object_id, shape.frame_index) for shape in shapes if not shape.outside}
    return tuple(one for one in shapes if not one.outside or (one.object_id, one.frame_index) not in visible)


def _video_id(path: str) -> str:
    """The video id in the name of a file."""
    return unquote_id(PurePosixPath(path).stem)


def _shapes(track: ElementTree.Element, size: tuple[int, int]) -> Iterator[CvatShape]:
    for shape in track:
        if shape.tag not in ("box", "polygon", "mask"):
            continue
        given = [one.text for one in shape.iter("attribute") if one.get("name") == ID_ATTRIBUTE]
        ring = box = counts = None
        if shape.tag == "box":
            x_min, y_min, x_max, y_max = (float(shape.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
            box = (x_min, y_min, x_max, y_max)
        elif shape.tag == "polygon":
            pairs = (point.split(",") for point in shape.attrib["points"].split(";"))
            ring = np.array([(float(x), float(y)) for x, y in pairs])
        else:
            counts = _mask_counts(shape, size)
        yield CvatShape(
            object_id=int(given[0] or "") if given else int(track.attrib["id"]),
            frame_index=int(shape.attrib["frame"]),
            category=track.attrib["label"],
            keyframe=shape.get("keyframe", "1") == "1",
            outside=shape.get("outside", "0") == "1",
            ring=ring,
            box=box,
            counts=counts,
        )


def _mask_counts(shape: ElementTree.Element, size: tuple[int, int]) -> str:
    left, top, width, height = (int(float(shape.attrib[name])) for name in ("left", "top", "width", "height"))
    if left < 0 or top < 0 or width < 0 or height < 0 or left + width > size[1] or top + height > size[0]:
        raise ValueError(
            f"a mask of {width} x {height} at {left}, {top} is not within the frame of {size[1]} x {size[0]}"
        )
    runs = np.array([int(run) for run in shape.attrib["rle"].split(",")], np.int64)
    if runs.min() < 0 or runs.max() > rle.MAX_PIXELS or int(runs.sum()) != width * height:
        raise ValueError(f"the runs of a mask do not cover its box of {width} x {height}")
    mask = np.zeros(size, np.bool_)
    mask[top : top + height, left : left + width] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(
        height, width
    )
    return rle.encode(mask[None])[0]


def _closed(
    track: list[tuple[int, Points]], next_frame: Callable[[int], int], in_file: FileFrames
) -> Iterator[tuple[int, Points]]:
    """The shapes of a track by the frame of the file; an empty one if the next selected frame has none."""
    following = [*(frame for frame, _ in track[1:]), None]
    for (frame, ring), after in zip(track, following, strict=True):
        yield in_file.before + frame, ring
        end = in_file.before + next_frame(frame)
        if len(ring) and after != next_frame(frame) and end < in_file.count:
            yield end, np.empty((0, 2))


def _shape(frame: int, ring: Points) -> str:
    """A polygon with a placeholder for the attribute; CVAT requires points also where the object is not visible."""
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist()) if len(ring) else "0.00,0.00;1.00,0.00;1.00,1.00"
    return (
        f'    <polygon frame="{frame}" keyframe="1" outside="{int(not len(ring))}" occluded="0" points="{points}" '
        f'z_order="0">{{}}</polygon>\n'
    )


def _about(video: VideoMasks, context: ExportContext, in_file: FileFrames, *, shape: str) -> dict[str, object]:
    height, width = video.size
    attribute = (
        f"<attribute><name>{ID_ATTRIBUTE}</name><mutable>False</mutable><input_type>number</input_type>"
        "<default_value>0</default_value><values>0\n9223372036854775807\n1</values></attribute>"
    )
    labels = "".join(
        f"<label><name>{escape(legal(name))}</name><type>{shape}</type><attributes>{attribute}</attributes></label>"
        for name in context.categories
    )
    return {
        "name": escape(legal(video.video_id)),
        "frames": in_file.count,
        "last": max(in_file.count - 1, 0),
        "labels": labels,
        "width": width,
        "height": height,
        "source": escape(legal(str(video.facts.get("uri") or video.video_id))),
    }


_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <name>{name}</name>
      <size>{frames}</size>
      <mode>interpolation</mode>
      <overlap>0</overlap>
      <start_frame>0</start_frame>
      <stop_frame>{last}</stop_frame>
      <frame_filter></frame_filter>
      <labels>{labels}</labels>
      <original_size><width>{width}</width><height>{height}</height></original_size>
      <source>{source}</source>
    </task>
  </meta>
"""
