"""What DAVIS and SA-V's PNG folders have in common: images of masks, drawn and read back in either layout."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from pipeline.errors import CorpusError, UsageError
from pipeline.formats.location import Location
from pipeline.formats.rows import RowBuilder
from pipeline.masks import rle
from pipeline.storage import Store

VOID = 255
"""DAVIS's value for pixels that are not evaluated; the 2017 benchmark counts them as background."""

MAX_OBJECTS = 254
"""Objects that an 8-bit image can hold beside background and VOID."""

ROOTS = ("Annotations/480p", "Annotations/Full-Resolution", "Annotations_6fps", "Annotations")
"""Where annotations lie below the folder of a data set."""


def palette() -> bytes:
    """The colours of DAVIS and Pascal VOC: the bits of an index, distributed over the channels."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


def paint(counts: Sequence[str], values: Sequence[int], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Masks of one frame as one image (H, W); where masks overlap, the smaller one is on top."""
    height, width = size
    canvas = np.zeros((width, height), np.uint8)
    masks = sorted(((rle.area(one), value, one) for one, value in zip(counts, values, strict=True)), reverse=True)
    for area, value, one in masks:
        if area:
            canvas[rle.decode_columns(one, size)] = value
    return np.ascontiguousarray(canvas.T)


def palette_png(indices: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of an image (H, W) with DAVIS's palette."""
    image = Image.fromarray(indices)
    image.putpalette(_PALETTE)
    return _png(image)


def mask_png(counts: str, size: tuple[int, int]) -> bytes:
    """A PNG of one mask, one bit a pixel."""
    return _png(Image.fromarray(np.ascontiguousarray(rle.decode(counts, size))))


def annotation_root(at: Location) -> str:
    """The folder of annotations: below the folder of a data set by one of the usual names, or the given one itself."""
    return next((root for root in map(at.join, ROOTS) if at.store.list_dirs(root)), at.path)


def video_folders(store: Store, root: str) -> list[str]:
    """Names of the folders of videos."""
    return [name for name in store.list_dirs(root) if not name.startswith((".", "_"))]


def has_object_folders(at: Location) -> bool:
    """Whether the first video has a folder for each object, as SA-V has them."""
    root = annotation_root(at)
    return any(at.store.list_dirs(f"{root}/{name}" if root else name) for name in video_folders(at.store, root)[:1])


def read_png_video(store: Store, root: str, video: str, *, object_ids: Mapping[int, int] | None = None) -> pa.Table:
    """MASK_ROWS of one video in either layout, video_id being the folder's name.

    In DAVIS's layout every object of the video has a row on each frame, in SA-V's where there is a file.

    Args:
        object_ids: object ids by palette index, where they differ.

    Raises:
        UsageError: A file has another name, place or kind than the layout prescribes.
    """
    folder = f"{root}/{video}" if root else video
    files = sorted(entry.path for entry in store.list(folder) if entry.path.lower().endswith(".png"))
    if not files:
        raise UsageError(f"{store.uri_of(folder)} holds no PNG files")
    depths = {len(PurePosixPath(path).relative_to(folder).parts) for path in files}
    if depths == {1}:
        return _read_davis(store, video, files, object_ids or {})
    if depths == {2}:
        return _read_sav(store, video, files)
    raise UsageError(f"{store.uri_of(folder)} is neither FRAME.png (DAVIS) nor OBJECT/FRAME.png (SA-V)")


def _read_davis(store: Store, video: str, files: Iterable[str], object_ids: Mapping[int, int]) -> pa.Table:
    images = [(frame, *_objects(_read_indices(store, path))) for frame, path in _by_frame(files)]
    objects = sorted({value for _, _, masks in images for value in masks})
    rows = RowBuilder()
    for frame, size, masks in images:
        empty = rle.encode(np.zeros((1, *size), np.bool_))[0] if len(masks) < len(objects) else ""
        for one in objects:
            rows.add(video, object_ids.get(one, one), frame, size, masks.get(one, empty))
    return rows.table()


def _read_sav(store: Store, video: str, files: Iterable[str]) -> pa.Table:
    rows = RowBuilder()
    for path in files:
        name = PurePosixPath(path)
        object_id, frame = _number(name.parent.name, path), _number(name.stem, path)
        indices = _read_indices(store, path)
        size = (int(indices.shape[0]), int(indices.shape[1]))
        rows.add(video, object_id, frame, size, rle.encode((indices > 0)[None])[0])
    return rows.table()


def _objects(indices: npt.NDArray[np.uint8]) -> tuple[tuple[int, int], Mapping[int, str]]:
    present = np.flatnonzero(np.bincount(indices.reshape(-1), minlength=256)).tolist()
    values = [value for value in present if value not in (0, VOID)]
    masks = np.stack([indices == value for value in values]) if values else np.empty((0, *indices.shape), np.bool_)
    return (indices.shape[0], indices.shape[1]), dict(zip(values, rle.encode(masks), strict=True))


def _by_frame(files: Iterable[str]) -> Iterator[tuple[int, str]]:
    for path in files:
        yield _number(PurePosixPath(path).stem, path), path


def _number(text: str, path: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"{path}: {text!r} is not a number; frames and objects are numbered, as in 00012.png")
    return int(text)


def _read_indices(store: Store, path: str) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(store.read(path)), formats=["PNG"]) as image:
            rle.check_size((image.height, image.width))
            if image.mode not in ("P", "L", "1"):
                raise UsageError(f"{path} is a {image.mode} image; masks have a palette (P) or are grey (L, 1)")
            return np.asarray(image).astype(np.uint8)
    except CorpusError:
        raise
    except Exception as error:  # Pillow's readers raise errors of many classes
        raise UsageError(f"{path} cannot be read as a PNG image: {error}") from error


def _png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG", compress_level=4)
    return sink.getvalue()


_PALETTE = palette()
