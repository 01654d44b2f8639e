"""The manifest's rules, checked on whole batches in the canonical types."""

from string import ascii_letters, digits
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest.conform import Flags, Indices, flags, list_parts
from pipeline.manifest.findings import Findings
from pipeline.manifest.kinds import PROMPT_KINDS
from pipeline.manifest.masks import text_bytes
from pipeline.manifest.modifiers import MODIFIERS
from pipeline.manifest.prompt_field import MAX_FRAME_INDEX, PromptBatch

MAX_QUOTED_ID_BYTES = 200

# Control characters, line and paragraph separators, direction marks: with them a value can forge log lines.
_CONTROLS = r"[\p{Cc}\p{Zl}\p{Zp}\x{202a}-\x{202e}\x{2066}-\x{2069}]"
_QUOTED_BYTES = np.full(256, 3, np.int64)
_QUOTED_BYTES[np.frombuffer((ascii_letters + digits + "-._~").encode(), np.uint8)] = 1


def check_rows(batch: pa.RecordBatch, found: Findings) -> None:
    """Check every column of the rows but the prompts."""
    ids, uris = batch.column("video_id"), batch.column("video_uri")
    for name, array in (("video_id", ids), ("video_uri", uris)):
        found.rows_where(flags(array.is_null()), name, array, "missing; every row needs one")
        found.rows_where(_equal(array, ""), name, array, "empty; every row needs one")
    for name in ("video_id", "video_uri", "video_version"):
        array = batch.column(name)
        found.rows_where(_has_controls(array), name, array, "control characters are not allowed")
    found.rows_where(
        _quoted_length(ids) > MAX_QUOTED_ID_BYTES,
        "video_id",
        ids,
        f"at most {MAX_QUOTED_ID_BYTES} bytes are allowed once it is percent-quoted",
    )
    detections = batch.column("detections")
    found.rows_where(_equal(detections, ""), "detections", detections, "empty; give the URI of a table or null")
    version = batch.column("video_version")
    found.rows_where(_equal(version, ""), "video_version", version, "empty; give the content's version or null")

    start, end, frames = batch.column("start_s"), batch.column("end_s"), batch.column("num_frames")
    found.rows_where(_less(start, 0), "start_s", start, "negative; seconds from the file's first frame are allowed")
    early = flags(pc.less_equal(end, start.fill_null(0)).fill_null(False))
    found.rows_where(early, "end_s", end, "must be greater than start_s (0 when start_s is missing)")
    fps = batch.column("fps")
    slow = flags(pc.less_equal(fps, 0).fill_null(False))
    found.rows_where(slow, "fps", fps, "must be a number above 0 (frames per second of an image sequence), or missing")
    rate, every = batch.column("label_fps"), batch.column("label_every")
    none = flags(pc.less_equal(rate, 0).fill_null(False))
    found.rows_where(none, "label_fps", rate, "must be a number above 0 (frames to label a second), or missing")
    found.rows_where(
        _less(every, 1), "label_every", every, "must be at least 1 (label every so many frames), or missing"
    )
    found.rows_where(
        _given(rate) & _given(every), "label_fps, label_every", rate, "both are given; at most one of them is allowed"
    )
    found.rows_where(_less(frames, 1), "num_frames", frames, "must be at least 1, or missing when it is not known")


def check_prompts(prompts: pa.ListArray, found: Findings, *, optional: Flags) -> None:
    """Check each prompt by itself, then with the other prompts of its video. Prompts are optional in some rows."""
    offsets, values = list_parts(prompts)
    found.rows_where(
        (np.diff(offsets) == 0) & ~optional,
        "prompts",
        prompts,
        "empty; every video needs at least one prompt (points, box or mask), or detections",
    )
    column = dict(zip(values.type.names, values.flatten(), strict=True))
    _check_which(column, found)
    row = np.repeat(np.arange(len(prompts)), np.diff(offsets))
    batch = PromptBatch(column=column, row=row, kinds=tuple(kind.name for kind in PROMPT_KINDS))
    for kind in PROMPT_KINDS:
        kind.check(batch, found)
    _check_kinds(batch, values, found)
    _check_together(row, column, found)
    for modifier in MODIFIERS:
        modifier.check(batch, found)


def _check_kinds(batch: PromptBatch, values: pa.StructArray, found: Findings) -> None:
    """Check that each prompt has a kind, and no kinds that exclude each other."""
    correct, nouns = batch.correct, {kind: kind.noun for kind in PROMPT_KINDS}
    for kind in PROMPT_KINDS:
        if kind.alone:
            others = " or ".join(noun for other, noun in nouns.items() if other is not kind)
            found.prompts_where(
                batch.given(kind.name) & batch.kinds_besides(kind.name),
                kind.name,
                lambda i: _kinds_given(values[i].as_py()),
                f"{kind.noun} together with {others}; {kind.noun} must be the only kind",
            )
            correcting = " or ".join(noun for other, noun in nouns.items() if not other.alone)
            found.prompts_where(
                batch.given(kind.name) & correct,
                "correct",
                lambda _: True,
                f"{kind.noun} replaces the tracked mask; a correction takes {correcting}",
            )
    *first, last = nouns.values()
    found.prompts_where(
        ~np.logical_or.reduce([batch.given(kind.name) for kind in PROMPT_KINDS]),
        "",
        lambda i: values[i].as_py(),
        f"empty; a prompt needs {', '.join(first)} or {last}",
    )


