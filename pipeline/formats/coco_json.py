"""What COCO and YouTube-VIS have in common: one JSON document a split, classes, boxes and segmentations."""

import json
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from pipeline.detection.sources.pictures import frame_of_picture
from pipeline.errors import CorpusError, UsageError
from pipeline.formats.format import Document, ExportContext, Section
from pipeline.formats.location import Location
from pipeline.formats.sources import MaskSource, TableMasks
from pipeline.storage.paths import unquote_id

ABOUT = {"description": "Labels made with SAM 2", "version": "1.0"}

MALFORMED = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
    CorpusError,
    pa.ArrowException,
)
"""Errors that reading a malformed document can raise."""


def split_document(path: str, context: ExportContext, *sections: str) -> Document:
    """A document that holds a list for each section, and the classes."""
    parts: list[bytes | Section] = [b'{"info":' + to_json(ABOUT) + b',"licenses":[]']
    for name in sections:
        parts += [b',"' + name.encode() + b'":[\n', Section(name, b",\n"), b"\n]"]
    categories = [{"id": at, "name": name, "supercategory": ""} for at, name in enumerate(context.categories, start=1)]
    return Document(path, (*parts, b',"categories":' + to_json(categories) + b"}\n"))


def to_json(value: object) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def bbox(row: Mapping[str, Any]) -> list[int]:
    """COCO's box of a mask row: x, y, width, height."""
    return [row["x_min"], row["y_min"], row["x_max"] - row["x_min"], row["y_max"] - row["y_min"]]


def open_documents(at: Location, read: Callable[..., pa.Table], kind: str) -> MaskSource:
    """The masks of all JSON files at a location."""
    tables = [read(at.read(path), name=at.name_of(path)) for path in at.files(".json")]
    return TableMasks(pa.concat_tables(tables), kind)


def load_document(data: bytes | str, name: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UsageError: It is not JSON, or not an object.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{name} holds a {type(document).__name__}, not an object with annotations")
    return document


def category_names(document: Mapping[str, Any]) -> dict[Any, str]:
    """Class names by number."""
    return {one["id"]: str(one["name"]) for one in document.get("categories", ())}


def frame_of_name(file_name: str) -> tuple[str, int]:
    """The video id and frame index from the name of a picture: `VIDEO/000012.jpg`, or another of `FORMS`.

    Raises:
        ManifestError: It has another name.
    """
    path = PurePosixPath(file_name)
    if path.parent.name and path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 10:
        return unquote_id(path.parent.name), int(path.stem)
    return frame_of_picture(file_name)
