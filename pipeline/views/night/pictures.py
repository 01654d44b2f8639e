"""Pictures of a night's most doubtful objects, each on the frame where its mask is worst."""

import io
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pipeline.errors import CorpusError
from pipeline.storage import Storage
from pipeline.tables.query import Labels
from pipeline.video.content import open_labelled
from pipeline.views.night.summary import Picture
from pipeline.views.preview import load_videos, worst_frame
from pipeline.views.preview.draw import draw_frame
from pipeline.views.preview.sheet import scaled

log = logging.getLogger(__name__)

PICTURES = 4
WIDTH = 480
"""Pixels; the page shows them at half of it on most screens."""
TIME_S = 60.0
"""No other video is opened after so many seconds: a night ends soon after labelling."""


def doubtful_pictures(labels: Labels, *, run_ids: Collection[str], storage: Storage | None = None) -> list[Picture]:
    """The most doubtful object of each of the PICTURES most doubtful videos that these runs labelled.

    Videos that cannot be opened are left out. Decodes in a child process.
    """
    started, found = time.monotonic(), list[Picture]()
    for row in _most_doubtful(labels, run_ids):
        if time.monotonic() - started > TIME_S:
            log.warning("%d of %d pictures are drawn: the others would take too long", len(found), PICTURES)
            break
        try:
            found.append(_draw(labels, row, storage))
        except CorpusError as error:
            log.warning("no picture of %r: %s", row["video_id"], error)
    return found


def _most_doubtful(labels: Labels, run_ids: Collection[str]) -> Iterator[Mapping[str, Any]]:
    """Rows of masklets, at most one a video."""
    query = f"""
        SELECT m.video_id, m.object_id, m.category, m.doubt, m.reasons
        FROM masklets m JOIN videos v USING (video_id) WHERE m.doubt > 0 AND list_contains($runs, v.run_id)
        QUALIFY row_number() OVER (PARTITION BY m.video_id ORDER BY m.doubt DESC, m.object_id) = 1
        ORDER BY m.doubt DESC, m.video_id LIMIT {PICTURES}
    """
    yield from labels.connection.sql(query, params={"runs": sorted(run_ids)}).to_arrow_table().to_pylist()


def _draw(labels: Labels, row: Mapping[str, Any], storage: Storage | None) -> Picture:
    (labelled,) = load_videos(labels, [row["video_id"]])
    rows = (each for frame in labelled.frames.values() for each in frame)
    index = worst_frame(each for each in rows if each["object_id"] == row["object_id"])
    with open_labelled(labelled.video, storage=storage, isolate=True) as reader:
        frame = reader.at([index])[index]
    names = {row["object_id"]: row["category"]} if row["category"] else None
    masks = [each for each in labelled.frames.get(index, ()) if each["object_id"] == row["object_id"]]
    file = io.BytesIO()
    scaled(draw_frame(frame.rgb, masks, names=names), WIDTH).save(file, "JPEG", quality=80)
    return Picture(
        video_id=row["video_id"],
        object_id=row["object_id"],
        category=row["category"],
        frame_index=index,
        doubt=row["doubt"],
        reasons="; ".join(row["reasons"] or ()),
        jpeg=file.getvalue(),
    )
