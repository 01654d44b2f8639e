"""The engine: one loaded model that several videos share, each a lane, stepped together."""

from collections.abc import Sequence

import torch

from pipeline.tracking.bank import BankLimits
from pipeline.tracking.lanes import Lanes
from pipeline.tracking.model import Sam2
from pipeline.tracking.prompts import Direction, FrameSource, TrackedObject
from pipeline.tracking.propagation import Propagation
from pipeline.tracking.results import Results
from pipeline.tracking.sam2.encoder import Features
from pipeline.tracking.sam2.step import Stepper
from pipeline.tracking.work import Done, Work


class Engine:
    """Propagates prompted objects through videos. Call `propagate` from as many threads as there are lanes."""

    def __init__(self, sam2: Sam2, *, dtype: torch.dtype = torch.float32, lanes: int = 1) -> None:
        """`lanes` bounds how many videos are stepped in one batch."""
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"Invalid dtype ({dtype}). Supported values are torch.float32, torch.bfloat16.")
        if lanes < 1:
            raise ValueError(f"Invalid lanes ({lanes}). There must be at least one.")
        self.image_size = sam2.image_size
        self.device = sam2.device
        self._stepper = Stepper(sam2, dtype=dtype)
        self._lanes: Lanes[Work, Done] = Lanes(self._run, most=lanes)

    @property
    def limits(self) -> BankLimits:
        return self._stepper.limits

    @property
    def max_pointers(self) -> int:
        return self._stepper.max_pointers

    @property
    def frames_ahead(self) -> int:
        """How many frames of one video to encode together: the lanes of a batch share the encoder's."""
        together = min(len(self._lanes), self._lanes.most)
        return max(1, self._stepper.frames_at_once // max(1, together))

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
        return Propagation(self, source, objects, direction=direction, resume=resume)

    def join(self, lane: object) -> None:
        self._lanes.join(lane)

    def leave(self, lane: object) -> None:
        self._lanes.leave(lane)

    def submit(self, lane: object, work: Work) -> Done:
        return self._lanes.submit(lane, work)

    def _run(self, works: Sequence[Work]) -> list[Done]:
        """All lanes' frames, prompts and tracks, each kind in one go."""
        with self._stepper.inference():
            pixels = [p for work in works for p in work.encode]
            encoded = iter(self._stepper.encode(pixels) if pixels else [])
            features = [[next(encoded) for _ in work.encode] for work in works]

            def of(lane: int, frame: Features | int) -> Features:
                return features[lane][frame] if isinstance(frame, int) else frame

            prompts = [(of(n, f), prompt) for n, work in enumerate(works) for f, prompt in work.prompts]
            tracks = [(of(n, f), recall) for n, work in enumerate(works) for f, recall in work.tracks]
            prompted = _split(self._stepper.prompt(prompts) if prompts else None, [len(w.prompts) for w in works])
            corrections = [(f, correction) for work in works for f, correction in work.corrections]
            tracked = _split(self._stepper.track(tracks) if tracks else None, [len(w.tracks) for w in works])
            corrected = _split(
                self._stepper.correct(corrections) if corrections else None, [len(w.corrections) for w in works]
            )
        done = zip(features, prompted, tracked, corrected, strict=True)
        return [Done(features=f, prompts=p, tracks=t, corrections=c) for f, p, t, c in done]


def _split(results: Results | None, counts: Sequence[int]) -> list[Results | None]:
    parts: list[Results | None] = []
    first = 0
    for count in counts:
        parts.append(results.rows(first, first + count) if results is not None and count else None)
        first += count
    return parts
