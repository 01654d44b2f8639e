"""The engine: one loaded model shared by several videos, each in a lane, stepped together."""

from collections.abc import Sequence

import torch

from pipeline.tracking import EngineKind
from pipeline.tracking.bank import BankLimits
from pipeline.tracking.causal import CausalPropagation
from pipeline.tracking.clocks import batch_clock
from pipeline.tracking.decisions import Decider
from pipeline.tracking.environment import use_ieee_float32
from pipeline.tracking.lanes import Lanes
from pipeline.tracking.objects import Direction, FramePrompt, FrameSource, TrackedObject
from pipeline.tracking.propagation import Propagation
from pipeline.tracking.results import Results
from pipeline.tracking.retirement import RetirementRule
from pipeline.tracking.stepping import Features, LoadedModel, ModelPrompt, Stepper, StepRequest, StepResult
from pipeline.tracking.transfer import mark


class Engine:
    """Propagates prompted objects through videos. Call `propagate` from as many threads as there are lanes."""

    def __init__(
        self,
        model: LoadedModel,
        *,
        dtype: torch.dtype = torch.float32,
        lanes: int = 1,
        stepper: Stepper | None = None,
    ) -> None:
        """`lanes` is the maximum number of videos stepped in one batch; `stepper` replaces the model's own."""
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"Invalid dtype ({dtype}). Supported values are torch.float32, torch.bfloat16.")
        if lanes < 1:
            raise ValueError(f"Invalid lanes ({lanes}). It must be at least 1.")
        self.device = model.device
        self.image_size = model.image_size
        if self.device.type == "cuda":
            use_ieee_float32()
        self._stepper = stepper or model.stepper(dtype=dtype)
        self._lanes: Lanes[StepRequest, StepResult] = Lanes(self._run, max_lanes=lanes, clock=batch_clock(model.device))

    @property
    def kind(self) -> EngineKind:
        """Which of the two engines steps the videos."""
        return self._stepper.engine

    @property
    def limits(self) -> BankLimits:
        return self._stepper.limits

    @property
    def max_pointers(self) -> int:
        return self._stepper.max_pointers

    @property
    def frames_ahead(self) -> int:
        """Number of frames of one video to encode together. The lanes of a batch share the encoder's batch."""
        return max(1, self._stepper.frames_at_once // max(1, min(self.open_lanes, self._lanes.max_lanes)))

    @property
    def frames_at_once(self) -> int:
        """Number of frames that the encoder takes in one batch."""
        return self._stepper.frames_at_once

    @property
    def open_lanes(self) -> int:
        """Number of propagations that have begun and not ended."""
        return len(self._lanes)

    def propagate(
        self,
        source: FrameSource,
        objects: Sequence[TrackedObject],
        *,
        direction: Direction = "forward",
        resume: bytes | None = None,
        branch: bytes | None = None,
        max_conditioning_frames: int | None = None,
        decider: Decider | None = None,
        retirement: RetirementRule | None = None,
    ) -> Propagation:
        """Tracked frames: the forward pass ascending, then the backward pass descending.

        Args:
            source: the video's frames.
            objects: the prompted objects.
            direction: forward, backward or both.
            resume: a `Propagation.checkpoint()` of the same objects: the frames after it follow, bit by bit the same.
            branch: a `Propagation.branch_state()` of objects that are the same before its frame and may differ from
                there on; direction forward. The frames after it follow, bit by bit as in a whole propagation.
            max_conditioning_frames: attend to so many prompted frames, the latest ones that the pass has reached;
                None: to all, also to later ones, up to the model's own limit.
            decider: decides on more objects and prompts; needs `max_conditioning_frames`.
            retirement: when one of `objects` ends by itself. In a later prompt of the same object it begins again, and
                attends to no frame before that prompt. In direction `both` the backward pass follows the object back
                from its first prompt and ends it by the same rule.
        """
        if max_conditioning_frames is None:
            if decider is not None:
                raise ValueError("A decider needs max_conditioning_frames.")
            return Propagation(
                self, source, objects, direction=direction, resume=resume, branch=branch, retirement=retirement
            )
        return CausalPropagation(
            self,
            source,
            objects,
            direction=direction,
            resume=resume,
            branch=branch,
            max_conditioning_frames=max_conditioning_frames,
            decider=decider,
            retirement=retirement,
        )

    def prepare(self, prompt: FramePrompt, *, height: int, width: int) -> ModelPrompt:
        return self._stepper.prepare(prompt, height=height, width=width)

    def join(self, lane: object) -> None:
        self._lanes.join(lane)

    def leave(self, lane: object) -> None:
        self._lanes.leave(lane)

    def submit(self, lane: object, request: StepRequest) -> StepResult:
        return self._lanes.submit(lane, request)

    def _run(self, requests: Sequence[StepRequest]) -> list[StepResult]:
        """All lanes' frames, prompts, tracks and corrections, each kind in one batch."""
        stepper = self._stepper
        with stepper.inference():
            pixels = [p for request in requests for p in request.encode]
            encoded = iter(stepper.encode(pixels) if pixels else [])
            features = [[next(encoded) for _ in request.encode] for request in requests]

            def of(lane: int, frame: Features | int) -> Features:
                return features[lane][frame] if isinstance(frame, int) else frame

            prompts = [(of(n, f), prompt) for n, request in enumerate(requests) for f, prompt in request.prompts]
            tracks = [(of(n, f), context) for n, request in enumerate(requests) for f, context in request.tracks]
            corrections = [item for request in requests for item in request.corrections]
            prompted = _split(stepper.prompt(prompts) if prompts else None, [len(r.prompts) for r in requests])
            tracked = _split(stepper.track(tracks) if tracks else None, [len(r.tracks) for r in requests])
            corrected = _split(
                stepper.correct(corrections) if corrections else None, [len(r.corrections) for r in requests]
            )
            done = mark(self.device)
        results = zip(features, prompted, tracked, corrected, strict=True)
        return [StepResult(features=f, prompts=p, tracks=t, corrections=c, done=done) for f, p, t, c in results]


def _split(results: Results | None, counts: Sequence[int]) -> list[Results | None]:
    """Each lane's rows; None for a lane that asked for none."""
    if results is None:
        return [None] * len(counts)
    return [rows if count else None for rows, count in zip(results.split(counts), counts, strict=True)]
