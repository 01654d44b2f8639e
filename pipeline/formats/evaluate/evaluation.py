"""A whole output against a truth, video by video, in as many processes as there are cores."""

import functools
import logging
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.formats.evaluate.scores import MaskletScore, Missing, score_video
from pipeline.formats.sources import FrameProtocol, MaskSource, Problem

log = logging.getLogger(__name__)

READ_ROWS = 20_000
"""Mask rows of the truth that are read at once."""

INLINE_ROWS = 1_500
"""Mask rows below which starting processes takes longer than it saves."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of every masklet of a truth, and what could not be scored."""

    scores: tuple[MaskletScore, ...]
    problems: tuple[Problem, ...]
    missing_videos: tuple[str, ...]
    """Videos of the truth without any mask, scored as empty masks or left out, as requested."""
    extra_videos: int
    """Videos with masks but no truth, which are not scored."""
    protocol: FrameProtocol


def evaluate(
    found: MaskSource,
    truth: MaskSource,
    *,
    protocol: FrameProtocol | None = None,
    missing: Missing = "empty",
    workers: int | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """J, F and presence of each masklet of the truth; of videos labelled at a rate, on their labelled frames only.

    Args:
        protocol: which annotated frames count; that of the truth when absent.
        missing: how true masks without a counterpart are scored.
        workers: processes; one per core when absent.
        watch: called with the number of finished videos and of all videos.

    Raises:
        UsageError: The two have no video in common.
    """
    protocol = protocol or truth.protocol
    known, there = truth.row_counts(), found.row_counts()
    wanted = known
    absent = [video_id for video_id in wanted if video_id not in there]
    if wanted and len(absent) == len(wanted):
        examples = ", ".join(repr(video_id) for video_id in (*absent[:1], *list(there)[:1]))
        raise UsageError(f"the masks and the truth have no video_id in common; examples are {examples}")
    if missing != "empty":
        wanted = {video_id: rows for video_id, rows in wanted.items() if video_id in there}
    scores: list[MaskletScore] = []
    problems: list[Problem] = []
    tasks = _tasks(found, truth, wanted, set(there), problems)
    scored = _scored(
        tasks,
        sum(wanted.values()),
        functools.partial(_score, protocol=protocol, missing=missing),
        workers,
    )
    for done, (some, issues) in enumerate(scored, start=1):
        scores += some
        problems += issues
        if watch:
            watch(done, len(wanted))
    return Evaluation(
        scores=tuple(sorted(scores, key=lambda score: (score.video_id, score.object_id))),
        problems=tuple(problems),
        missing_videos=tuple(absent),
        extra_videos=len(there) - (len(known) - len(absent)),
        protocol=protocol,
    )


Task = tuple[str, pa.Table, pa.Table | None]
Scored = tuple[list[MaskletScore], list[Problem]]


def _tasks(
    found: MaskSource, truth: MaskSource, wanted: Mapping[str, int], there: set[str], problems: list[Problem]
) -> Iterator[Task]:
    for video_ids in _groups(wanted):
        truths, unreadable = truth.read(video_ids)
        known = [video_id for video_id in video_ids if video_id in there]
        answers, broken = found.read(known)
        for video_id in found.at_a_rate(known) & truths.keys() & answers.keys() if known else ():
            labelled = pc.unique(answers[video_id].column("frame_index"))
            truths[video_id] = truths[video_id].filter(pc.field("frame_index").isin(labelled))
        problems += unreadable + broken
        bad = {problem.video_id for problem in broken}
        for video_id, rows in truths.items():
            if video_id not in bad:
                yield video_id, rows, answers.get(video_id)


def _groups(wanted: Mapping[str, int]) -> Iterator[list[str]]:
    waiting: list[str] = []
    rows = 0
    for video_id, count in wanted.items():
        if waiting and rows + count > READ_ROWS:
            yield waiting
            waiting, rows = [], 0
        waiting.append(video_id)
        rows += count
    if waiting:
        yield waiting


def _scored(tasks: Iterable[Task], rows: int, score: Callable[[Task], Scored], workers: int | None) -> Iterator[Scored]:
    workers = workers or len(os.sched_getaffinity(0))
    if workers == 1 or rows < INLINE_ROWS:
        yield from map(score, tasks)
        return
    waiting: deque[Future[Scored]] = deque()
    # fork would copy DuckDB's and Arrow's threads in whatever state they are
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for task in tasks:
            waiting.append(pool.submit(score, task))
            while len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _score(task: Task, *, protocol: FrameProtocol, missing: Missing) -> Scored:
    video_id, truth, found = task
    return score_video(video_id, truth, found, protocol=protocol, missing=missing)
