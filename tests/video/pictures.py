"""Pictures that show their own number, and sequences of them."""

import io
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

WIDTH, HEIGHT = 96, 64
_BLOCK = WIDTH // 8


def numbered(number: int) -> npt.NDArray[np.uint8]:
    """A picture with `number` (0 to 255) as eight blocks along its top, and a disc that moves with it."""
    rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for bit in range(8):
        rgb[:16, bit * _BLOCK : (bit + 1) * _BLOCK] = 255 if number >> bit & 1 else 0
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rgb[(y - 40) ** 2 + (x - 30 - number % 30) ** 2 < 150] = (220, 60, 40)
    return rgb


def number_of(rgb: npt.NDArray[np.uint8]) -> int:
    """The number that a picture of `numbered` shows, at any scale."""
    height, width = rgb.shape[:2]
    row, block = height // 8, width / 8
    return sum(1 << bit for bit in range(8) if rgb[row, int((bit + 0.5) * block)].mean() > 128)


def png(number: int) -> bytes:
    """A numbered picture as a PNG file."""
    sink = io.BytesIO()
    Image.fromarray(numbered(number)).save(sink, "PNG")
    return sink.getvalue()


def write_folder(folder: Path, names: list[str]) -> Path:
    """A folder of numbered pictures, in the order of `names`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(png(number))
    return folder


def write_zip(path: Path, names: list[str]) -> Path:
    """A zip of numbered pictures, in the order of `names`."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, png(number))
    return path
