"""One video in, one committed part out."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch

from pipeline.errors import ModelError
from pipeline.labels import PartBuilder
from pipeline.labels.changes import leaves_earlier_frames
from pipeline.logs import bound
from pipeline.manifest.fps import check_rate
from pipeline.storage import ChangedError, Store, part_path
from pipeline.tracking import Engine, MaskPostprocessor
from pipeline.tracking.engines import choose_stepper
from pipeline.tracking.environment import environment
from pipeline.tracking.model import load
from pipeline.tracking.stepping import LoadedModel
from pipeline.video import VideoReader, keep_freed_memory
from pipeline.workers.association import categories_of, decided_columns, decider_maker, look_frames, read_planned
from pipeline.workers.checkpoint import Checkpoints
from pipeline.workers.chosen import ChosenFrames
from pipeline.workers.copying import copy_labels
from pipeline.workers.metrics import Totals, WorkerMetrics
from pipeline.workers.opening import check_unchanged, open_task
from pipeline.workers.prompts import resolve_prompts
from pipeline.workers.relabelling import EarlierLabels
from pipeline.workers.states import KeptStates
from pipeline.workers.task import LabelerSettings, Outcome, Task
from pipeline.workers.tracker import VideoTracker
from pipeline.workers.video_row import video_row


class Labeler:
    """A loaded SAM2 video model that labels videos. Several threads may call `label` at once.

    Args:
        settings: what all videos of the run share.
        on_frame: called before the rows of each frame are made, with its index, in the thread that called `label`.

    Raises:
        ModelError: The model cannot be loaded, its weights are not those of the plan, or the fast engine's results are
            not those of transformers and `settings.on_drift` is `fail`.
    """

    def __init__(self, settings: LabelerSettings, *, on_frame: Callable[[int], None] = lambda _: None) -> None:
        torch.set_num_threads(settings.threads)
        keep_freed_memory()
        self.settings = settings
        self._on_frame = on_frame
        self._model = load(settings.model, revision=settings.revision, device=settings.device)
        if self._model.digest != settings.weights_digest:
            raise ModelError(
                f"the weights of {settings.model} on {socket.gethostname()} differ from those the run was planned "
                "with; make every node load the same revision"
            )
        parameters = settings.parameters
        dtype = getattr(torch, parameters.dtype)
        choice = choose_stepper(self._model, dtype=dtype, engine=settings.engine, on_drift=settings.on_drift)
        self.warnings: Sequence[str] = [choice.warning] if choice.warning else []
        self._engine = Engine(self._model, dtype=dtype, lanes=settings.lanes, stepper=choice.stepper)
        self._postprocessor = MaskPostprocessor(
            mask_threshold=parameters.mask_threshold,
            max_hole_area=parameters.max_hole_area,
            max_sprinkle_area=parameters.max_sprinkle_area,
            non_overlapping=parameters.non_overlapping,
        )
        self._environment = {**environment(self._model.device), "engine": self._engine.kind}
        self._store = Store(settings.output, storage=settings.storage)
        self._stopping = threading.Event()
        self._totals = Totals()
        self._totals.add("engine_fallback", len(self.warnings))
        self._metrics = WorkerMetrics(settings.run_id, output=str(self._store), lanes=settings.lanes)

    @property
    def model(self) -> LoadedModel:
        return self._model

    def progress(self) -> dict[str, float]:
        """Frames and masks labelled so far, and seconds by stage."""
        totals = self._totals.values()
        self._metrics.update(totals)
        return {"frames": 0.0, "masks": 0.0, **totals}

    def stop(self) -> None:
        """Interrupt all videos in flight at their next frame, with a checkpoint."""
        self._stopping.set()

    def label(self, task: Task) -> Outcome:
        """Label one video and commit its part, from its checkpoint if it has one; do nothing if the part exists.

        Raises:
            StorageError: The source or the output cannot be reached, or the source has changed since it was planned.
            VideoError: The video cannot be decoded.
            PromptError: A prompt does not fit the video.
            InterruptedLabelingError: `stop` was called.
        """
        started, video, path = time.perf_counter(), task.video, part_path(task.video.video_id, task.label_key)
        if self._store.exists(path):
            return Outcome(video_id=video.video_id, frames=0, masks=0, seconds=0.0, was_there=True)
        if task.copy_of and (copied := copy_labels(self._store, task, self.settings)):
            return copied
        checkpoints = Checkpoints(store=self._store, video_id=video.video_id, label_key=task.label_key)
        spent = Totals()
        with (
            bound(run_id=self.settings.run_id, video_id=video.video_id),
            open_task(task, self.settings) as (reader, version),
            ExitStack() as builders,
        ):
            check_rate(video, reader)
            info = reader.info
            objects = resolve_prompts(video.prompts, height=info.height, width=info.width, index_at=reader.index_at)
            detections, make_decider = None, None
            if task.detections_digest is not None:
                detections = read_planned(video, task.detections_digest, self.settings.storage)
            chosen = None
            if task.label_rate:
                looks = look_frames(detections, reader) if detections else ()
                chosen = ChosenFrames(reader, task.label_rate, objects, also=looks)
                objects = chosen.positions_of(objects)
            tracker = self._tracker(task, reader, spent, chosen)
            if detections is not None:
                cuts = task.cuts if chosen is None else chosen.ends_before(task.cuts)
                make_decider = decider_maker(
                    detections,
                    replace(self.settings.association, cuts=cuts),
                    reader=reader,
                    objects=objects,
                    postprocessor=self._postprocessor,
                    chosen=chosen,
                )
            first, second = builders.enter_context(_builder(task, reader)), None
            earlier_labels = EarlierLabels(
                store=self._store, task=task, settings=self.settings, reader=reader, environment=self._environment
            )
            keeper = self._keeper(task)
            done = tracker.first_pass(
                objects,
                first,
                checkpoints,
                resume=task.resume,
                make_decider=make_decider,
                earlier_labels=earlier_labels,
                keeper=keeper,
            )
            frames, associator = done.frames, done.decider
            if self.settings.check_drift:
                second = builders.enter_context(_builder(task, reader))
                tracker.second_pass(objects, first, second)
            seconds = {**spent.values(), "total_s": time.perf_counter() - started}
            row = video_row(
                task,
                self.settings,
                reader,
                frames=frames,
                size=version.size,
                seconds=seconds,
                environment=self._environment,
                relabelled_from=done.earlier.before if done.earlier else None,
            )
            if associator is not None and detections is not None:
                row |= decided_columns(video, associator, len(detections.bad_rows))
            categories = categories_of(video, associator)
            with self._totals.clock("commit_s"):
                try:
                    check_unchanged(video.video_uri, version, self.settings)
                except ChangedError:
                    checkpoints.remove()
                    raise
                labelled = None if chosen is None else chosen.up_to(frames - 1)
                part = first.finish(row, masklets=categories, second_pass=second, labelled_frames=labelled)
                written = self._store.commit_once(path, part)
                if keeper and written:
                    keeper.commit(part, environment=self._environment, inputs=self._inputs(task))
                elif keeper:
                    keeper.discard()
            checkpoints.remove()
        made = spent.values()
        return Outcome(
            video_id=video.video_id,
            frames=int(made.get("frames", 0)),
            masks=int(made.get("masks", 0)),
            seconds=time.perf_counter() - started,
            was_there=not written,
            truncated=reader.damage.truncated,
            damaged=reader.damage.any and not reader.damage.truncated,
        )

    def _keeper(self, task: Task) -> KeptStates | None:
        """What keeps states of the video; None if none are kept, or none could be used."""
        parameters = task.parameters or self.settings.parameters
        if not self.settings.keep_states or not leaves_earlier_frames(parameters):
            return None
        return KeptStates(
            store=self._store,
            video_id=task.video.video_id,
            label_key=task.label_key,
            most=self.settings.keep_states,
        )

    def _inputs(self, task: Task) -> dict[str, str | None]:
        """The inputs of the label key that other prompts change."""
        detections = task.detections_digest
        association = None if detections is None else self.settings.association.to_json()
        return {"prompts": task.prompts_digest, "detections": detections, "association": association}

    def _tracker(self, task: Task, reader: VideoReader, spent: Totals, chosen: ChosenFrames | None) -> VideoTracker:
        parameters = task.parameters or self.settings.parameters
        return VideoTracker(
            engine=self._engine,
            model=self._model,
            postprocessor=self._postprocessor,
            reader=reader,
            direction=parameters.direction,
            max_conditioning_frames=parameters.max_conditioning_frames,
            retire_after_s=parameters.retire_after_s,
            checkpoint_every_s=self.settings.checkpoint_every_s,
            clocks=(self._totals, spent),
            stopping=self._stopping,
            chosen=chosen,
            on_frame=self._on_frame,
        )


def _builder(task: Task, reader: VideoReader) -> PartBuilder:
    info = reader.info
    return PartBuilder(task.video.video_id, label_key=task.label_key, height=info.height, width=info.width)
