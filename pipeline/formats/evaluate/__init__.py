"""Scores of masks against a truth, as the field's benchmarks define them."""

from pipeline.formats.evaluate.evaluation import Evaluation, evaluate
from pipeline.formats.evaluate.measures import (
    Statistics,
    boundary_f,
    boundary_f_of_masks,
    j_and_f,
    jaccard,
    jaccard_of_masks,
    statistics,
)
from pipeline.formats.evaluate.scores import MaskletScore, Missing, score_video
from pipeline.formats.evaluate.summary import (
    Comparison,
    Group,
    Interval,
    Summary,
    bootstrap,
    compare,
    is_score_table,
    is_summary,
    summarise,
    to_csv,
    worst_videos,
)

__all__ = [
    "Comparison",
    "Evaluation",
    "Group",
    "Interval",
    "MaskletScore",
    "Missing",
    "Statistics",
    "Summary",
    "bootstrap",
    "boundary_f",
    "boundary_f_of_masks",
    "compare",
    "evaluate",
    "is_score_table",
    "is_summary",
    "j_and_f",
    "jaccard",
    "jaccard_of_masks",
    "score_video",
    "statistics",
    "summarise",
    "to_csv",
    "worst_videos",
]
