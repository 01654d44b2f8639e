"""Pictures that show their own number, and sequences of them."""

import io
import zipfile
from fractions import Fraction
from pathlib import Path

import av
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
    row, block = height // 16, width / 8
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


def odd_pictures() -> dict[str, bytes]:
    """Files of one picture in each mode that cameras and tools write, by name."""
    rgb = Image.fromarray(numbered(5))
    gray = np.asarray(rgb.convert("L"))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    pictures: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "palette.png": (rgb.convert("P"), {"transparency": 3}),
        "deep.png": (Image.fromarray(gray.astype(np.uint16) * 257), {}),
        "alpha.png": (rgb.convert("RGBA"), {"pnginfo": None}),
        "bilevel.png": (rgb.convert("1"), {}),
        "gray.jpg": (rgb.convert("L"), {}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "turned.jpg": (rgb, {"exif": exif}),
        "progressive.jpg": (rgb, {"progressive": True}),
    }
    found = {}
    for name, (image, options) in pictures.items():
        sink = io.BytesIO()
        image.save(sink, "PNG" if name.endswith(".png") else "JPEG", **options)
        found[name] = sink.getvalue()
    return found


def write_exif_avi(path: Path, *, frames: int = 10) -> Path:
    """Motion JPEG of numbered pictures, each with EXIF, which FFmpeg gives out as side data."""
    exif = Image.Exif()
    exif[0x010F] = "camera"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for number in range(frames):
            sink = io.BytesIO()
            Image.fromarray(numbered(number)).save(sink, "JPEG", quality=90, exif=exif)
            packet = av.Packet(sink.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
            packet.is_keyframe = True
            container.mux(packet)
    return path


def write_palette_avi(path: Path, *, frames: int = 10) -> Path:
    """Uncompressed numbered pictures of 256 grey levels, stored bottom up with a palette."""
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0], palette[:, 1:] = 255, np.arange(256)[:, None]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "pal8"
        for number in range(frames):
            grey = numbered(number)[..., 1].copy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray((grey, palette), format="pal8")))
        container.mux(stream.encode())
    return path
