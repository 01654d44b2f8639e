"""The formats by name."""

from typing import Literal, get_args

from pipeline.errors import UsageError
from pipeline.formats.coco import CocoFormat, YouTubeVisFormat
from pipeline.formats.cvat import CvatFormat
from pipeline.formats.format import Format
from pipeline.formats.label_studio import LabelStudioFormat
from pipeline.formats.mots import MotsFormat
from pipeline.formats.png import DavisFormat, ObjectPngFormat
from pipeline.formats.sav import STRIDE, SavFormat
from pipeline.formats.yolo import YoloFormat

FormatName = Literal["sav", "davis", "png", "coco", "youtube-vis", "yolo", "mots", "label-studio", "cvat"]

_FORMATS: dict[FormatName, type[Format]] = {
    "sav": SavFormat,
    "davis": DavisFormat,
    "png": ObjectPngFormat,
    "coco": CocoFormat,
    "youtube-vis": YouTubeVisFormat,
    "yolo": YoloFormat,
    "mots": MotsFormat,
    "label-studio": LabelStudioFormat,
    "cvat": CvatFormat,
}


def format_of(name: str) -> Format:
    """The format of a name.

    Raises:
        UsageError: There is none.
    """
    for known, form in _FORMATS.items():
        if known == name:
            return form()
    raise UsageError(f"format {name!r} is unknown; allowed are {', '.join(get_args(FormatName))}")


def default_every(name: str) -> int:
    """Which frames a format is made for: SA-V annotates every fourth, the others all."""
    return STRIDE if name == "sav" else 1
