"""SA-V's validation set: a black and white image for each frame and object."""

from collections.abc import Iterable, Iterator

from pipeline.errors import UsageError
from pipeline.formats.davis import DavisFormat
from pipeline.formats.format import Document, ExportContext, Piece, lines
from pipeline.formats.location import Location
from pipeline.formats.png_files import has_object_folders, mask_png
from pipeline.formats.video_masks import VideoMasks


class ObjectPngFormat(DavisFormat):
    """`Annotations/VIDEO/OBJECT/00012.png` and `SPLIT.txt`. Read back like DAVIS, by the layout of each video."""

    name = "png"
    about = "SA-V's folders of PNGs, one for each object and frame"
    protocol = "sav"

    def pieces(self, video: VideoMasks, _context: ExportContext) -> Iterator[Piece]:
        for frame, rows in video.by_frame():
            for row in rows:
                if row["object_id"] < 0:
                    raise UsageError(f"object {row['object_id']}: the number of a folder cannot be negative")
                path = f"Annotations/{video.name}/{row['object_id']:03d}/{frame:05d}.png"
                yield Piece(path, mask_png(row["counts"], video.size))
        yield Piece(f"{video.split}.txt", f"{video.name}\n".encode(), section="lines")

    def documents(self, context: ExportContext) -> Iterable[Document]:
        return [lines(f"{name}.txt") for name in context.filled_splits]

    def image_path(self, video: VideoMasks, frame_index: int) -> str:
        return f"JPEGImages/{video.name}/{frame_index:05d}.jpg"

    def recognizes(self, at: Location) -> bool:
        return ".png" in at.suffixes and has_object_folders(at)
