"""DAVIS 2017: a palette image for each frame, in which a pixel belongs to one object at most."""

import json
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.formats.format import Document, ExportContext, Format, Piece, lines
from pipeline.formats.location import Location
from pipeline.formats.png_files import (
    MAX_OBJECTS,
    annotation_root,
    has_object_folders,
    paint,
    palette_png,
    read_png_video,
    video_folders,
)
from pipeline.formats.sources import FileMasks, MaskSource
from pipeline.formats.video_masks import VideoMasks
from pipeline.storage.paths import unquote_id

FOLDER = "Annotations/Full-Resolution"


class DavisFormat(Format):
    """`Annotations/Full-Resolution/VIDEO/00012.png` and `ImageSets/2017/SPLIT.txt`.

    Where objects overlap, the smaller one is on top. Pixels hold object ids where all ids are 1 to 254; otherwise
    `object_ids/VIDEO.json` gives the pixel value of each object id.
    """

    name = "davis"
    about = "DAVIS 2017's folders of palette PNGs; where objects overlap, the smaller is on top"

    def pieces(self, video: VideoMasks, _context: ExportContext) -> Iterator[Piece]:
        indices = palette_indices(list(video.categories()))
        for frame, rows in video.by_frame():
            drawn = paint([row["counts"] for row in rows], [indices[row["object_id"]] for row in rows], video.size)
            yield Piece(f"{FOLDER}/{video.name}/{frame:05d}.png", palette_png(drawn))
        if any(one != index for one, index in indices.items()):
            yield Piece(_ids_path(video.name), json.dumps(indices).encode())
        yield Piece(f"ImageSets/2017/{video.split}.txt", f"{video.name}\n".encode(), section="lines")

    def documents(self, context: ExportContext) -> Iterable[Document]:
        return [lines(f"ImageSets/2017/{name}.txt") for name in context.filled_splits]

    def image_path(self, video: VideoMasks, frame_index: int) -> str:
        return f"JPEGImages/Full-Resolution/{video.name}/{frame_index:05d}.jpg"

    def recognizes(self, at: Location) -> bool:
        return ".png" in at.suffixes and not has_object_folders(at)

    def open_masks(self, at: Location) -> MaskSource:
        root = annotation_root(at)
        folders = {unquote_id(folder): folder for folder in video_folders(at.store, root)}

        def read_video(video_id: str) -> pa.Table:
            renumbered = at.read_or_none(_ids_path(folders[video_id]))
            ids = _object_ids(renumbered) if renumbered else {}
            table = read_png_video(at.store, root, folders[video_id], object_ids=ids)
            return table.set_column(0, "video_id", pa.repeat(pa.scalar(video_id), table.num_rows))

        return FileMasks(folders, read_video, self.name, self.protocol)


def palette_indices(object_ids: Sequence[int]) -> dict[int, int]:
    """The pixel value of each object: its id where all ids allow it, else its position in their order.

    Raises:
        UsageError: There are more objects than a palette image holds.
    """
    if len(object_ids) > MAX_OBJECTS:
        raise UsageError(f"{len(object_ids)} objects in one video; a palette image holds at most {MAX_OBJECTS}")
    if all(1 <= one <= MAX_OBJECTS for one in object_ids):
        return {one: one for one in object_ids}
    return {one: at + 1 for at, one in enumerate(sorted(object_ids))}


def _ids_path(folder: str) -> str:
    return f"object_ids/{folder}.json"


def _object_ids(data: bytes) -> dict[int, int]:
    """Object ids by pixel value."""
    try:
        return {int(index): int(one) for one, index in json.loads(data).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"object_ids is not a table of pixel values: {error}") from error
