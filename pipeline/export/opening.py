"""From a path to the masks in it, whatever their format."""

import functools
import json
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CorpusError, UsageError
from pipeline.export import png
from pipeline.export.labels import open_selection
from pipeline.export.rows import MASK_ROWS
from pipeline.export.sav import read_sav
from pipeline.export.sources import FileSource, LabelSource, Source, TableSource
from pipeline.store import Storage, Store
from pipeline.store.layout import unquote_id

Kind = Literal["labels", "table", "png", "sav"]


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
        raise UsageError(f"an SQL condition selects from a label output; {store} is of kind {kind}")
    if kind == "labels":
        return LabelSource(open_selection(store.uri_of(path), storage=storage, where=where))
    return _OPENERS[kind](store, path)


def kind_of(store: Store, path: str) -> Kind:
    """What lies at a path, by names first and by a look inside where these do not tell."""
    match _suffix(path):
        case ".parquet" | ".pq":
            return "table"
        case ".json":
            return "sav"
    folders = set(store.list_dirs(path))
    if folders & {"masks", "parts"} and folders & {"masklets", "runs"}:
        return "labels"
    if files := _files(store, path, ".parquet", ".pq", ".json"):
        return "table" if _suffix(files[0]) != ".json" else "sav"
    if folders:
        return "png"
    raise UsageError(f"{store.uri_of(path)} is not there, or holds no masks in a format that is known here")


def locate(uri: str, storage: Storage | None = None) -> tuple[Store, str]:
    """The store above a file or folder, and its name there."""
    folder, _, name = uri.rstrip("/").rpartition("/")
    if folder.endswith(":/"):  # a bucket of its own
        return Store(uri, storage=storage), ""
    return Store(folder or ("/" if uri.startswith("/") else "."), storage=storage), name


def _files(store: Store, folder: str, *suffixes: str) -> list[str]:
    """Files directly in a folder."""
    depth = folder.count("/") + 1 if folder else 0
    return sorted(
        one.path for one in store.list(folder) if one.path.count("/") == depth and _suffix(one.path) in suffixes
    )


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _open_table(store: Store, path: str) -> Source:
    names = [path] if _suffix(path) else _files(store, path, ".parquet", ".pq")
    return TableSource(pa.concat_tables([_read_table(store, name) for name in names]))


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


def _open_png(store: Store, path: str) -> Source:
    root = png.find_root(store, path)
    names = {unquote_id(folder): folder for folder in png.list_videos(store, root)}
    return FileSource(names, functools.partial(_png_video, store, root), "png")


def _png_video(store: Store, root: str, folder: str) -> pa.Table:
    return _named(png.read_png_video(store, root, folder), unquote_id(folder))


def _open_sav(store: Store, path: str) -> Source:
    names = [path] if _suffix(path) else _files(store, path, ".json")
    by_video: dict[str, str] = {}
    for name in names:
        video_id = _sav_video_id(store, name)
        if video_id in by_video:
            raise UsageError(f"{store.uri_of(name)} and {by_video[video_id]} are both of video {video_id!r}; give one")
        by_video[video_id] = name
    return FileSource(by_video, lambda name: read_sav(store.read(name), name=store.uri_of(name)).masks, "sav")


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


def _named(table: pa.Table, video_id: str) -> pa.Table:
    return table.set_column(0, "video_id", pa.repeat(pa.scalar(video_id), table.num_rows))


_OPENERS: dict[Kind, Callable[[Store, str], Source]] = {
    "table": _open_table,
    "png": _open_png,
    "sav": _open_sav,
}
