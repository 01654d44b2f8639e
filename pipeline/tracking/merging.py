"""Merge the two passes of direction `both` into whole frames, as non-overlapping masks need them."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from pipeline.tracking import TrackedFrame
from pipeline.tracking.transfer import Ready


def merge_passes(frames: Iterable[TrackedFrame], *, last_start: int) -> Iterator[TrackedFrame]:
    """Every frame once, with the objects of the forward pass and those of the backward pass.

    Frames before `last_start`, the latest first prompt of an object that is followed back, are incomplete until the
    backward pass reaches them. Until then their logits are in an unnamed temporary file, 4 h w bytes per object: memory
    does not grow.
    """
    with tempfile.TemporaryFile(prefix="sam2-corpus-logits-") as file:
        held: dict[int, tuple[int, TrackedFrame]] = {}

        def take(index: int) -> TrackedFrame:
            offset, frame = held.pop(index)
            file.seek(offset)
            data = np.frombuffer(file.read(4 * len(frame.object_ids) * shape[1] * shape[2]), np.float32)
            return replace(frame, logits=torch.tensor(data.reshape(-1, *shape[1:]), device=device))

        backward = False
        for frame in frames:
            index, shape, device = frame.frame_index, frame.logits.shape, frame.logits.device
            if index >= last_start:
                backward = True  # from here on all objects are in the forward pass
                yield frame
            elif not backward:
                held[index] = file.tell(), replace(frame, logits=frame.logits.new_empty(0))
                file.write(frame.logits.float().cpu().numpy().tobytes())
            else:
                while held and max(held) > index:  # no object of the backward pass has a row there
                    yield take(max(held))
                yield _join(take(index), frame) if index in held else frame
        while held:
            yield take(max(held))


def _join(one: TrackedFrame, other: TrackedFrame) -> TrackedFrame:
    """The objects of both frames, by id, so that ties between overlapping objects do not depend on the passes."""
    ids = (*one.object_ids, *other.object_ids)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    prompted = (*one.is_prompted, *other.is_prompted)
    return TrackedFrame(
        frame_index=one.frame_index,
        object_ids=tuple(ids[i] for i in order),
        is_prompted=tuple(prompted[i] for i in order),
        logits=torch.cat([one.logits, other.logits])[order],
        object_logit=torch.cat([one.object_logit, other.object_logit])[order],
        predicted_iou=torch.cat([one.predicted_iou, other.predicted_iou])[order],
        ready=Ready.of(other.ready.stream) if other.ready else None,
    )
