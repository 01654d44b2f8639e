"""FiftyOne: a dataset of video samples in its database."""

from typing import Any

from pipeline.errors import UsageError
from pipeline.formats.library import LibraryFormat, videos_of
from pipeline.formats.selection import Selection
from pipeline.formats.split import Splits
from pipeline.formats.video_masks import NO_CATEGORY
from pipeline.masks import rle
from pipeline.storage import Storage


class FiftyOneFormat(LibraryFormat):
    """A persistent dataset of video samples, tagged with their split; detections carry masks and object ids.

    Frames are those of the file, numbered from 1. Videos that are in the dataset already are not written again.
    """

    name = "fiftyone"
    about = "a FiftyOne dataset named by --to (needs fiftyone)"
    package = "fiftyone"

    def write(self, library: Any, selection: Selection, to: str, *, splits: Splits, storage: Storage | None) -> int:
        dataset = library.load_dataset(to) if library.dataset_exists(to) else library.Dataset(to, persistent=True)
        if not len(dataset):
            dataset.media_type = "video"
        elif not dataset.has_sample_field("video_id"):
            raise UsageError(f"the dataset {to!r} was not made by an export; choose another name")
        written = set(dataset.values("video_id")) if dataset.has_sample_field("video_id") else set()
        rows = 0
        for video in videos_of(selection, splits):
            if video.video_id in written:
                continue
            before = video.in_file(storage).before
            sample = library.Sample(filepath=str(video.facts.get("uri") or video.video_id), tags=[video.split])
            sample["video_id"] = video.video_id
            for frame, masks in video.by_frame():
                found = [_detection(library, row, video.size) for row in masks if row["area"] > 0]
                sample.frames[before + frame + 1] = library.Frame(objects=library.Detections(detections=found))
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
