"""Contact sheets: pictures in rows below some lines of text, and the PNG file of one."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from PIL import Image, ImageDraw, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from pipeline.errors import UsageError
from pipeline.video.writer import WRITTEN_BY
from pipeline.views.preview.draw import Rgb, font_of

MAX_TILE_RATIO = 4
"""Tiles of a contact sheet are at most this many times as high as they are wide."""
TEXT, WARNING = (235, 235, 235), (255, 176, 120)
"""Colours of the lines above the pictures."""
_LINE, _MARGIN = 16, 12

Line = tuple[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Tile:
    """Space for one picture, in pixels."""

    width: int
    height: int

    @classmethod
    def of(cls, width: int, height: int, tile_width: int) -> Self:
        """The tile for frames of this size."""
        return cls(tile_width, scaled_size(width, height, tile_width)[1])


def lay_out(pictures: Iterable[Rgb], count: int, lines: Sequence[Line], *, columns: int, tile: Tile) -> Image.Image:
    """A sheet of `count` pictures in rows of `columns`, below lines of text.

    Args:
        pictures: consumed one at a time; each is scaled into its tile.
        lines: text and colour of each line.
    """
    header = _LINE * len(lines) + _MARGIN
    columns = min(columns, max(count, 2))
    rows = max(math.ceil(count / columns), 1)
    sheet = Image.new("RGB", (columns * tile.width, header + rows * tile.height), (24, 26, 28))
    pen = ImageDraw.Draw(sheet)
    for at, (line, color) in enumerate(lines):
        pen.text((8, 6 + _LINE * at), line, font=font_of(13), fill=color)
    for at, picture in enumerate(pictures):
        sheet.paste(scaled(picture, tile.width), (at % columns * tile.width, header + at // columns * tile.height))
    return sheet


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a contact sheet as PNG.

    Raises:
        UsageError: There is a file of this name that is no contact sheet.
    """
    if path.exists() and not _is_sheet_of_ours(path):
        raise not_ours(path)
    mark = PngInfo()
    mark.add_text("Software", WRITTEN_BY)
    sheet.save(path, pnginfo=mark)


def _is_sheet_of_ours(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == WRITTEN_BY
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return False


def not_ours(path: Path) -> UsageError:
    return UsageError(f"{path} was not written by this command, so it is not replaced; choose another --folder")


def scaled(rgb: Rgb, width: int) -> Image.Image:
    """A frame as a picture of this width, or less where it would be higher than MAX_TILE_RATIO times that."""
    return Image.fromarray(rgb).resize(scaled_size(rgb.shape[1], rgb.shape[0], width), Image.Resampling.LANCZOS)


def scaled_size(width: int, height: int, target: int) -> tuple[int, int]:
    """Width and height of a frame that is scaled into `target` pixels by MAX_TILE_RATIO times as many."""
    scale = min(target / width, target * MAX_TILE_RATIO / height)
    return max(round(width * scale), 1), max(round(height * scale), 1)
