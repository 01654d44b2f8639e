"""The engine: one loaded model that several videos share, each a lane, stepped together."""

import threading
from collections.abc import Sequence

import torch

from pipeline.model import Sam2
from pipeline.tracking.bank import BankLimits
from pipeline.tracking.encoder import Features
from pipeline.tracking.prompts import Direction, FrameSource, TrackedObject
from pipeline.tracking.propagation import Done, Propagation, Work
from pipeline.tracking.step import Stepper


class Engine:
    """Propagates prompted objects through videos. Call `propagate` from as many threads as there are lanes."""

    def __init__(self, sam2: Sam2, *, dtype: torch.dtype = torch.float32, lanes: int = 1) -> None:
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"Invalid dtype ({dtype}). Supported values are torch.float32, torch.bfloat16.")
        if lanes < 1:
            raise ValueError(f"Invalid lanes ({lanes}). There must be at least one.")
        self.lanes = lanes
        self.image_size = sam2.image_size
        self.device = sam2.device
        self.dtype = dtype
        self._stepper = Stepper(sam2, dtype=dtype)
        self._lock = threading.Lock()

    @property
    def limits(self) -> BankLimits:
        return self._stepper.limits

    @property
    def max_pointers(self) -> int:
        return self._stepper.max_pointers

    @property
    def frames_ahead(self) -> int:
        return 2

    def propagate(
        self,
        source: FrameSource,
        objects: Sequence[TrackedObject],
        *,
        direction: Direction = "forward",
        resume: bytes | None = None,
    ) -> Propagation:
        """Tracked frames: the forward pass ascending, then the backward pass descending.

        `resume` is a `Propagation.checkpoint()` of the same objects: the frames after it follow, as without a break.
        """
        return Propagation(self, source, objects, direction=direction, resume=resume, on_close=lambda: None)

    def submit(self, work: Work) -> Done:
        with (
            self._lock,
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16),
        ):
            features = self._stepper.encode(work.encode) if work.encode else []

            def of(frame: Features | int) -> Features:
                return features[frame] if isinstance(frame, int) else frame

            return Done(
                features=features,
                prompts=self._stepper.prompt([(of(f), p) for f, p in work.prompts]) if work.prompts else None,
                tracks=self._stepper.track([(of(f), r) for f, r in work.tracks]) if work.tracks else None,
            )
