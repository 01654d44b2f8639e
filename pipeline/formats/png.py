"""Masks as PNG folders: DAVIS's palette images, one a frame, and SA-V's, one a frame and object."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from pipeline.errors import CorpusError, UsageError
from pipeline.formats.format import Context, Document, Piece, VideoMasks, lines
from pipeline.formats.rows import RowBuilder
from pipeline.masks import rle
from pipeline.storage import Store

VOID = 255
"""DAVIS's value for pixels that nobody judges; the 2017 benchmark takes them as background."""

MOST_OBJECTS = 254

DAVIS_FOLDER = "Annotations/Full-Resolution"
ROOTS = ("Annotations/480p", DAVIS_FOLDER, "Annotations_6fps", "Annotations")
"""Where annotations lie below a data set's own folder."""


class DavisFormat:
    """DAVIS 2017's folders: a palette image for each frame. Where objects overlap, the smaller one is on top."""

    def pieces(self, video: VideoMasks, _: Context) -> Iterator[Piece]:
        indices = indices_of(list(video.categories()))
        for frame, rows in video.by_frame():
            drawn = paint([row["counts"] for row in rows], [indices[row["object_id"]] for row in rows], video.size)
            yield Piece(f"{DAVIS_FOLDER}/{video.name}/{frame:05d}.png", palette_png(drawn))
        if any(one != index for one, index in indices.items()):
            yield Piece(ids_path(video.name), json.dumps(indices).encode())
        yield Piece(f"ImageSets/2017/{video.split}.txt", f"{video.name}\n".encode(), section="lines")

    def documents(self, context: Context) -> Iterable[Document]:
        return [lines(f"ImageSets/2017/{name}.txt") for name in context.splits.names]

    def image_path(self, video: VideoMasks, frame_index: int) -> str:
        return f"JPEGImages/Full-Resolution/{video.name}/{frame_index:05d}.jpg"


class ObjectPngFormat:
    """The folders of SA-V's validation set: a black and white image for each frame and object."""

    def pieces(self, video: VideoMasks, _: Context) -> Iterator[Piece]:
        for frame, rows in video.by_frame():
            for row in rows:
                if row["object_id"] < 0:
                    raise UsageError(f"object {row['object_id']}: a folder's number cannot be negative")
                path = f"Annotations/{video.name}/{row['object_id']:03d}/{frame:05d}.png"
                yield Piece(path, mask_png(row["counts"], video.size))
        yield Piece(f"{video.split}.txt", f"{video.name}\n".encode(), section="lines")

    def documents(self, context: Context) -> Iterable[Document]:
        return [lines(f"{name}.txt") for name in context.splits.names]

    def image_path(self, video: VideoMasks, frame_index: int) -> str:
        return f"JPEGImages/{video.name}/{frame_index:05d}.jpg"


def palette() -> bytes:
    """The colours of DAVIS and Pascal VOC: bits of the index, spread over the channels."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


def indices_of(object_ids: Sequence[int]) -> dict[int, int]:
    """The palette index of each object: its own id where all ids allow it, else its place in their order.

    Raises:
        UsageError: There are more objects than a palette has colours.
    """
    if len(object_ids) > MOST_OBJECTS:
        raise UsageError(f"{len(object_ids)} objects in one video; a palette image holds at most {MOST_OBJECTS}")
    if all(1 <= one <= MOST_OBJECTS for one in object_ids):
        return {one: one for one in object_ids}
    return {one: at + 1 for at, one in enumerate(sorted(object_ids))}


def ids_path(name: str) -> str:
    """Where it is written which object has which palette index, for a video whose objects' ids are none."""
    return f"object_ids/{name}.json"


def read_ids(data: bytes) -> dict[int, int]:
    """Object ids by palette index."""
    try:
        return {int(index): int(one) for one, index in json.loads(data).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"object_ids is not a table of palette indices: {error}") from error


def paint(counts: Sequence[str], values: Sequence[int], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Masks of one frame in one image; where they overlap the smaller one is on top, so that it can be seen at all."""
    height, width = size
    canvas = np.zeros((width, height), np.uint8)
    masks = sorted(((rle.area(one), value, one) for one, value in zip(counts, values, strict=True)), reverse=True)
    for area, value, one in masks:
        if area:
            canvas[rle.decode_columns(one, size)] = value
    return np.ascontiguousarray(canvas.T)


def palette_png(indices: npt.NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(indices)
    image.putpalette(_PALETTE)
    return _png(image)


def mask_png(counts: str, size: tuple[int, int]) -> bytes:
    """One mask in black and white, one bit a pixel."""
    return _png(Image.fromarray(np.ascontiguousarray(rle.decode(counts, size))))


def find_root(store: Store, folder: str) -> str:
    """The folder of annotations: below a data set's own folder by their usual names, or the given one itself."""
    for name in ROOTS:
        root = f"{folder}/{name}" if folder else name
        if store.list_dirs(root):
            return root
    return folder


def list_videos(store: Store, root: str) -> list[str]:
    """Names of the videos, which are folders."""
    return [name for name in store.list_dirs(root) if not name.startswith((".", "_"))]


def read_png_video(store: Store, root: str, video: str, *, object_ids: Mapping[int, int] | None = None) -> pa.Table:
    """All masks of one video, in either layout.

    Args:
        object_ids: objects by palette index, where they are not the same.

    In DAVIS's every object of the video has a row in each frame, in SA-V's where a file says so.

    Raises:
        UsageError: A file is not where or what the layout wants.
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
    except Exception as error:  # Pillow's readers raise many kinds on a broken file
        raise UsageError(f"{path} cannot be read as a PNG image: {error}") from error


def _png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG", compress_level=4)
    return sink.getvalue()


_PALETTE = palette()
