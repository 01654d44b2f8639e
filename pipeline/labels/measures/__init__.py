"""Scores and flags that need no ground truth and rank labels for review.

`frames` measures the model's low-resolution logits while a video is labelled; `motion`, `drift` and `doubt` work on
stored columns alone, so their results can be computed again from the labels. None of them changes a mask, so none is
part of a label key.
"""
