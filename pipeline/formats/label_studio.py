"""Label Studio's video tasks: boxes by keyframe, in percent of the frame. The tool has no masks of videos."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from pipeline.errors import UsageError
from pipeline.formats.format import Document, ExportContext, Format, Piece
from pipeline.formats.frame_sizes import FrameSizes
from pipeline.formats.location import Location
from pipeline.formats.prompts import PromptRequest, PromptRow, box_prompt, with_ends
from pipeline.formats.video_masks import VideoMasks

KIND = "videorectangle"
DEFAULT_RATE = 24.0
"""Frames per second that Label Studio assumes."""


class LabelStudioFormat(Format):
    """`SPLIT/VIDEO.json`: a list of one task with a prediction, to be imported into a project whose configuration is
    in `config.xml`. A keyframe's `enabled` means that the object stays visible after it.

    Label Studio shows frame N at (N - 1) / frame rate, with 24 frames a second unless the configuration gives a rate
    (https://labelstud.io/tags/video.html). So each task has the rate of its video, and a keyframe's number is computed
    from its time in the file, also if only a segment was labelled. Read back, boxes become prompts.
    """

    name = "label-studio"
    about = "boxes for Label Studio's video tasks"
    numbers_file_frames = True

    def pieces(self, video: VideoMasks, context: ExportContext) -> Iterator[Piece]:
        names = video.categories()
        seen: dict[int, dict[int, Mapping[str, Any]]] = {one: {} for one in names}
        for frame, rows in video.by_frame():
            for row in rows:
                if row["area"] > 0:
                    seen[row["object_id"]][frame] = row
        results = [_track(video, one, names[one], rows, context) for one, rows in seen.items() if rows]
        uri = video.facts.get("uri") or video.video_id
        task = {
            "data": {"video": uri, "video_id": video.video_id, "fps": _rate(video)},
            "predictions": [{"model_version": str(video.facts.get("model") or "sam2"), "result": results}],
        }
        yield Piece(f"{video.split}/{video.name}.json", json.dumps([task]).encode())

    def documents(self, context: ExportContext) -> Iterable[Document]:
        labels = "".join(f"<Label value={quoteattr(name)}/>" for name in context.categories)
        config = (
            f'<View><VideoRectangle name="box" toName="video"/><Labels name="label" toName="video">{labels}</Labels>'
            '<Video name="video" value="$video" frameRate="$fps"/></View>\n'
        )
        yield Document("config.xml", (config.encode(),))

    def prompts(self, at: Location, request: PromptRequest) -> Iterator[PromptRow]:
        sizes = FrameSizes(at, request.size_of)
        for path in at.files(".json"):
            boxes = read_label_studio(at.read(path), name=at.name_of(path))
            ends = [(one.video_id, one.object_id, one.frame_index + 1) for one in boxes if not one.enabled]
            rows = []
            for one in boxes:
                height, width = one.size or sizes.of(one.video_id, path)
                x_min, y_min, x_max, y_max = one.box
                box = (x_min * width, y_min * height, x_max * width, y_max * height)
                rows.append(box_prompt(one.video_id, one.object_id, one.frame_index, box, one.category))
            yield from with_ends(rows, ends, request)


def _track(
    video: VideoMasks, object_id: int, name: str, rows: Mapping[int, Mapping[str, Any]], context: ExportContext
) -> dict[str, Any]:
    """The result of one object, from its rows by frame: keyframes where its box changes, appears or disappears."""
    (height, width), rate = video.size, _rate(video)
    first = next(iter(rows))
    frames = round(rows[first]["time_s"] * rate) - first + video.frame_count  # to the end of the segment
    boxes = {frame: tuple(row[side] for side in ("x_min", "y_min", "x_max", "y_max")) for frame, row in rows.items()}
    following = {frame: video.next_frame(frame, context.every) for frame in boxes}
    before = {after: frame for frame, after in following.items()}
    sequence: dict[int, dict[str, Any]] = {}
    for frame, box in boxes.items():
        if boxes.get(before.get(frame, -1)) == box == boxes.get(following[frame]):
            continue
        number = round(rows[frame]["time_s"] * rate) + 1
        sequence[number] = {
            "frame": number,
            "enabled": following[frame] in boxes,
            "rotation": 0,
            "x": 100 * box[0] / width,
            "y": 100 * box[1] / height,
            "width": 100 * (box[2] - box[0]) / width,
            "height": 100 * (box[3] - box[1]) / height,
            "time": rows[frame]["time_s"],
        }
    return {
        "id": f"object-{object_id}",
        "type": KIND,
        "from_name": "box",
        "to_name": "video",
        "original_width": width,
        "original_height": height,
        "value": {
            "framesCount": frames,
            "duration": frames / rate,
            "sequence": list(sequence.values()),
            "labels": [name],
        },
        "meta": {"object_id": object_id},
    }


def _rate(video: VideoMasks) -> float:
    return video.fps or DEFAULT_RATE


@dataclass(frozen=True, kw_only=True)
class LabelStudioBox:
    """One keyframe of one object."""

    video_id: str
    object_id: int
    frame_index: int
    category: str | None
    box: tuple[float, float, float, float]
    """x_min, y_min, x_max, y_max in shares of the frame."""
    size: tuple[int, int] | None
    """The frame's height and width, if the file has them."""
    enabled: bool = True
    """Whether the object stays visible after this keyframe."""


def read_label_studio(data: bytes | str, *, name: str = "Label Studio JSON") -> list[LabelStudioBox]:
    """Keyframes of an export or of tasks: annotations if there are any, else predictions.

    The video id is `video_id` in the task's data, else its file's name; the object id is its position.
    """
    try:
        tasks = json.loads(data)
        found: list[LabelStudioBox] = []
        for task in tasks if isinstance(tasks, list) else [tasks]:
            video_id = _video_id(task["data"])
            done = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
            answers = done or task.get("predictions") or []
            results = answers[-1]["result"] if answers else []
            tracks = [result for result in results if result.get("type") == KIND]
            for at, result in enumerate(tracks):
                found += _keyframes(video_id, at, result)
        return found
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UsageError(f"{name} is not a list of Label Studio's video tasks: {reason}") from error


def _keyframes(video_id: str, at: int, result: dict[str, Any]) -> Iterator[LabelStudioBox]:
    value = result["value"]
    labels = value.get("labels") or [None]
    size = (result.get("original_height"), result.get("original_width"))
    for keyframe in value["sequence"]:
        x, y, width, height = (float(keyframe[name]) / 100 for name in ("x", "y", "width", "height"))
        yield LabelStudioBox(
            video_id=video_id,
            object_id=int((result.get("meta") or {}).get("object_id", at)),
            frame_index=int(keyframe["frame"]) - 1,
            category=labels[0],
            box=(x, y, x + width, y + height),
            enabled=bool(keyframe.get("enabled", True)),
            size=(int(size[0]), int(size[1])) if size[0] and size[1] else None,
        )


def _video_id(data: dict[str, Any]) -> str:
    if "video_id" in data:
        return str(data["video_id"])
    path = str(data["video"] if "video" in data else next(iter(data.values()), ""))
    if not path:
        raise ValueError("a task has no video")
    return path.partition("?")[0].rstrip("/").rpartition("/")[2].rpartition(".")[0] or path
