"""One video in, one committed part out."""

import logging
import math
import resource
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from typing import Any

import pyarrow.compute as pc
import torch

from pipeline.errors import InterruptedLabelingError, ModelError, StorageError
from pipeline.labels import PartBuilder
from pipeline.labels.key import ALGORITHM_VERSION
from pipeline.labels.measures.drift import turns
from pipeline.labels.measures.frames import measure
from pipeline.logs import bound
from pipeline.manifest import prompts_to_json
from pipeline.masks import rle
from pipeline.storage import Store, Version, part_path
from pipeline.tracking import Engine, FramePrompt, MaskPostprocessor, Propagation, TrackedFrame, TrackedObject
from pipeline.tracking.merging import merge_passes
from pipeline.tracking.model import load
from pipeline.video import VideoReader, keep_freed_memory, prefetch
from pipeline.video.content import content_version, open_uri
from pipeline.workers.checkpoint import Checkpoints
from pipeline.workers.frames import ModelFrames
from pipeline.workers.metrics import Totals, WorkerMetrics
from pipeline.workers.prompts import resolve_prompts
from pipeline.workers.task import LabelerSettings, Outcome, Task

log = logging.getLogger(__name__)

RESULTS_AHEAD = 4
"""Tracked frames that wait to be encoded."""


