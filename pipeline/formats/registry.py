"""The formats by name. A new format needs a file in this folder and a line here."""

from pipeline.errors import UsageError
from pipeline.formats.coco import CocoFormat
from pipeline.formats.cvat import CvatFormat
from pipeline.formats.cvat_masks import CvatMaskFormat
from pipeline.formats.davis import DavisFormat
from pipeline.formats.fiftyone import FiftyOneFormat
from pipeline.formats.format import Format
from pipeline.formats.label_studio import LabelStudioFormat
from pipeline.formats.lance import LanceFormat
from pipeline.formats.lerobot import LeRobotFormat
from pipeline.formats.library import LibraryFormat
from pipeline.formats.mots import MotsFormat
from pipeline.formats.object_png import ObjectPngFormat
from pipeline.formats.sav import SavFormat
from pipeline.formats.yolo import YoloFormat
from pipeline.formats.youtube_vis import YouTubeVisFormat

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        MotsFormat(),
        YoloFormat(),
        DavisFormat(),
        ObjectPngFormat(),
        CvatFormat(),
        CvatMaskFormat(),
        SavFormat(),
        YouTubeVisFormat(),
        CocoFormat(),
        LabelStudioFormat(),
        LeRobotFormat(),
    )
}
"""Formats made of files, in the order in which detection tries them."""

LIBRARY_FORMATS: dict[str, LibraryFormat] = {form.name: form for form in (LanceFormat(), FiftyOneFormat())}
"""Formats that their own libraries write; these are not read back."""


def format_of(name: str) -> Format:
    """The format of a name.

    Raises:
        UsageError: There is none.
    """
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}; allowed are {', '.join(FORMATS)}")
    return FORMATS[name]
