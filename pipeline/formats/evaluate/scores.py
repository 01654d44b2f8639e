"""Scores of one video's masklets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import RleError
from pipeline.formats.evaluate.measures import Statistics, boundary_f_of_runs, statistics
from pipeline.formats.rows import by_object
from pipeline.formats.sav import size_bucket
from pipeline.formats.sources import FrameProtocol, Problem
from pipeline.masks import rle

Missing = Literal["empty", "skip videos", "skip"]
"""How true masks without a counterpart are scored: against an empty mask; not if the whole video has none; or not at
all."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MaskletScore:
    """One masklet against its truth; NaN where no frame counted."""

    video_id: str
    object_id: int
    category: str | None
    size: str
    """small, medium or large, as SA-V calls the true mask's mean visible area."""
    frames: int
    """Frames that counted."""
    missing: int
    """Of these, frames without a row: scored as empty masks."""
    j: Statistics
    f: Statistics
    presence: float
    """Share of the frames where both masks are non-empty or both are empty."""

    @property
    def j_and_f(self) -> float:
        return (self.j.mean + self.f.mean) / 2


def score_video(
    video_id: str,
    truth: pa.Table,
    found: pa.Table | None,
    *,
    protocol: FrameProtocol = "davis",
    missing: Missing = "empty",
) -> tuple[list[MaskletScore], list[Problem]]:
    """Every masklet of the truth against the masks of the same object id.

    A frame without a row is scored as an empty mask, unless `missing` skips it. A masklet whose masks are broken or of
    another size is reported and not scored.

    Args:
        truth: MASK_ROWS of this video, its annotated frames.
        found: MASK_ROWS to score; None where there are none.
        missing: how frames without a row are scored.
    """
    frames = np.unique(truth.column("frame_index").to_numpy())
    edges = {int(frames[0]), int(frames[-1])} if len(frames) else set()
    answers = by_object(found) if found is not None else {}
    scores, problems = [], []
    for object_id, rows in by_object(truth).items():
        score, issues = _score_masklet(
            video_id,
            object_id,
            rows,
            answers.get(object_id),
            dropped=edges if protocol == "davis" else None if protocol == "sav" else set(),
            skip=missing == "skip",
        )
        scores.append(score)
        problems += issues
    return scores, problems


def _score_masklet(
    video_id: str,
    object_id: int,
    truth: pa.Table,
    found: pa.Table | None,
    *,
    dropped: set[int] | None,
    skip: bool,
) -> tuple[MaskletScore, list[Problem]]:
    frames = truth.column("frame_index").to_pylist()
    dropped = {frames[0], frames[-1]} if dropped is None else dropped
    masks = zip(*(truth.column(name).to_pylist() for name in ("height", "width", "counts")), strict=True)
    answers = _answers(found)
    problems: list[Problem] = []
    areas: list[int] = []
    pairs: list[tuple[float, float, bool]] = []
    missing = 0
    for frame, (height, width, counts) in zip(frames, masks, strict=True):
        try:
            size = (height, width)
            runs = rle.decompress(counts, size)
            area = int(runs[1::2].sum())
            areas.append(area)
            if frame in dropped:
                continue
            if (answer := answers.get(frame)) is None:
                if skip:
                    continue
                missing += 1
                pairs.append((0.0, 0.0, False) if area else (1.0, 1.0, True))
                continue
            if answer[:2] != size:
                raise RleError(f"a mask of {answer[0]} x {answer[1]} cannot be compared with one of {height} x {width}")
            if answer[2] == counts:
                pairs.append((1.0, 1.0, True))
                continue
            theirs = rle.decompress(answer[2], size)
            f = boundary_f_of_runs(runs, theirs, size)
            pairs.append((rle.iou_of_runs(runs, theirs), f, (int(theirs[1::2].sum()) > 0) == (area > 0)))
        except RleError as error:
            problems.append(Problem(video_id=video_id, object_id=object_id, frame_index=frame, message=str(error)))
    values = np.array(pairs, np.float64).reshape(-1, 3)
    visible = [area for area in areas if area]
    score = MaskletScore(
        video_id=video_id,
        object_id=object_id,
        category=_category(truth) or (_category(found) if found is not None else None),
        size=size_bucket(float(np.mean(visible))) if visible else "never visible",
        frames=len(pairs),
        missing=missing,
        j=statistics(values[:, 0]),
        f=statistics(values[:, 1]),
        presence=float(values[:, 2].mean()) if len(pairs) else float("nan"),
    )
    return score, problems


def _category(masks: pa.Table) -> str | None:
    return next((str(one) for one in masks.column("category").to_pylist() if one is not None), None)


def _answers(found: pa.Table | None) -> Mapping[int, tuple[int, int, str]]:
    if found is None:
        return {}
    columns = (found.column(name).to_pylist() for name in ("frame_index", "height", "width", "counts"))
    return {frame: (height, width, counts) for frame, height, width, counts in zip(*columns, strict=True)}
