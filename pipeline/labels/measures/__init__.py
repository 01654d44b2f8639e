"""Scores and flags that need no ground truth: which labels to look at first.

`frames` measures the model's low-resolution masks while a video is labelled, `motion` and `masklets` work on stored
columns alone, so that what they say can be computed again from the labels, and `doubt` sums it up between 0 and 1.
None of it changes a mask, and so none of it is part of a label key.
"""
