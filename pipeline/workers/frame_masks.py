"""A tracked frame's results, copied from the device to host memory."""

from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
import torch

from pipeline.labels.measures.frames import STABILITY_OFFSET, LogitCounts
from pipeline.labels.rows import FrameMasks
from pipeline.tracking import MaskPostprocessor, TrackedFrame


def to_host(
    frame: TrackedFrame, postprocessor: MaskPostprocessor, *, time_s: float, size: tuple[int, int], with_logits: bool
) -> FrameMasks:
    """The frame's masks at display resolution, its scores, and the counts of its logits, in one copy from the device.

    Args:
        frame: results on the model's device.
        postprocessor: makes masks from logits; its threshold is that of the counts.
        time_s: presentation time of the frame in seconds.
        size: height and width of the displayed frame, in pixels.
        with_logits: also count the low-resolution logits.
    """
    height, width = size
    results = (frame.logits, frame.object_logit, frame.predicted_iou)
    with frame.ready.reading(*results) if frame.ready else nullcontext():
        counts = _logit_counts(frame.logits, postprocessor.mask_threshold) if with_logits else ()
        masks, (object_logit, predicted_iou, *counted) = postprocessor.to_host(
            frame.logits, height=height, width=width, extra=(frame.object_logit, frame.predicted_iou, *counts)
        )
    return FrameMasks(
        frame_index=frame.frame_index,
        time_s=time_s,
        object_ids=frame.object_ids,
        is_prompted=frame.is_prompted,
        masks=masks,
        object_logit=object_logit,
        predicted_iou=predicted_iou,
        logit_counts=_named(*counted) if with_logits else None,
    )


def count_logits(logits_ohw: torch.Tensor, *, mask_threshold: float = 0.0) -> LogitCounts:
    """Pixel counts of low-resolution logits (O, h, w) on a CPU."""
    return _named(*(tensor.numpy() for tensor in _logit_counts(logits_ohw, mask_threshold)))


def _logit_counts(logits_ohw: torch.Tensor, mask_threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(O, 2 + O) counts (low, high, shared with each object) and the masks (O, h, w), on the logits' device."""
    with torch.inference_mode():
        low = (logits_ohw > mask_threshold - STABILITY_OFFSET).sum((1, 2))
        high = (logits_ohw > mask_threshold + STABILITY_OFFSET).sum((1, 2))
        masks_ohw = logits_ohw > mask_threshold
        flat = masks_ohw.flatten(1).float()
        return torch.cat((torch.stack((low, high), 1).float(), flat @ flat.T), 1), masks_ohw


def _named(counts: npt.NDArray[np.float32], masks: npt.NDArray[np.bool_]) -> LogitCounts:
    return LogitCounts(low=counts[:, 0], high=counts[:, 1], shared=counts[:, 2:], masks=masks)
