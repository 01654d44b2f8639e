"""Published labels from Python: SQL and Arrow tables, masks as arrays, frames with their masks, and overlays."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.errors import UsageError
from pipeline.masks import rle
from pipeline.storage import Storage, Store
from pipeline.tables import query
from pipeline.video.content import open_labelled
from pipeline.views.card import card
from pipeline.views.preview.draw import draw_frame
from pipeline.views.preview.labelled import LabelledVideo, load_videos
from pipeline.views.words import count

VIDEOS_SHOWN = 10
"""Videos that a notebook's card lists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFrame:
    """A frame of a video with the masks of its objects."""

    video_id: str
    index: int
    """frame_index: counted in presentation order within the labelled segment."""
    time_s: float
    """Presentation time in seconds, minus that of the file's first frame."""
    rgb: npt.NDArray[np.uint8]
    """(H, W, 3), as displayed."""
    masks: Mapping[int, npt.NDArray[np.bool_]]
    """(H, W) by object id; all False where the object is absent."""


class Labels(query.Labels):
    """The published labels of one output.

    `sql` and `arrow` query the tables masks, masklets, videos, failures and runs. `mask`, `frames` and `overlay` give
    single masks, decoded frames and pictures; frames and pictures need the source videos.
    """

    def __init__(self, store: Store, *, storage: Storage | None = None) -> None:
        super().__init__(store)
        self._storage = storage

    def mask(self, video_id: str, object_id: int, frame_index: int) -> npt.NDArray[np.bool_]:
        """The mask of an object on a frame, (H, W) as displayed; all False where the object is absent.

        Raises:
            UsageError: The labels have no such row; the message says what they have.
        """
        found = self.connection.sql(
            "SELECT counts, height, width FROM masks WHERE video_id = $v AND object_id = $o AND frame_index = $f",
            params={"v": video_id, "o": object_id, "f": frame_index},
        ).fetchall()
        if not found:
            raise UsageError(self._missing(video_id, object_id, frame_index))
        counts, height, width = found[0]
        return rle.decode(counts, (height, width))

    def frames(self, video_id: str) -> Iterator[LabelledFrame]:
        """The labelled frames of a video, decoded one at a time, with their masks.

        Raises:
            UsageError: The video has no labels.
            StorageError: Its source cannot be reached.
            VideoError: Its source cannot be decoded, or has frames of another size than when it was labelled.
        """
        labelled = self._video(video_id)
        with open_labelled(labelled.video, storage=self._storage) as reader:
            for frame in reader.forward():
                rows = labelled.frames.get(frame.index)
                if rows is not None:
                    masks = {r["object_id"]: rle.decode(r["counts"], (r["height"], r["width"])) for r in rows}
                    yield LabelledFrame(
                        video_id=video_id, index=frame.index, time_s=frame.time_s, rgb=frame.rgb, masks=masks
                    )

    def overlay(self, video_id: str, frame_index: int) -> Image.Image:
        """A frame with its masks, ids, scores and prompts drawn.

        Raises:
            UsageError: The labels have no such frame.
            StorageError: The source cannot be reached.
            VideoError: The source cannot be decoded.
        """
        labelled = self._video(video_id)
        if frame_index not in labelled.frames:
            raise UsageError(self._missing(video_id, None, frame_index))
        names = {object_id: row["category"] for object_id, row in labelled.masklets.items() if row["category"]}
        with open_labelled(labelled.video, storage=self._storage) as reader:
            prompts = labelled.prompts_at(reader).get(frame_index, ())
            frame = reader.at([frame_index])[frame_index]
            caption = f"{frame_index}   {frame.time_s:.2f} s"
            drawn = draw_frame(frame.rgb, labelled.frames[frame_index], prompts, caption=caption, names=names)
        return Image.fromarray(drawn)

    def _video(self, video_id: str) -> LabelledVideo:
        (labelled,) = load_videos(self, [video_id])
        return labelled

    def _missing(self, video_id: str, object_id: int | None, frame_index: int) -> str:
        """Why there is no such row."""
        ends = "SELECT min(frame_index), max(frame_index) FROM masks WHERE video_id = $v"
        first, last = self.connection.sql(ends, params={"v": video_id}).fetchall()[0]
        if first is None:
            return f"video {video_id!r} has no published labels"
        ids = "SELECT DISTINCT object_id FROM masklets WHERE video_id = $v ORDER BY 1"
        objects = [row[0] for row in self.connection.sql(ids, params={"v": video_id}).fetchall()]
        if object_id is not None and object_id not in objects:
            return f"video {video_id!r} has no object {object_id}; it has {', '.join(map(str, objects))}"
        of = "" if object_id is None else f" of object {object_id}"
        return f"video {video_id!r} has no label{of} on frame {frame_index}; its labels cover frames {first} to {last}"

    def __repr__(self) -> str:
        return f"Labels({str(self.store)!r})"

    def _repr_html_(self) -> str:
        totals = "SELECT count(*), sum(frames), sum(objects) FROM videos"
        videos, frames, objects = self.connection.sql(totals).fetchall()[0]
        shown = self.connection.sql(
            "SELECT video_id, frames, objects, round(doubt, 2) AS doubt, uri FROM videos"
            f" ORDER BY doubt DESC NULLS LAST, video_id LIMIT {VIDEOS_SHOWN}"
        )
        line = f"{count(videos, 'video')}, {count(frames or 0, 'frame')}, {count(objects or 0, 'masklet')}"
        more = [f"the {VIDEOS_SHOWN} most doubtful videos:"] if videos > VIDEOS_SHOWN else []
        return card(f"Labels of {self.store}", [line, *more], columns=shown.columns, rows=shown.fetchall())


def open_labels(output: str | os.PathLike[str] | Store, *, storage: Storage | None = None) -> Labels:
    """Open the published labels of an output, a path or any fsspec URL.

    Raises:
        UsageError: Nothing has been published there.
        StorageError: The output cannot be read.
    """
    return Labels(output if isinstance(output, Store) else Store(output, storage=storage), storage=storage)
