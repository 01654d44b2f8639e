"""From a path to the masks in it, whatever their format."""

import itertools
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CorpusError, UsageError
from pipeline.formats import cvat, mots, png, yolo
from pipeline.formats.coco import read_coco, read_youtube_vis
from pipeline.formats.labels import open_selection
from pipeline.formats.rows import MASK_ROWS, RowBuilder
from pipeline.formats.sav import read_sav
from pipeline.formats.sources import FileSource, LabelSource, Source, TableSource
from pipeline.storage import Storage, Store
from pipeline.storage.filesystems import local_path
from pipeline.storage.paths import MASKLETS_TABLE, MASKS_TABLE, PARTS, RUNS, unquote_id

Kind = Literal["labels", "table", "png", "sav", "coco", "youtube-vis", "mots", "yolo", "cvat"]

STATE = "_export"
LOOKED_AT = 2_000
"""Files of a folder whose names are looked at to tell what it holds."""

OF_EXPORTS: dict[str, Kind] = {
    "sav": "sav",
    "davis": "png",
    "png": "png",
    "coco": "coco",
    "youtube-vis": "youtube-vis",
    "mots": "mots",
    "yolo": "yolo",
    "cvat": "cvat",
}


def open_masks(
    uri: str, *, kind: Kind | None = None, where: str | None = None, storage: Storage | None = None
) -> Source:
    """Masks at a path or fsspec URL.

    Args:
        kind: what is there; looked at when absent.
        where: an SQL condition, for a label output.

    Raises:
        UsageError: What is there is none of the kinds, or cannot be read at all.
    """
    store, path = locate(uri, storage)
    kind = kind or kind_of(store, path)
    if kind not in get_args(Kind):
        raise UsageError(f"masks of kind {kind!r} cannot be read; allowed are {', '.join(get_args(Kind))}")
    if where and kind != "labels":
        raise UsageError(f"an SQL condition selects from a label output; {store.uri_of(path)} is of kind {kind}")
    if kind == "labels":
        return LabelSource(open_selection(store.uri_of(path), storage=storage, where=where))
    return _OPENERS[kind](store, path)


def kind_of(store: Store, path: str) -> Kind:
    """What lies at a path, by names first and by a look inside where these do not tell."""
    if suffix := _suffix(path):
        if suffix in (".parquet", ".pq"):
            return "table"
        if suffix == ".xml":
            return "cvat"
        if suffix == ".json":
            return _kind_of_json(store, path)
    folders = set(store.list_dirs(path))
    if STATE in folders and (said := store.read_or_none(_join(path, f"{STATE}/export.json"))):
        name = json.loads(said)["format"]
        if name not in OF_EXPORTS:
            raise UsageError(f"{store.uri_of(path)} is an export in the format {name}, which holds no masks")
        return OF_EXPORTS[name]
    if folders & {MASKS_TABLE, PARTS} and folders & {MASKLETS_TABLE, RUNS}:
        return "labels"
    if mots.FOLDER in folders:
        return "mots"
    if "labels" in folders:
        return "yolo"
    found = [one.path for one in itertools.islice(store.list(path), LOOKED_AT)]
    suffixes = {_suffix(name) for name in found}
    if suffixes & {".parquet", ".pq"}:
        return "table"
    if ".png" in suffixes:
        return "png"
    if ".xml" in suffixes:
        return "cvat"
    if ".json" in suffixes:
        return _kind_of_json(store, next(name for name in found if _suffix(name) == ".json"))
    raise UsageError(f"{store.uri_of(path)} is not there, or holds no masks in a format that is known here")


def locate(uri: str, storage: Storage | None = None) -> tuple[Store, str]:
    """The store above a file or folder, and its name there."""
    if (local := local_path(uri)) is not None:
        path = Path(os.path.abspath(local))  # noqa: PTH100 - `..` must go, links may stay
        return Store(path.parent, storage=storage), path.name
    folder, _, name = uri.rstrip("/").rpartition("/")
    if folder.endswith(":/"):  # a bucket of its own
        return Store(uri, storage=storage), ""
    return Store(folder, storage=storage), name


