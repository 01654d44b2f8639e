"""Summaries of an evaluation: means over masklets, by category and size, with confidence intervals."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.formats.evaluate.evaluation import Evaluation
from pipeline.formats.evaluate.measures import BOUND_TH
from pipeline.formats.evaluate.scores import Floats, MaskletScore

RESAMPLES = 10_000
CONFIDENCE = 0.95
CSV_COLUMNS = (
    "video_id", "object_id", "category", "size", "frames", "missing", "j_and_f",
    "j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay", "presence",
)  # fmt: skip
SIZES = ("small", "medium", "large", "never visible")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Group:
    """Means over some masklets, each counting once, as in DAVIS and SA-V."""

    name: str
    masklets: int
    frames: int
    j_and_f: float
    j_mean: float
    j_recall: float
    j_decay: float
    f_mean: float
    f_recall: float
    f_decay: float
    presence: float
    interval: Interval
    """Of J&F."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two outputs against the same truth, over the masklets that both have scores for."""

    masklets: int
    j_and_f: float
    baseline: float
    difference: Interval
    """J&F minus the baseline's."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The numbers that summarise an evaluation."""

    overall: Group
    j_and_f: Interval
    by_category: tuple[Group, ...]
    by_size: tuple[Group, ...]
    videos: int
    missing_frames: int
    evaluation: Evaluation
    comparison: Comparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: numbers that do not exist are null."""
        evaluation = self.evaluation
        found: dict[str, Any] = {
            "protocol": evaluation.protocol,
            "bound_th": BOUND_TH,
            "videos": self.videos,
            "overall": _plain(self.overall),
            "j_and_f_interval": _plain(self.j_and_f),
            "by_category": [_plain(group) for group in self.by_category],
            "by_size": [_plain(group) for group in self.by_size],
            "missing_frames": self.missing_frames,
            "missing_videos": list(evaluation.missing_videos),
            "extra_videos": evaluation.extra_videos,
            "problems": [
                {
                    "video_id": one.video_id,
                    "object_id": one.object_id,
                    "frame_index": one.frame_index,
                    "message": one.message,
                }
                for one in evaluation.problems
            ],
        }
        if self.comparison:
            found["comparison"] = _plain(self.comparison)
        return found


def summarise(evaluation: Evaluation, *, baseline: Evaluation | None = None, seed: int = 0) -> Summary:
    """The numbers of an evaluation, and of a baseline for comparison."""
    scored = [score for score in evaluation.scores if score.frames]
    overall = _group("all", scored, seed)
    by_size = _groups(scored, lambda score: score.size, seed)
    return Summary(
        overall=overall,
        j_and_f=overall.interval,
        by_category=_groups(scored, lambda score: score.category or "(none)", seed),
        by_size=tuple(sorted(by_size, key=lambda group: SIZES.index(group.name))),
        videos=len({score.video_id for score in scored}),
        missing_frames=sum(score.missing for score in scored),
        evaluation=evaluation,
        comparison=compare(evaluation, baseline, seed=seed) if baseline else None,
    )


def compare(evaluation: Evaluation, baseline: Evaluation, *, seed: int = 0) -> Comparison:
    """The difference in J&F of two outputs, masklet by masklet.

    Raises:
        UsageError: They have no scored masklet in common.
    """
    theirs = {(score.video_id, score.object_id): score.j_and_f for score in baseline.scores if score.frames}
    both = [
        (score.video_id, score.j_and_f, theirs[score.video_id, score.object_id])
        for score in evaluation.scores
        if score.frames and (score.video_id, score.object_id) in theirs
    ]
    if not both:
        raise UsageError("the two outputs have no scored masklet in common")
    ours, others = np.array([one[1] for one in both]), np.array([one[2] for one in both])
    return Comparison(
        masklets=len(both),
        j_and_f=float(ours.mean()),
        baseline=float(others.mean()),
        difference=bootstrap(ours - others, [one[0] for one in both], seed=seed),
    )


def bootstrap(values: Floats, videos: Sequence[str], *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean over masklets and its percentile interval when videos, not masklets, are resampled, because
    masklets of one video are correlated. One video gives no interval: low and high are NaN."""
    if not len(values):
        return Interval(mean=math.nan, low=math.nan, high=math.nan)
    _, which = np.unique(np.asarray(videos), return_inverse=True)
    sums, counts = np.bincount(which, values), np.bincount(which)
    if len(sums) == 1:
        return Interval(mean=float(values.mean()), low=math.nan, high=math.nan)
    random = np.random.default_rng(seed)
    means: list[Floats] = []
    step = max(1, 2_000_000 // len(sums))
    for start in range(0, resamples, step):
        drawn = random.integers(0, len(sums), (min(step, resamples - start), len(sums)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))


def to_csv(scores: Iterable[MaskletScore]) -> str:
    """A line for each masklet."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for one in scores:
        head = (one.video_id, one.object_id, one.category or "", one.size, one.frames, one.missing)
        tail = (
            one.j_and_f,
            *(getattr(m, k) for m in (one.j, one.f) for k in ("mean", "recall", "decay")),
            one.presence,
        )
        writer.writerow([*head, *("" if math.isnan(value) else f"{value:.6f}" for value in tail)])
    return sink.getvalue()


def is_score_table(data: bytes) -> bool:
    """Whether a file begins like one that `to_csv` wrote."""
    return data.startswith(",".join(CSV_COLUMNS).encode() + b"\n")


def is_summary(data: bytes) -> bool:
    """Whether a file holds the result of `Summary.to_dict`."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() >= {"protocol", "bound_th", "overall", "j_and_f_interval"}


def worst_videos(scores: Iterable[MaskletScore], count: int) -> list[str]:
    """Ids of the videos with the lowest J&F of any of their masklets, the lowest first."""
    lowest: dict[str, float] = {}
    for score in scores:
        if score.frames:
            lowest[score.video_id] = min(score.j_and_f, lowest.get(score.video_id, math.inf))
    return sorted(lowest, key=lambda video_id: (lowest[video_id], video_id))[:count]


def _groups(scores: Sequence[MaskletScore], key: Callable[[MaskletScore], str], seed: int) -> tuple[Group, ...]:
    members: dict[str, list[MaskletScore]] = {}
    for score in scores:
        members.setdefault(key(score), []).append(score)
    return tuple(_group(name, some, seed) for name, some in sorted(members.items()))


def _group(name: str, scores: Sequence[MaskletScore], seed: int) -> Group:
    def mean(of: Callable[[MaskletScore], float]) -> float:
        return float(np.mean([of(score) for score in scores])) if scores else math.nan

    return Group(
        name=name,
        masklets=len(scores),
        frames=sum(score.frames for score in scores),
        j_and_f=mean(lambda one: one.j_and_f),
        j_mean=mean(lambda one: one.j.mean),
        j_recall=mean(lambda one: one.j.recall),
        j_decay=mean(lambda one: one.j.decay),
        f_mean=mean(lambda one: one.f.mean),
        f_recall=mean(lambda one: one.f.recall),
        f_decay=mean(lambda one: one.f.decay),
        presence=mean(lambda one: one.presence),
        interval=bootstrap(
            np.array([score.j_and_f for score in scores]), [score.video_id for score in scores], seed=seed
        ),
    )


def _plain(record: Any) -> dict[str, Any]:
    return {
        name: None
        if isinstance(value, float) and math.isnan(value)
        else _plain(value)
        if isinstance(value, Interval)
        else value
        for name, value in vars(record).items()
    }
