"""Copies between host and device that do not make the host wait for the device's work.

On a CPU they are the tensors themselves.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Ready:
    """The point from which a frame's results can be read on the device, and the stream to read them on.

    With a stream of its own for each propagation, reading waits for that frame alone and not for steps that were
    launched after it.
    """

    stream: torch.cuda.Stream
    event: torch.cuda.Event

    @staticmethod
    def of(stream: torch.cuda.Stream | None, event: torch.cuda.Event | None = None) -> "Ready | None":
        """The point of `event`, or of the work launched so far on the current stream; None on a CPU."""
        if stream is None:
            return None
        if event is None:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(stream.device))
        return Ready(stream=stream, event=event)

    @contextmanager
    def reading(self, *tensors: torch.Tensor) -> Iterator[None]:
        """Run what is launched inside on the reading stream, once these tensors are ready."""
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(self.event)
            for tensor in tensors:
                tensor.record_stream(self.stream)
            yield


def result_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream for the results of one propagation, served before steps. None on a CPU."""
    return torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None


def mark(device: torch.device) -> torch.cuda.Event | None:
    """An event after the work launched so far on the current stream. None on a CPU."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event


def download(tensors: Sequence[torch.Tensor]) -> list[NDArray[Any]]:
    """The tensors on the host, with one copy and one wait; bool tensors as one bit per value.

    The memory layout of a bool tensor (O, H, W) whose columns are contiguous is kept.
    """
    device = tensors[0].device
    if device.type != "cuda":
        return [tensor.numpy() for tensor in tensors]
    packed = torch.cat([_packed(tensor) for tensor in tensors])
    host = host_buffer(packed.shape, torch.uint8, device)
    host.copy_(packed, non_blocking=True)
    copied = torch.cuda.Event(blocking=True)
    copied.record(torch.cuda.current_stream(device))
    copied.synchronize()
    values, start = host.numpy(), 0
    arrays = []
    for tensor in tensors:
        size = _packed_size(tensor)
        arrays.append(_unpacked(values[start : start + size], tensor))
        start += size
    return arrays


def _in_columns(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 3 and not tensor.is_contiguous() and tensor.transpose(1, 2).is_contiguous()


def _packed_size(tensor: torch.Tensor) -> int:
    return -(-tensor.numel() // 8) if tensor.dtype == torch.bool else tensor.numel() * tensor.element_size()


def _packed(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype != torch.bool:
        return tensor.contiguous().flatten().view(torch.uint8)
    flat = (tensor.transpose(1, 2) if _in_columns(tensor) else tensor).flatten().view(torch.uint8)
    if len(flat) % 8:
        flat = F.pad(flat, (0, -len(flat) % 8))
    place = torch.arange(8, dtype=torch.uint8, device=tensor.device)
    return (flat.view(-1, 8) << place).sum(-1, dtype=torch.uint8)


def _unpacked(values: NDArray[np.uint8], tensor: torch.Tensor) -> NDArray[Any]:
    if tensor.dtype != torch.bool:
        dtype = torch.empty(0, dtype=tensor.dtype).numpy().dtype
        return values.view(dtype).reshape(tensor.shape).copy()
    bits = np.unpackbits(values, count=tensor.numel(), bitorder="little").view(np.bool_)
    if not _in_columns(tensor):
        return bits.reshape(tensor.shape)
    count, height, width = tensor.shape
    return bits.reshape(count, width, height).transpose(0, 2, 1)
