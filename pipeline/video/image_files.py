"""The files of an image sequence: how they are read, which of them are frames, and their pixels."""

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from pipeline.errors import CorpusError, StorageError
from pipeline.video.display import EXIF_ORIENTATIONS, Orientation
from pipeline.video.failures import EncryptedError, NotAVideoError, NoVideoStreamError, TooLargeError
from pipeline.video.image_order import in_order
from pipeline.video.info import Rgb, VideoLimits
from pipeline.video.input_file import Cursor, InputFile
from pipeline.video.litter import is_litter

FORMATS = ("JPEG", "PNG")
_SUFFIXES = (".jpg", ".jpeg", ".png")
_EXIF_ORIENTATION = 0x0112
ImageFiles = Mapping[str, Callable[[], bytes]]
"""Image files by name, each with a function that reads it."""


class UnreadableImageError(Exception):
    """An image file that Pillow or zipfile cannot read."""


@contextmanager
def image_errors() -> Iterator[None]:
    """Raise UnreadableImageError in place of what Pillow and zipfile raise on damaged content: errors of any class."""
    try:
        yield
    except (CorpusError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error


def read_folder(folder: Path) -> ImageFiles:
    """The images of a local folder (not of folders in it)."""
    return {path.name: _reader(path) for path in folder.iterdir() if path.is_file()}


def read_zip(file: InputFile, limits: VideoLimits) -> ImageFiles:
    """The images of a zip, by their path in it."""
    try:
        archive = zipfile.ZipFile(io.BufferedReader(Cursor(file)))
    except Exception as error:  # also struct.error and OverflowError, for broken directories
        file.check()
        raise NotAVideoError(f"{file.name}: not a zip that can be read: {error}") from error

    def member(info: zipfile.ZipInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            if info.flag_bits & 1:
                raise EncryptedError(f"{file.name}: {info.filename} is encrypted")
            if info.file_size > _bytes_limit(limits):
                raise TooLargeError(f"{file.name}: {info.filename} has {info.file_size} bytes")
            try:
                return archive.read(info)
            finally:
                file.check()

        return read

    return {info.filename: member(info) for info in archive.infolist() if not info.filename.endswith("/")}


def _reader(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error

    return read


def _bytes_limit(limits: VideoLimits) -> int:
    """Largest plausible image file: an uncompressed image with four channels of 16 bits, and 1 MiB."""
    return limits.max_pixels * 8 + (1 << 20)


def is_image(path: str) -> bool:
    """Whether a file's name is that of a JPEG or PNG file that belongs to a sequence: not hidden, and no litter."""
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return PurePosixPath(path).suffix.lower() in _SUFFIXES and not hidden and not is_litter(path)


def frame_names(files: Iterable[str], name: str) -> list[str]:
    """The paths of a sequence's images in the order of their frames; all must be in one folder."""
    paths = list(files)
    images = [PurePosixPath(path) for path in paths if is_image(path)]
    if not images:
        raise NoVideoStreamError(f"{name}: holds no JPEG or PNG images ({len(paths)} other files)")
    folders = {str(path.parent) for path in images}
    if len(folders) > 1:
        some = ", ".join(sorted(folders)[:3])
        raise NotAVideoError(f"{name}: has images in {len(folders)} folders ({some}, ...); one is allowed")
    return [str(path) for path in in_order(images)]


def check_holds_images(files: Iterable[str], name: str) -> None:
    """Raise NoVideoStreamError unless some of the paths below a folder are images directly in it."""
    paths = list(files)
    images = [PurePosixPath(path) for path in paths if is_image(path)]
    if any(len(path.parts) == 1 for path in images):
        return
    below = Counter(path.parts[0] for path in images if len(path.parts) == 2)
    if not below:
        raise NoVideoStreamError(f"{name}: holds no pictures (JPEG or PNG), and {len(paths)} other files")
    folder, count = below.most_common(1)[0]
    raise NoVideoStreamError(
        f"{name}: holds no pictures itself, but {count} pictures one level down in {folder}/; give that folder"
    )


def rgb_of(image: Image.Image) -> Rgb:
    """Pixels (height, width, 3) of an image of any mode."""
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow would clip rather than scale
        gray = (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    return np.array(image.convert("RGB"))


def exif_orientation(image: Image.Image) -> Orientation:
    """The orientation that the image's EXIF data gives."""
    return EXIF_ORIENTATIONS.get(image.getexif().get(_EXIF_ORIENTATION, 1), Orientation())
