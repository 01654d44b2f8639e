"""A tracked frame's results, copied from the device to host memory."""

import torch

from pipeline.labels.measures.frames import STABILITY_OFFSET, LogitCounts
from pipeline.labels.rows import FrameMasks
from pipeline.tracking import MaskPostprocessor, TrackedFrame


def to_host(
    frame: TrackedFrame, postprocessor: MaskPostprocessor, *, time_s: float, size: tuple[int, int], with_logits: bool
) -> FrameMasks:
    """The frame's masks at display resolution, its scores, and the counts of its logits.

    Args:
        frame: results on the model's device.
        postprocessor: makes masks from logits; its threshold is that of the counts.
        time_s: presentation time of the frame in seconds.
        size: height and width of the displayed frame, in pixels.
        with_logits: also count the low-resolution logits.
    """
    counts = count_logits(frame.logits, mask_threshold=postprocessor.mask_threshold) if with_logits else None
    return FrameMasks(
        frame_index=frame.frame_index,
        time_s=time_s,
        object_ids=frame.object_ids,
        is_prompted=frame.is_prompted,
        masks=postprocessor.masks(frame.logits, height=size[0], width=size[1]).cpu().numpy(),
        object_logit=frame.object_logit.cpu().numpy(),
        predicted_iou=frame.predicted_iou.cpu().numpy(),
        logit_counts=counts,
    )


def count_logits(logits_ohw: torch.Tensor, *, mask_threshold: float = 0.0) -> LogitCounts:
    """Pixel counts of low-resolution logits (O, h, w), copied to the host in two transfers."""
    with torch.inference_mode():
        low = (logits_ohw > mask_threshold - STABILITY_OFFSET).sum((1, 2))
        high = (logits_ohw > mask_threshold + STABILITY_OFFSET).sum((1, 2))
        masks_ohw = logits_ohw > mask_threshold
        flat = masks_ohw.flatten(1).float()
        shared = flat @ flat.T
        sums = torch.cat((torch.stack((low, high), 1).float(), shared), 1).cpu().numpy()
        return LogitCounts(low=sums[:, 0], high=sums[:, 1], shared=sums[:, 2:], masks=masks_ohw.cpu().numpy())
