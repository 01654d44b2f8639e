"""What a relabel with changed prompts costs, and how much space kept states take: lines of a dry run."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.errors import AfterEndError, CorpusError
from pipeline.labels.changes import NO_FRAME, first_changed_frame
from pipeline.manifest import PROMPT, prompts_from_json
from pipeline.manifest.kinds import to_prompt
from pipeline.runs.corrections.fixes import labelled_prompts
from pipeline.runs.plan import CORRECTED
from pipeline.storage import Store
from pipeline.video import FrameGrid
from pipeline.views.words import count, size
from pipeline.workers.kept import FIRST_SPACING
from pipeline.workers.states import read_index

if TYPE_CHECKING:
    from pipeline.runs.prepare import Prepared

DEFAULT_FPS = 24.0
READERS = 32
PROMPTS = {"prompts", "detections", "association"}
"""What may have changed of a video that continues from a state: its prompts, or those decided from its detections."""
POINTER_SHARE = 1.03
"""Bytes of a state by those of its memories: object pointers and rows of prompts come on top."""


@dataclass(frozen=True, kw_only=True)
class RelabelCost:
    """Frames of videos that are labelled again because of changed prompts."""

    videos: int
    frames: int
    """Of all of them."""
    changed: int
    """Frames on which masks may change; all frames of a video where that is not known."""
    tracked: int
    """Frames that are tracked, from kept states where there are any."""
    continued: int
    """Videos that continue from a kept state."""


def relabel_cost(prepared: "Prepared") -> RelabelCost:
    """Estimates the frames of a relabel; times of prompts become frames by the video's rate.

    Raises:
        StorageError: The output cannot be read.
    """
    plan = prepared.plan
    table = plan.table.select(["reason", "earlier_key", "detections_digest"]).take(pa.array(plan.tracked))
    columns = (plan.tracked.tolist(), *(column.to_pylist() for column in table.columns))
    rows = [
        (row, key)
        for row, reason, key, detections in zip(*columns, strict=True)
        if key is not None and detections is None and _has_other_prompts(reason)
    ]
    if not rows:
        return RelabelCost(videos=0, frames=0, changed=0, tracked=0, continued=0)
    videos = prepared.manifest.videos(np.array([row for row, _ in rows]))
    labelled = labelled_prompts(prepared.store, [video.video_id for video in videos], more=("frames", "fps"))
    rates = plan.table["label_rate"].take(pa.array([row for row, _ in rows])).to_pylist()
    firsts = [
        _first_changed(prepared, labelled.get(video.video_id), video.prompts, rate)
        for video, rate in zip(videos, rates, strict=True)
    ]
    lengths = [int((labelled.get(video.video_id) or {}).get("frames") or 0) for video in videos]
    starts = _state_starts(
        prepared.store, [(v.video_id, key) for v, (_, key) in zip(videos, rows, strict=True)], firsts
    )
    return RelabelCost(
        videos=len(rows),
        frames=sum(lengths),
        changed=sum(length - min(first or 0, length) for length, first in zip(lengths, firsts, strict=True)),
        tracked=sum(length - min(start, length) for length, start in zip(lengths, starts, strict=True)),
        continued=sum(start > 0 for start in starts),
    )


def relabel_lines(prepared: "Prepared") -> Iterator[str]:
    """Lines of a dry run: the frames of a relabel with changed prompts, and the size of the states to keep."""
    cost = relabel_cost(prepared)
    if cost.videos:
        again = count(cost.videos, "labelled video") + (" has" if cost.videos == 1 else " have")
        yield (
            f"{again} changed prompts: masks change on about {cost.changed} of {count(cost.frames, 'frame')}; "
            f"{cost.tracked} are tracked, {_how(cost)}"
        )
    if most := prepared.config.keep_states:
        yield _size_line(prepared, most)


def _has_other_prompts(reason: str) -> bool:
    return reason == CORRECTED or set(reason.removesuffix(" changed").split(" and ")) <= PROMPTS


def _how(cost: RelabelCost) -> str:
    if cost.continued:
        return f"{count(cost.continued, 'video')} from a kept state"
    return "because no states are kept (see --keep-states)"


def _size_line(prepared: "Prepared", most: int) -> str:
    plan = prepared.plan
    objects = plan.table["objects"].to_numpy()[plan.tracked]
    states = np.minimum(plan.table["frames"].to_numpy()[plan.tracked] / FIRST_SPACING, most)
    one = 7 * prepared.model.memory_bytes * POINTER_SHARE
    return (
        f"--keep-states {most}: about {size(one)} a state and object with one prompt, up to "
        f"{size(float((states * objects).sum()) * one)} for the pending videos"
    )


def _first_changed(
    prepared: "Prepared", labelled: dict[str, Any] | None, new: Sequence[Any], rate: str | None
) -> int | None:
    if labelled is None or not labelled.get("prompts"):
        return None
    fps, length = labelled["fps"] or DEFAULT_FPS, labelled["frames"]

    def index_at(times: Sequence[float]) -> list[int]:
        frames = [int((time - (labelled["start_s"] or 0)) * fps + 1e-6) for time in times]
        if any(frame >= length for frame in frames):
            raise AfterEndError("after the video's end")
        return frames

    grid = FrameGrid.of(rate) if rate else None
    parameters = prepared.config.parameters
    if labelled.get("detections_digest") is not None:
        parameters = parameters.for_detections()
    records = pa.array(prompts_from_json(labelled["prompts"]), PROMPT).to_pylist()
    try:
        return first_changed_frame(
            [to_prompt(record) for record in records],
            new,
            parameters,
            index_at=index_at,
            on_grid=lambda frame: grid is None or grid.has(frame, lambda t: t / fps),
        )
    except CorpusError:  # labelling reports it
        return None


def _state_starts(store: Store, labels: Sequence[tuple[str, str]], firsts: Sequence[int | None]) -> list[int]:
    """The frame from which each video is tracked: that of the last state before its first changed frame, or 0."""

    def start(label: tuple[str, str], first: int | None) -> int:
        try:
            index = None if first is None else read_index(store, *label)
        except (ValueError, KeyError, TypeError):  # damaged
            return 0
        limit = NO_FRAME if first is None else first
        return max((state.before for state in index.states if state.before < limit), default=0) if index else 0

    with ThreadPoolExecutor(READERS) as threads:
        return list(threads.map(start, labels, firsts))
