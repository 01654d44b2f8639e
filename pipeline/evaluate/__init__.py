"""Scores of masks against a truth, as the field's benchmarks define them."""

from pipeline.evaluate.measures import (
    Statistics,
    boundary_f,
    boundary_f_of_masks,
    j_and_f,
    jaccard,
    jaccard_of_masks,
    statistics,
)

__all__ = [
    "Statistics",
    "boundary_f",
    "boundary_f_of_masks",
    "j_and_f",
    "jaccard",
    "jaccard_of_masks",
    "statistics",
]
