"""Labels as tables of other systems, which their own libraries write: Lance and FiftyOne, both optional."""

import importlib
from collections.abc import Iterator
from typing import Any, Literal

import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.formats.format import NO_CATEGORY, VideoMasks
from pipeline.formats.rows import by_video
from pipeline.formats.selection import Selection, chunks
from pipeline.formats.split import Splits
from pipeline.masks import rle

TableFormatName = Literal["lance", "fiftyone"]

PACKAGES = {"lance": "pylance", "fiftyone": "fiftyone"}


def write_table(name: TableFormatName, selection: Selection, to: str, *, splits: Splits) -> int:
    """Write what is selected; returns the number of masks.

    Raises:
        UsageError: The library is not installed, or nothing is selected.
    """
    try:
        library = importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"format {name} needs {PACKAGES[name]}: pip install {PACKAGES[name]} ({error})") from error
    videos = selection.counts()
    if not videos:
        raise UsageError("no mask is selected" + (f" by --where {selection.where!r}" if selection.where else ""))
    if name == "lance":
        return write_lance(library, selection, to, splits=splits)
    return write_fiftyone(library, selection, to, splits=splits)


def write_lance(library: Any, selection: Selection, to: str, *, splits: Splits) -> int:
    """One Lance table, a row for each mask, with a column `split`. It becomes visible when all of it is there."""
    batches = _batches(selection, splits)
    first = next(batches)

    def all_batches() -> Iterator[pa.RecordBatch]:
        yield first
        yield from batches

    reader = pa.RecordBatchReader.from_batches(first.schema, all_batches())
    return int(library.write_dataset(reader, to, schema=first.schema, mode="overwrite").count_rows())


def write_fiftyone(library: Any, selection: Selection, to: str, *, splits: Splits) -> int:
    """A persistent dataset of video samples, tagged with their split; detections carry masks and the object's id.

    Frames are numbered from 1, as FiftyOne does. Videos that the dataset has already are left alone.
    """
    dataset = library.load_dataset(to) if library.dataset_exists(to) else library.Dataset(to, persistent=True)
    if not len(dataset):
        dataset.media_type = "video"
    there = set(dataset.values("video_id")) if dataset.has_sample_field("video_id") else set()
    rows = 0
    for video in _videos(selection, splits):
        if video.video_id in there:
            continue
        sample = library.Sample(filepath=str(video.facts.get("uri") or video.video_id), tags=[video.split])
        sample["video_id"] = video.video_id
        for frame, masks in video.by_frame():
            found = [_detection(library, row, video.size) for row in masks if row["area"] > 0]
            sample.frames[frame + 1] = library.Frame(objects=library.Detections(detections=found))
            rows += len(masks)
        dataset.add_sample(sample)
    return rows


def _detection(library: Any, row: dict[str, Any], size: tuple[int, int]) -> Any:
    height, width = size
    x_min, y_min, x_max, y_max = (row[side] for side in ("x_min", "y_min", "x_max", "y_max"))
    return library.Detection(
        label=row["category"] or NO_CATEGORY,
        bounding_box=[x_min / width, y_min / height, (x_max - x_min) / width, (y_max - y_min) / height],
        mask=rle.decode(row["counts"], size)[y_min:y_max, x_min:x_max],
        index=row["object_id"],
        confidence=row["predicted_iou"],
    )


def _batches(selection: Selection, splits: Splits) -> Iterator[pa.RecordBatch]:
    for video in _videos(selection, splits):
        split = pa.repeat(pa.scalar(video.split), video.rows.num_rows)
        yield from video.rows.append_column("split", split).combine_chunks().to_batches()


def _videos(selection: Selection, splits: Splits) -> Iterator[VideoMasks]:
    for chunk in chunks(selection.counts()):
        ids = [video.video_id for video in chunk.videos]
        facts = selection.videos(ids)
        tables = by_video(selection.read(ids))
        for number, video_id in enumerate(ids, start=chunk.first):
            yield VideoMasks(
                video_id=video_id,
                split=splits.of(video_id),
                rows=tables[video_id],
                facts=facts.get(video_id, {}),
                number=number,
                frames_before=0,
                rows_before=0,
            )