def _check_which(column: dict[str, pa.Array], found: Findings) -> None:
    """Check object_id, frame_index, time_s and category."""
    objects, frames, times = column["object_id"], column["frame_index"], column["time_s"]
    found.prompts_where(
        flags(objects.is_null()), "object_id", lambda _: None, "missing; every prompt needs its object's whole number"
    )
    has_frame, has_time = _given(frames), _given(times)
    both = has_frame & has_time
    found.prompts_where(
        both,
        "frame_index, time_s",
        lambda i: (frames[i].as_py(), times[i].as_py()),
        "both are given; exactly one of them is allowed",
    )
    found.prompts_where(
        ~(has_frame | has_time),
        "frame_index, time_s",
        lambda _: (None, None),
        "neither is given (null and NaN count as missing); exactly one of them is needed",
    )
    found.prompts_where(
        flags(pc.or_(pc.less(frames, 0), pc.greater(frames, MAX_FRAME_INDEX)).fill_null(False)),
        "frame_index",
        lambda i: frames[i].as_py(),
        f"frames count from 0 to {MAX_FRAME_INDEX}",
    )
    found.prompts_where(
        _less(times, 0), "time_s", lambda i: times[i].as_py(), "negative; seconds from the file's first frame"
    )
    category = column["category"]
    found.prompts_where(
        _has_controls(category),
        "category",
        lambda i: category[i].as_py(),
        "control characters are not allowed",
    )


def _check_together(row: Indices, column: dict[str, pa.Array], found: Findings) -> None:
    """Check that an object has one prompt on a frame and one category."""
    objects = column["object_id"].fill_null(0).to_numpy()
    for name in ("frame_index", "time_s"):
        array: pa.Array = column[name]
        subset = np.flatnonzero(_given(array) & _given(column["object_id"]))
        values = array.fill_null(0).to_numpy()

        def value(i: int, array: pa.Array = array) -> object:
            return array[i].as_py()

        repeated = np.zeros(len(row), np.bool_)
        repeated[subset[_repeats(row[subset], objects[subset], values[subset])]] = True
        found.prompts_where(
            repeated,
            name,
            value,
            "a second prompt for this object and frame; put all its points and its box into one",
        )

    category = column["category"]
    subset = np.flatnonzero(_given(category))
    codes = category.dictionary_encode().indices.fill_null(-1).to_numpy()
    order = subset[np.lexsort((subset, objects[subset], row[subset]))]
    same = (row[order][1:] == row[order][:-1]) & (objects[order][1:] == objects[order][:-1])
    differs = np.zeros(len(row), np.bool_)
    differs[order[1:][same & (codes[order][1:] != codes[order][:-1])]] = True
    found.prompts_where(
        differs,
        "category",
        lambda i: category[i].as_py(),
        "another category than in this object's other prompts; an object has one",
    )


def _repeats(row: Indices, objects: Indices, when: npt.NDArray[Any]) -> Flags:
    """Whether an earlier prompt has the same row, object and time."""
    order = np.lexsort((np.arange(len(row)), when, objects, row))
    row, objects, when = row[order], objects[order], when[order]
    repeated = np.zeros(len(row), np.bool_)
    repeated[order[1:]] = (row[1:] == row[:-1]) & (objects[1:] == objects[:-1]) & (when[1:] == when[:-1])
    return repeated


def _quoted_length(ids: pa.StringArray) -> Indices:
    offsets, data = text_bytes(ids)
    total = np.zeros(len(data) + 1, np.int64)
    np.cumsum(_QUOTED_BYTES[data], out=total[1:])
    length: Indices = total[offsets[1:]] - total[offsets[:-1]]
    leading = np.zeros(len(length), np.uint8)
    some = length > 0
    leading[some] = data[offsets[:-1][some]]
    return length + 2 * np.isin(leading, np.frombuffer(b"._", np.uint8))  # hidden names are quoted too


def _kinds_given(prompt: dict[str, Any]) -> str:
    return ", ".join(kind.name for kind in PROMPT_KINDS if prompt[kind.name])


def _given(array: pa.Array) -> Flags:
    return flags(array.is_valid())


def _equal(array: pa.Array, value: str) -> Flags:
    return flags(pc.equal(array, value).fill_null(False))


def _less(array: pa.Array, bound: int) -> Flags:
    return flags(pc.less(array, bound).fill_null(False))


def _has_controls(array: pa.StringArray) -> Flags:
    return flags(pc.match_substring_regex(array, _CONTROLS).fill_null(False))
