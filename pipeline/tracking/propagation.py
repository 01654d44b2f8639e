"""The order of things: prompted frames first, then forward, then backward; what is yielded, and what a resume needs."""

import json
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from types import TracebackType

import torch
from safetensors.torch import load, save

from pipeline.errors import PromptError
from pipeline.tracking.bank import MemoryBank, Recall
from pipeline.tracking.encoder import Features
from pipeline.tracking.prompts import (
    Direction,
    FramePrompt,
    FrameSource,
    ModelPrompt,
    TrackedFrame,
    TrackedObject,
    to_model,
)
from pipeline.tracking.step import Correction, Results
from pipeline.tracking.work import Model, Work

PROMPTED_FRAMES_AT_ONCE = 4
"""How many prompted frames are decoded and held together before propagation."""

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(n, h, w) logits, (n,) object logits, (n,) predicted IoUs."""


class Propagation(Iterator[TrackedFrame]):
    """Tracked frames of one video, in the order stepped; close it when leaving early. Not to be shared by threads."""

    def __init__(
        self,
        model: Model,
        source: FrameSource,
        objects: Sequence[TrackedObject],
        *,
        direction: Direction,
        resume: bytes | None,
    ) -> None:
        if direction not in ("forward", "backward", "both"):
            raise ValueError(f"Invalid direction ({direction}). Supported values are forward, backward, both.")
        if not objects:
            raise ValueError("Nothing to track: no objects.")
        if len({o.object_id for o in objects}) != len(objects):
            raise ValueError("Object ids must be unique.")
        for o in objects:
            for t in o.corrections:
                if (direction == "forward" and t < o.start) or (direction == "backward" and t > o.start):
                    raise PromptError(
                        f"Object {o.object_id} has a correction on frame {t}, which tracking {direction} from frame "
                        f"{o.start} does not reach."
                    )
        self._model = model
        self._source = source
        self._objects = tuple(objects)
        self._direction = direction
        self._banks = [
            MemoryBank(start=o.start, limits=model.limits, keep_start=direction == "both") for o in self._objects
        ]
        self._prompted: dict[tuple[int, int], Rows] = {}
        """Rows of prompted frames that are not yet yielded, by frame and object's position."""
        self._reverse = direction == "backward"
        self._next = self._first(reverse=self._reverse)
        self._max_pointers: int | None = None
        self._primed = False
        if resume is not None:
            self._restore(resume)
        self._frames = self._run()
        self._lane = object()

    def __next__(self) -> TrackedFrame:
        return next(self._frames)

    def close(self) -> None:
        self._frames.close()

    def __enter__(self) -> "Propagation":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_frames"):
            self.close()

    def checkpoint(self) -> bytes:
        """All that continues from the frames yielded so far, as safetensors; call it between two frames."""
        tensors = {f"{i}/{name}": t for i, bank in enumerate(self._banks) for name, t in bank.to_tensors().items()}
        for (frame, i), row in self._prompted.items():
            tensors |= {f"row/{frame}/{i}/{n}": part for n, part in enumerate(row)}
        place = {
            **self._identity(),
            "primed": self._primed,
            "reverse": self._reverse,
            "next": self._next,
            "max_pointers": self._max_pointers,
        }
        return save({name: t.contiguous().cpu() for name, t in tensors.items()}, {"propagation": json.dumps(place)})

    def _identity(self) -> dict[str, object]:
        return {
            "direction": self._direction,
            "objects": [[o.object_id, *sorted([*o.prompts, *o.corrections])] for o in self._objects],
        }

    def _restore(self, state: bytes) -> None:
        header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])
        place = json.loads(header["__metadata__"]["propagation"])
        if {name: place[name] for name in self._identity()} != self._identity():
            raise ValueError("This checkpoint belongs to other objects, prompts or direction.")
        tensors = {name: t.to(self._model.device) for name, t in load(state).items()}
        for i, bank in enumerate(self._banks):
            own = f"{i}/"
            bank.load({name.removeprefix(own): t for name, t in tensors.items() if name.startswith(own)})
        for name in tensors:
            if name.startswith("row/") and name.endswith("/0"):
                _, frame, position, _ = name.split("/")
                logits, object_logit, predicted_iou = (tensors[name[:-1] + str(n)] for n in range(3))
                self._prompted[int(frame), int(position)] = (logits, object_logit, predicted_iou)
        self._primed = place["primed"]
        self._reverse = place["reverse"]
        self._next = place["next"]
        self._max_pointers = place["max_pointers"]

    def _first(self, *, reverse: bool) -> int:
        starts = [o.start for o in self._objects]
        if not reverse:
            return min(starts)
        return max(starts) - (self._direction == "both")

    def _run(self) -> Generator[TrackedFrame, None, None]:
        self._model.join(self._lane)
        try:
            yield from self._passes()
        finally:
            self._model.leave(self._lane)

    def _passes(self) -> Iterator[TrackedFrame]:
        if not self._primed:
            self._run_prompts()
            self._primed = True
        if not self._reverse:
            yield from self._pass(self._source.forward(self._next))
            if self._direction == "forward":
                return
            self._reverse = True
            self._next = self._first(reverse=True)
        if self._next < 0:
            return
        self._count_frames()
        yield from self._pass(self._source.backward(self._next))

    def _run_prompts(self) -> None:
        """Every prompted frame of every object, in frame order, each without memory."""
        if last := max((t for o in self._objects for t in o.corrections), default=None):
            self._at([last])  # before hours of tracking, not after
        frames = sorted({t for o in self._objects for t in o.prompts})
        for first in range(0, len(frames), PROMPTED_FRAMES_AT_ONCE):
            chunk = frames[first : first + PROMPTED_FRAMES_AT_ONCE]
            pixels = self._at(chunk)
            work = Work(encode=[pixels[t] for t in chunk])
            asked = [(t, i) for t in chunk for i, o in enumerate(self._objects) if t in o.prompts]
            for t, i in asked:
                work.prompts.append((chunk.index(t), self._to_model(self._objects[i].prompts[t])))
            results = self._model.submit(self._lane, work).prompts
            assert results is not None
            for n, (t, i) in enumerate(asked):
                row = results.rows(n, n + 1)
                self._banks[i].add_prompted(t, row.memory[0], row.pointer[0])
                if self._direction != "backward" or t == self._objects[i].start:
                    self._prompted[t, i] = (row.logits.clone(), row.object_logit.clone(), row.predicted_iou.clone())

    def _at(self, frames: Sequence[int]) -> Mapping[int, torch.Tensor]:
        pixels = self._source.at(frames)
        for t in frames:
            if t not in pixels:
                raise PromptError(f"A prompt is on frame {t}, but the video ends before it.")
        return pixels

    def _to_model(self, prompt: FramePrompt) -> ModelPrompt:
        source = self._source
        return to_model(prompt, height=source.height, width=source.width, target=self._model.image_size)

    def _pass(self, frames: Iterator[tuple[int, torch.Tensor]]) -> Iterator[TrackedFrame]:
        if not self._reverse:
            frames = self._peek(frames)
        ready: deque[tuple[int, torch.Tensor | Features | None]] = deque()
        try:
            while True:
                if not ready:
                    self._fill(ready, frames)
                if not ready:
                    return
                yield self._step(ready)
        finally:
            close = getattr(frames, "close", None)
            if close is not None:
                close()

    def _fill(
        self, ready: deque[tuple[int, torch.Tensor | Features | None]], frames: Iterator[tuple[int, torch.Tensor]]
    ) -> None:
        """Read on until enough frames are together that must be encoded."""
        wanted = self._model.frames_ahead
        while wanted > 0:
            frame = next(frames, None)
            if frame is None:
                return
            t, pixels = frame
            needed = any(t not in o.prompts for _, o in self._active(t))
            ready.append((t, pixels if needed else None))
            wanted -= needed
            if not needed and len(ready) == 1:
                return

    def _active(self, t: int) -> list[tuple[int, TrackedObject]]:
        """The objects that have a row on frame t in this pass."""
        if not self._reverse:
            return [(i, o) for i, o in enumerate(self._objects) if o.start <= t]
        own_row = self._direction == "backward"
        return [(i, o) for i, o in enumerate(self._objects) if t < o.start or (own_row and t == o.start)]

    def _step(self, ready: deque[tuple[int, torch.Tensor | Features | None]]) -> TrackedFrame:
        t, frame = ready[0]
        active = self._active(t)
        tracked = [i for i, o in active if t not in o.prompts]
        results = None
        if tracked:
            assert self._max_pointers is not None
            work = Work()
            if isinstance(frame, torch.Tensor):
                work.encode = [pixels for _, pixels in ready if isinstance(pixels, torch.Tensor)]
            features: Features | int = frame if isinstance(frame, Features) else 0
            recalls = [
                self._banks[i].recall(t, reverse=self._reverse, max_pointers=self._max_pointers) for i in tracked
            ]
            work.tracks = [(features, recall) for recall in recalls]
            done = self._model.submit(self._lane, work)
            encoded = iter(done.features)
            for n, (index, pixels) in enumerate(ready):
                if isinstance(pixels, torch.Tensor):
                    ready[n] = (index, next(encoded))
            results = done.tracks
            assert results is not None
            results = self._corrected(t, ready[0][1], tracked, recalls, results)
            for n, i in enumerate(tracked):
                self._banks[i].add_tracked(t, results.memory[n], results.pointer[n], reverse=self._reverse)
        ready.popleft()
        rows: list[Rows] = []
        if results is not None and len(tracked) == len(active):
            rows.append((results.logits, results.object_logit, results.predicted_iou))
        else:
            for i, o in active:
                if t in o.prompts:
                    rows.append(self._prompted.pop((t, i)))
                elif results is not None:
                    n = tracked.index(i)
                    row = results.rows(n, n + 1)
                    rows.append((row.logits, row.object_logit, row.predicted_iou))
        logits, object_logit, predicted_iou = (
            torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*rows, strict=True)
        )
        # From here on a checkpoint continues after frame t.
        self._next = t - 1 if self._reverse else t + 1
        return TrackedFrame(
            frame_index=t,
            object_ids=tuple(o.object_id for _, o in active),
            is_prompted=tuple(o.says(t) for _, o in active),
            logits=logits,
            object_logit=object_logit,
            predicted_iou=predicted_iou,
        )

    def _corrected(
        self,
        t: int,
        features: torch.Tensor | Features | None,
        tracked: Sequence[int],
        recalls: Sequence[Recall],
        results: Results,
    ) -> Results:
        """The results, those of objects that have a correction on frame t replaced."""
        places = [n for n, i in enumerate(tracked) if t in self._objects[i].corrections]
        if not places:
            return results
        assert isinstance(features, Features)
        work = Work()
        for n in places:
            prompt = self._to_model(self._objects[tracked[n]].corrections[t])
            work.corrections.append((features, Correction(recall=recalls[n], prompt=prompt, logits=results.logits[n])))
        corrected = self._model.submit(self._lane, work).corrections
        assert corrected is not None
        order = [len(tracked) + places.index(n) if n in places else n for n in range(len(tracked))]
        return Results.cat([results, corrected]).ordered(order)

    def _peek(self, frames: Iterator[tuple[int, torch.Tensor]]) -> Iterator[tuple[int, torch.Tensor]]:
        """Read ahead as far as it takes to know min(video length, the pointers' limit): pointers are scaled by it."""
        if self._max_pointers is not None:
            return frames
        head: list[tuple[int, torch.Tensor]] = []
        reached = self._known_frames()
        while reached < self._model.max_pointers:
            frame = next(frames, None)
            if frame is None:
                break
            head.append(frame)
            reached = max(reached, frame[0] + 1)
        self._max_pointers = min(reached, self._model.max_pointers)
        return _chain(head, frames)

    def _known_frames(self) -> int:
        return 1 + max(t for o in self._objects for t in o.prompts)

    def _count_frames(self) -> None:
        """The same for a backward pass that no forward pass came before."""
        if self._max_pointers is None:
            reached = self._known_frames()
            if reached < self._model.max_pointers:
                ahead = self._source.forward(reached - 1)
                for t, _ in ahead:
                    reached = max(reached, t + 1)
                    if reached >= self._model.max_pointers:
                        break
                close = getattr(ahead, "close", None)
                if close is not None:
                    close()
            self._max_pointers = min(reached, self._model.max_pointers)


def _chain(
    head: list[tuple[int, torch.Tensor]], rest: Iterator[tuple[int, torch.Tensor]]
) -> Iterator[tuple[int, torch.Tensor]]:
    head.reverse()
    while head:
        yield head.pop()
    try:
        yield from rest
    finally:
        close = getattr(rest, "close", None)
        if close is not None:
            close()