class Labeler:
    """A loaded SAM2 video model and the way from a video to its part. Several threads may call `label` at once.

    Raises:
        ModelError: The model cannot be loaded, or its weights are not those of the plan.
    """

    def __init__(self, settings: LabelerSettings) -> None:
        torch.set_num_threads(settings.threads)
        keep_freed_memory()
        self.settings = settings
        self._sam2 = load(settings.model, revision=settings.revision, device=settings.device)
        if self._sam2.digest != settings.weights_digest:
            raise ModelError(
                f"{settings.model} has other weights on {socket.gethostname()} than where the run was planned"
            )
        parameters = settings.parameters
        self._engine = Engine(self._sam2, dtype=getattr(torch, parameters.dtype), lanes=settings.lanes)
        self._postprocessor = MaskPostprocessor(
            mask_threshold=parameters.mask_threshold,
            max_hole_area=parameters.max_hole_area,
            max_sprinkle_area=parameters.max_sprinkle_area,
            non_overlapping=parameters.non_overlapping,
        )
        self._store = Store(settings.output, storage=settings.storage)
        self._stopping = threading.Event()
        self._totals = Totals()
        self._metrics = WorkerMetrics(settings.run_id, output=str(self._store), lanes=settings.lanes)

    def progress(self) -> dict[str, float]:
        """Frames and masks labelled so far, and seconds by stage."""
        totals = self._totals.values()
        self._metrics.update(totals)
        return {"frames": 0.0, "masks": 0.0, **totals}

    def stop(self) -> None:
        """Interrupt all videos in hand at their next frame, with a checkpoint."""
        self._stopping.set()

    def label(self, task: Task) -> Outcome:
        """Label one video and commit its part, unless the part is there; go on from its checkpoint, if it has one.

        Raises:
            StorageError: The source or the output cannot be reached, or the source has changed since it was planned.
            VideoError: The video cannot be decoded.
            PromptError: A prompt does not fit the video.
            InterruptedLabelingError: `stop` was called.
        """
        started, video, path = time.perf_counter(), task.video, part_path(task.video.video_id, task.label_key)
        checkpoints = Checkpoints(store=self._store, video_id=video.video_id, label_key=task.label_key)
        if self._store.exists(path):
            return Outcome(video_id=video.video_id, frames=0, masks=0, seconds=0.0, was_there=True)
        with (
            bound(run_id=self.settings.run_id, video_id=video.video_id),
            open_uri(
                video.video_uri,
                storage=self.settings.storage,
                planned_version=task.version if video.video_version is None else None,
                start_s=video.start_s,
                end_s=video.end_s,
                fps=video.extra.get("fps"),
                on_damaged=self.settings.on_damaged,
                isolate=task.isolate,
            ) as (reader, version),
            self._builder(task, reader) as builder,
            self._builder(task, reader) as again,
        ):
            spent = Totals()
            frames = self._track(task, reader, builder, checkpoints, spent)
            if self.settings.check_drift:
                self._track_back(reader, builder, again, spent)
            row = self._videos_row(task, reader, frames, version.size, spent.values())
            row["total_s"] = time.perf_counter() - started
            categories = {p.object_id: {"category": p.category} for p in video.prompts if p.category}
            with self._totals.clock("commit_s"):
                self._check_unchanged(video.video_uri, version, checkpoints)
                written = self._store.commit_once(path, builder.finish(row, masklets=categories, again=again))
            checkpoints.remove()
            made = spent.values()
            return Outcome(
                video_id=video.video_id,
                frames=int(made.get("frames", 0)),
                masks=int(made.get("masks", 0)),
                seconds=time.perf_counter() - started,
                was_there=not written,
            )

    def _check_unchanged(self, uri: str, version: Version, checkpoints: Checkpoints) -> None:
        """What was read must be one content: not every storage refuses to go on reading a file that was replaced."""
        now = content_version(uri, storage=self.settings.storage)
        if now is not None and now.token() != version.token():
            checkpoints.remove()
            raise StorageError(
                f"{uri} was replaced while it was being labelled (version {version.token()} became {now.token()}); "
                "nothing of it is kept"
            )

    def _track(
        self, task: Task, reader: VideoReader, builder: PartBuilder, checkpoints: Checkpoints, spent: Totals
    ) -> int:
        """Propagate every object and collect its label rows; save checkpoints on the way.

        Returns how many frames the segment has, as far as this direction has seen it.
        """
        info, parameters = reader.info, self.settings.parameters
        objects = resolve_prompts(task.video.prompts, height=info.height, width=info.width, index_at=reader.index_at)
        clocks = (self._totals, spent)
        frames = ModelFrames(reader, self._sam2, clocks)
        merged = parameters.non_overlapping and parameters.direction == "both"
        saved = checkpoints.load() if task.resume and not merged else None
        last = max(frame for each in objects for frame in each.prompts)
        for rows in saved.rows if saved else ():
            builder.add_rows(rows)
            last = max(last, pc.max(rows["frame_index"]).as_py() or 0)
        done = saved.frames if saved else 0
        with self._engine.propagate(
            frames, objects, direction=parameters.direction, resume=saved.tracker if saved else None
        ) as propagation:
            steps: Iterator[TrackedFrame | bytes] = self._interruptible(propagation, checkpoints=not merged)
            for clock in clocks:
                steps = clock.timed(steps, "step_s", "blocked_s")
            if merged:
                tracked = (step for step in steps if isinstance(step, TrackedFrame))
                steps = merge_passes(tracked, last_start=max(each.start for each in objects))
            # The model runs in the other thread, encoding in this one.
            with closing(prefetch(steps, depth=RESULTS_AHEAD)) as results:
                for step in results:
                    if isinstance(step, TrackedFrame):
                        with self._totals.clock("encode_s"):
                            columns = self._columns(step, info.height, info.width)
                            builder.add(step.frame_index, frames.times[step.frame_index], columns)
                        done, last = done + 1, max(last, step.frame_index)
                        for clock in clocks:
                            clock.add("frames", 1)
                            clock.add("masks", len(step.object_ids))
                    else:
                        checkpoints.save(new_rows=builder.drain(), tracker=step, frames=done)
        return max(last + 1, reader.damage.decoded_frames)

    def _track_back(self, reader: VideoReader, builder: PartBuilder, again: PartBuilder, spent: Totals) -> None:
        """The second pass: every object once more, from the mask it was last seen with towards where it began."""
        size = (reader.info.height, reader.info.width)
        forward = self.settings.parameters.direction == "backward"
        found = turns(builder.by_object(), backward=forward)
        if not found:
            return
        objects = [
            TrackedObject(object_id=object_id, prompts={turn.frame: FramePrompt(mask=rle.decode(turn.counts, size))})
            for object_id, turn in found.items()
        ]
        ends = [turn.end for turn in found.values()]
        end = max(ends) if forward else min(ends)
        frames = ModelFrames(reader, self._sam2, (self._totals, spent))
        with self._engine.propagate(frames, objects, direction="forward" if forward else "backward") as propagation:
            steps: Iterator[TrackedFrame | bytes] = self._interruptible(propagation, checkpoints=False)
            for clock in (self._totals, spent):
                steps = clock.timed(steps, "step_s", "blocked_s")
            with closing(prefetch(steps, depth=RESULTS_AHEAD)) as results:
                for step in results:
                    assert isinstance(step, TrackedFrame)
                    columns = mask_columns(step, self._postprocessor, size)
                    again.add(step.frame_index, frames.times[step.frame_index], columns)
                    if step.frame_index == end:
                        break

    def _builder(self, task: Task, reader: VideoReader) -> PartBuilder:
        return PartBuilder(
            task.video.video_id, label_key=task.label_key, height=reader.info.height, width=reader.info.width
        )

    def _interruptible(self, propagation: Propagation, *, checkpoints: bool) -> Iterator[TrackedFrame | bytes]:
        """The propagation's frames and, between two of them, the states to save as checkpoints."""
        every_s = self.settings.checkpoint_every_s if checkpoints else math.inf
        last = time.monotonic()
        for frame in propagation:
            yield frame
            stopping = self._stopping.is_set()
            if checkpoints and (stopping or time.monotonic() - last >= every_s):
                yield propagation.checkpoint()
                last = time.monotonic()
            if stopping:
                raise InterruptedLabelingError("the worker was asked to stop")

    def _columns(self, frame: TrackedFrame, height: int, width: int) -> dict[str, Sequence[Any]]:
        """The label rows of one frame: its masks and what tells of their quality."""
        threshold = self.settings.parameters.mask_threshold
        return {
            **mask_columns(frame, self._postprocessor, (height, width)),
            **measure(frame.logits, frame.object_ids, mask_threshold=threshold),
        }

    def _videos_row(
        self, task: Task, reader: VideoReader, frames: int, size: int, spent: dict[str, float]
    ) -> dict[str, Any]:
        """The videos row: where the labels come from and what the video is."""
        info, damage, video, settings = reader.info, reader.damage, task.video, self.settings
        return {
            "outcome": "labelled",
            "uri": video.video_uri,
            "version": task.version,
            "size": size,
            "start_s": video.start_s,
            "end_s": video.end_s,
            "prompts_digest": task.prompts_digest,
            "prompts": prompts_to_json(video.prompts),
            "frames": frames,
            "fps": info.fps,
            "height": info.height,
            "width": info.width,
            "rotation": info.rotation,
            "reflected": info.reflected,
            "sample_aspect_ratio": info.sar[0] / info.sar[1] if info.sar else None,
            "variable_rate": info.variable_rate,
            "codec": info.codec,
            "pixel_format": info.pix_fmt,
            "color_range": info.color_range,
            "container_frames": info.container_frames,
            "damaged_packets": damage.damaged_packets,
            "truncated": damage.truncated,
            "model": settings.model,
            "weights_digest": settings.weights_digest,
            "parameters": settings.parameters.to_json(),
            "algorithm_version": ALGORITHM_VERSION,
            "package_version": package_version("sam2-corpus"),
            "run_id": settings.run_id,
            "worker": socket.gethostname(),
            "attempts": task.attempt,
            "committed_at": datetime.now(UTC),
            "decode_s": spent.get("decode_s", 0.0),
            "model_s": spent.get("step_s", 0.0) - spent.get("starved_s", 0.0),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "extra": video.extra,
        }


def mask_columns(
    frame: TrackedFrame, postprocessor: MaskPostprocessor, size: tuple[int, int]
) -> dict[str, Sequence[Any]]:
    """The label rows of one frame of this (height, width): finished masks as RLE, their measures, and the scores."""
    counts = rle.encode(postprocessor.masks(frame.logits, height=size[0], width=size[1]).cpu().numpy())
    return {
        "object_id": frame.object_ids,
        "is_prompted": frame.is_prompted,
        "counts": counts,
        "area": [rle.area(each) for each in counts],
        "boxes": [rle.bbox(each, size) for each in counts],
        "object_logit": frame.object_logit.tolist(),
        "predicted_iou": frame.predicted_iou.tolist(),
    }
