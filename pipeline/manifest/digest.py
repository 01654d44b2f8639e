"""Digest of a row's prompts: the prompts' part of a label key."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.manifest.canonical import lists, numbers, record
from pipeline.manifest.conform import list_parts, prompt_order
from pipeline.manifest.kinds import PROMPT_KINDS
from pipeline.manifest.modifiers import MODIFIERS
from pipeline.manifest.schema import PROMPT, Manifest

_ROWS = 16_384


def prompt_digests(manifest: Manifest) -> pa.Array:
    """For each row sha256 (hex) of its prompt geometry as canonical JSON, independent of categories and order.

    The JSON is a list of objects with sorted keys and without spaces: object_id, frame_index or time_s, and of each
    prompt kind and modifier its canonical JSON (see `kinds`); what is absent is left out. Prompts are sorted by
    object_id, then those by frame_index before those by time_s, then by these. Numbers without a fraction are written
    as integers, others as the shortest decimal that gives the same double.
    """
    digests = [
        pa.array([hashlib.sha256(text).hexdigest() for text in canonical_json(chunk.slice(start, _ROWS))], pa.string())
        for chunk in manifest.table.column("prompts").chunks
        for start in range(0, len(chunk), _ROWS)
    ]
    return pa.concat_arrays(digests) if digests else pa.array([], pa.string())


def digest_records(prompts: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """The digest of the prompts of each video, given as records of the manifest's `prompts` column."""
    array = pa.array([list(each) for each in prompts], pa.list_(PROMPT))
    return [hashlib.sha256(text).hexdigest() for text in canonical_json(array)]


def canonical_json(prompts: pa.ListArray) -> list[bytes]:
    """The text of each row that is digested."""
    offsets, values = list_parts(prompts)
    column = dict(zip(values.type.names, values.flatten(), strict=True))
    texts = record(
        {
            "object_id": column["object_id"].cast(pa.string()),
            "frame_index": column["frame_index"].cast(pa.string()),
            "time_s": numbers(column["time_s"]),
            **{field.name: field.canonical(column[field.name]) for field in (*PROMPT_KINDS, *MODIFIERS)},
        },
        partial=True,
    )
    rows = lists(offsets, texts.take(pa.array(prompt_order(offsets, values))))
    texts_of_rows: list[bytes] = rows.cast(pa.binary()).to_pylist()
    return texts_of_rows
