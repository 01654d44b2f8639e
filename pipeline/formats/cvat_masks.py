"""CVAT's XML for video tasks with exact masks instead of polygons."""

from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

import numpy as np

from pipeline.formats.cvat import CvatFormat, id_attribute, legal
from pipeline.formats.format import ExportContext
from pipeline.formats.location import Location
from pipeline.formats.segments import FileFrames
from pipeline.formats.video_masks import VideoMasks
from pipeline.masks import rle


class CvatMaskFormat(CvatFormat):
    """`SPLIT/VIDEO.xml` with one mask for each object and frame where it is visible, equal to the label's mask.

    CVAT has no mask tracks: its reader keeps only the first shape of a track of masks
    (cvat/apps/dataset_manager/formats/cvat.py, `load_anno`). Each mask is therefore a track of one frame, as CVAT
    itself writes masks of video tasks. Masks of one object have the same group and the same attribute object_id.
    """

    name = "cvat-masks"
    about = "exact masks for CVAT's video tasks, one shape per frame: CVAT has no mask tracks"
    shape = "mask"
    has_polygons = False

    def tracks(self, video: VideoMasks, _context: ExportContext, in_file: FileFrames) -> Iterator[str]:
        categories, number = video.categories(), 0
        groups = {object_id: group for group, object_id in enumerate(categories, start=1)}
        for frame, rows in video.by_frame():
            for row in rows:
                box = rle.bbox(row["counts"], video.size)
                if box is None:
                    continue
                object_id, label = row["object_id"], quoteattr(legal(categories[row["object_id"]]))
                yield (
                    f'  <track id="{number}" label={label} source="auto" group_id="{groups[object_id]}">\n'
                    f'    <mask frame="{in_file.before + frame}" keyframe="1" outside="0" occluded="0" '
                    f'{_attributes(row["counts"], video.size, box)} z_order="0">{id_attribute(object_id)}</mask>\n'
                    "  </track>\n"
                )
                number += 1

    def recognizes(self, _at: Location) -> bool:
        return False  # `cvat` reads these files


def _attributes(counts: str, size: tuple[int, int], box: tuple[int, int, int, int]) -> str:
    """CVAT's run lengths along the rows of the mask's box, outside first, and the box."""
    left, top, right, bottom = box
    inside = rle.decode(counts, size)[top:bottom, left:right].ravel()
    changes = np.flatnonzero(np.diff(inside, prepend=False))
    runs = np.diff(changes, prepend=0, append=inside.size).tolist()
    text = ", ".join(map(str, runs))
    return f'rle="{text}" left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
