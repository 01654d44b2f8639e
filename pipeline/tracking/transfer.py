"""Copies between host and device that do not make the host wait for the device's work.

On a CPU they are the tensors themselves.
"""

from collections.abc import Sequence

import torch


def host_buffer(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """An empty host tensor that `device` can copy from or to without blocking.

    For CUDA it is pinned. PyTorch keeps pinned memory for reuse and does not reuse it before its copies are done, so
    the buffers of frames in flight form a ring without further bookkeeping.
    """
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=device.type == "cuda")


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A small host tensor on the device, in the order of the current stream."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class FrameUpload:
    """Copies frames to the device on a stream of its own, so that a copy overlaps the steps launched before it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, frames: Sequence[torch.Tensor]) -> torch.Tensor:
        """uint8 frames (S, S, 3) as one batch (F, S, S, 3) on the device; the current stream's next work waits for it.

        Each frame is copied from its own buffer. To copy them at once they would have to be gathered first, because
        they come from the decoding threads of several videos: 0.3 ms of the stepping thread per frame, instead of a few
        microseconds.
        """
        if self._stream is None:
            return torch.stack(list(frames))
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            batch = torch.empty((len(frames), *frames[0].shape), dtype=torch.uint8, device=self._device)
            for n, frame in enumerate(frames):
                batch[n].copy_(frame if frame.is_pinned() else frame.pin_memory(), non_blocking=True)
            copied = torch.cuda.Event()
            copied.record(self._stream)
        current.wait_event(copied)
        batch.record_stream(current)
        return batch