def files(store: Store, path: str, *suffixes: str) -> list[str]:
    """The file itself, or all below a folder with such a suffix."""
    if _suffix(path) in suffixes:
        return [path]
    state = _join(path, STATE)
    found = sorted(
        one.path for one in store.list(path) if _suffix(one.path) in suffixes and not one.path.startswith(f"{state}/")
    )
    if not found:
        raise UsageError(f"{store.uri_of(path)} holds no {' or '.join(suffixes)} files")
    return found


def _kind_of_json(store: Store, path: str) -> Kind:
    if PurePosixPath(path).stem.endswith(("_manual", "_auto")):
        return "sav"
    try:
        document = json.loads(store.read(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{store.uri_of(path)} is not JSON: {error}") from error
    keys = set(document) if isinstance(document, dict) else set()
    if "masklet" in keys:
        return "sav"
    if {"annotations", "videos"} <= keys and "images" not in keys:
        return "youtube-vis"
    if {"annotations", "images"} <= keys:
        return "coco"
    raise UsageError(f"{store.uri_of(path)} is JSON, but neither SA-V's nor COCO's nor YouTube-VIS's")


def _open_table(store: Store, path: str) -> Source:
    return TableSource(pa.concat_tables([_read_table(store, name) for name in files(store, path, ".parquet", ".pq")]))


def _read_table(store: Store, name: str) -> pa.Table:
    try:
        with store.open(name) as file:
            parquet = pq.ParquetFile(file)
            missing = [one for one in MASK_ROWS.names if one not in (*parquet.schema_arrow.names, "category")]
            if missing:
                raise UsageError(f"{store.uri_of(name)} lacks the columns {', '.join(missing)} of a table of masks")
            table = parquet.read([one for one in MASK_ROWS.names if one in parquet.schema_arrow.names])
        if "category" not in table.column_names:
            table = table.append_column("category", pa.nulls(table.num_rows, pa.string()))
        table = table.select(MASK_ROWS.names).cast(MASK_ROWS)
    except CorpusError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{store.uri_of(name)} cannot be read as a table of masks: {error}") from error
    if nulls := [one for one in MASK_ROWS.names[:-1] if table.column(one).null_count]:
        raise UsageError(f"{store.uri_of(name)}: column {nulls[0]} has null values; each mask needs one")
    return table


def _open_documents(kind: Kind, read: Callable[..., pa.Table]) -> Callable[[Store, str], Source]:
    def open_them(store: Store, path: str) -> Source:
        names = files(store, path, ".json")
        tables = [read(store.read(name), name=store.uri_of(name)) for name in names]
        return TableSource(pa.concat_tables(tables), kind)

    return open_them


def _open_png(store: Store, path: str) -> Source:
    root = png.find_root(store, path)
    folders = {unquote_id(folder): folder for folder in png.list_videos(store, root)}

    def read(video_id: str) -> pa.Table:
        renumbered = store.read_or_none(_join(path, png.ids_path(folders[video_id])))
        ids = png.read_ids(renumbered) if renumbered else {}
        return _named(png.read_png_video(store, root, folders[video_id], object_ids=ids), video_id)

    by_object = any(store.list_dirs(_join(root, folder)) for folder in itertools.islice(folders.values(), 1))
    return FileSource(folders, read, "png by object" if by_object else "png")


def _open_sav(store: Store, path: str) -> Source:
    names = _by_video((_sav_video_id(store, name), name) for name in files(store, path, ".json"))
    return FileSource(
        names, lambda video_id: read_sav(store.read(names[video_id]), name=store.uri_of(names[video_id])).masks, "sav"
    )


def _open_mots(store: Store, path: str) -> Source:
    folder = _join(path, mots.FOLDER) if mots.FOLDER in store.list_dirs(path) else path
    names = _by_video((unquote_id(PurePosixPath(name).stem), name) for name in files(store, folder, ".txt"))
    said = store.read_or_none(_join(path, "classes.txt"))
    classes = mots.read_classes(_text(said, "classes.txt")) if said else {}

    def read(video_id: str) -> pa.Table:
        name = names[video_id]
        return mots.read_mots(_text(store.read(name), name), video_id, classes=classes, name=store.uri_of(name))

    return FileSource(names, read, "mots")


def _open_cvat(store: Store, path: str) -> Source:
    names = _by_video((unquote_id(PurePosixPath(name).stem), name) for name in files(store, path, ".xml"))

    def read(video_id: str) -> pa.Table:
        name = names[video_id]
        return cvat.masks_of(cvat.read_cvat(store.read(name), name=store.uri_of(name)), video_id)

    return FileSource(names, read, "cvat")


def _open_yolo(store: Store, path: str) -> Source:
    frames = yolo_frames(store, path)
    classes = yolo_classes(store, path)
    by_video: dict[str, list[str]] = {}
    for name, frame in frames.items():
        by_video.setdefault(frame.video_id, []).append(name)

    def read(video_id: str) -> pa.Table:
        rows = RowBuilder()
        for name in by_video[video_id]:
            frame = frames[name]
            if frame.size is None:
                raise UsageError(f"{store.uri_of(name)}: the frame's size is unknown; YOLO's labels do not say")
            lines = yolo.read_yolo(_text(store.read(name), name), name=store.uri_of(name))
            if frame.object_ids is not None and len(frame.object_ids) != len(lines):
                raise UsageError(f"{store.uri_of(name)} has {len(lines)} lines for {len(frame.object_ids)} objects")
            for object_id, line in zip(frame.object_ids or range(len(lines)), lines, strict=False):
                counts = line.counts(frame.size)
                rows.add(video_id, object_id, frame.frame_index, frame.size, counts, classes.get(line.kind))
        return rows.table()

    return FileSource(by_video, read, "yolo")


def yolo_frames(store: Store, path: str) -> dict[str, yolo.YoloFrame]:
    """Which frame each label file is of."""
    folder = _join(path, "labels") if "labels" in store.list_dirs(path) else path
    tracks: dict[str, yolo.YoloFrame] = {}
    for one in store.list(path):
        if PurePosixPath(one.path).name.startswith("tracks_") and one.path.endswith(".csv"):
            tracks |= yolo.read_tracks(_text(store.read(one.path), one.path), name=store.uri_of(one.path))
    return {
        name: tracks.get(PurePosixPath(name).stem) or yolo.frame_of(name, {}) for name in files(store, folder, ".txt")
    }


def yolo_classes(store: Store, path: str) -> dict[int, str]:
    """Names of the classes, where the data set says them."""
    said = store.read_or_none(_join(path, "data.yaml"))
    return yolo.read_names(_text(said, "data.yaml")) if said else {}


def _sav_video_id(store: Store, name: str) -> str:
    """From the file's name, as Meta names them; from the document where it is named otherwise."""
    stem = PurePosixPath(name).stem
    for suffix in ("_manual", "_auto"):
        if stem.endswith(suffix):
            return unquote_id(stem.removesuffix(suffix))
    try:
        return str(json.loads(store.read(name))["video_id"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(f"{store.uri_of(name)} is not SA-V's JSON: no video_id") from error


def _by_video(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for video_id, name in pairs:
        if video_id in found:
            raise UsageError(f"{name} and {found[video_id]} are both of video {video_id!r}; give one")
        found[video_id] = name
    return found


def _named(table: pa.Table, video_id: str) -> pa.Table:
    return table.set_column(0, "video_id", pa.repeat(pa.scalar(video_id), table.num_rows))


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not text in UTF-8: {error}") from error


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


_OPENERS: dict[Kind, Callable[[Store, str], Source]] = {
    "table": _open_table,
    "png": _open_png,
    "sav": _open_sav,
    "coco": _open_documents("coco", read_coco),
    "youtube-vis": _open_documents("youtube-vis", read_youtube_vis),
    "mots": _open_mots,
    "yolo": _open_yolo,
    "cvat": _open_cvat,
}
