"""Measures a calibration: trials in as many processes as the machine would run actors, all at the same time."""

import multiprocessing
import os
import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import fmean
from threading import BrokenBarrierError
from typing import Any, Literal

from pipeline import logs
from pipeline.errors import CorpusError, UsageError
from pipeline.labels.key import Dtype, Parameters
from pipeline.manifest import Video
from pipeline.runs.calibration import Calibration, Rate
from pipeline.storage import Storage
from pipeline.tracking.modelfiles import ResolvedModel
from pipeline.workers.cluster import workers_environment
from pipeline.workers.task import LabelerSettings


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What to measure.

    Raises:
        UsageError: A value is not allowed.
    """

    model: ResolvedModel
    revision: str | None = None
    device: Literal["cpu", "cuda"]
    dtype: Dtype = "float32"
    objects: tuple[int, ...] = (1, 5, 20)
    lanes: tuple[int, ...] = (1, 8)
    actors: int
    gpus: int = 0
    """GPUs of the machine; actors share them in turn."""
    cpus_per_actor: float = 1.0
    seconds: float = 90.0
    """Of all trials together, without loading models."""

    def __post_init__(self) -> None:
        for name, values in (("objects", self.objects), ("lanes", self.lanes), ("actors", (self.actors,))):
            if not all(1 <= value <= 256 for value in values):
                raise UsageError(f"--{name} is {' '.join(map(str, values))}; allowed are 1 to 256")
        for name, number in (("seconds", self.seconds), ("cpus-per-actor", self.cpus_per_actor)):
            if not 0 < number < float("inf"):
                raise UsageError(f"--{name} is {number!r}; allowed is a number above 0")

    @property
    def combinations(self) -> list[tuple[int, int]]:
        """(objects, lanes) in the order in which they are measured: by lanes, because these need another labeler."""
        return [(objects, lanes) for lanes in sorted(set(self.lanes)) for objects in sorted(set(self.objects))]


def measure(measurement: Measurement, video: Video, *, storage: Storage) -> Calibration:
    """Run the trials of a measurement on a clip of this video, and take the mean over actors.

    Raises:
        CorpusError: The model cannot be loaded, or the video cannot be labelled.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    answers: Any = context.Queue()
    turn = context.Barrier(measurement.actors)
    processes = [
        context.Process(target=_run_actor, args=(number, measurement, video, storage, turn, answers, time.time()))
        for number in range(measurement.actors)
    ]
    try:
        with workers_environment():
            for process in processes:
                process.start()
        reports = _collect(answers, processes)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            process.join()
    return _calibration(measurement, reports)


def _run_actor(
    number: int, measurement: Measurement, video: Video, storage: Storage, turn: Any, answers: Any, began: float
) -> None:
    """One actor's process: sends ("end", what was measured), or ("error", why it could not)."""
    if measurement.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = _visible_gpu(number % measurement.gpus)
    logs.setup_from_environment()
    from pipeline.tracking.environment import environment  # torch reads the environment when it is imported
    from pipeline.workers.trial import clip_of, trials

    try:
        settings = LabelerSettings(
            output="",
            storage=storage,
            model=measurement.model.name,
            revision=measurement.revision,
            weights_digest=measurement.model.digest,
            device=measurement.device,
            threads=max(1, int(measurement.cpus_per_actor)),
            lanes=1,
            parameters=Parameters(dtype=measurement.dtype),
            on_damaged="label",
            checkpoint_every_s=1e9,
            run_id="calibration",
        )
        clip, described = clip_of(video, storage)
        values: list[Any] = []
        for value in trials(
            settings,
            clip,
            measurement.combinations,
            seconds=measurement.seconds / len(measurement.combinations),
            object_cost=measurement.model.object_cost,
            wait=turn.wait,
        ):
            if not values:
                values.append(time.time() - began)
            values.append(value)
        import torch

        answers.put(("end", (values, described, environment(torch.device(measurement.device)))))
    except BrokenBarrierError:
        pass  # another actor failed and sent why
    except Exception as error:
        text = str(error) if isinstance(error, CorpusError) else f"{type(error).__name__}: {error}"
        answers.put(("error", (isinstance(error, UsageError), text)))
        turn.abort()


def _visible_gpu(number: int) -> str:
    """The n-th GPU that this process may use, as CUDA_VISIBLE_DEVICES names it."""
    allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return allowed[number] if allowed else str(number)


def _collect(answers: Any, processes: Sequence[Any]) -> list[Any]:
    """What each process measured, in any order.

    Raises:
        CorpusError: A process failed or died.
    """
    reports: list[Any] = []
    while len(reports) < len(processes):
        dead = [process for process in processes if process.exitcode not in (None, 0)]
        try:
            what, value = answers.get(timeout=1)
        except queue.Empty:
            if dead:
                raise CorpusError(
                    f"a process of the calibration died with exit code {dead[0].exitcode}; was the memory short?"
                ) from None
            continue
        if what == "error":
            is_usage, text = value
            raise UsageError(text) if is_usage else CorpusError(f"the calibration failed: {text}")
        reports.append(value)
    return reports


def _calibration(measurement: Measurement, reports: Sequence[Any]) -> Calibration:
    """The mean over actors. Pairs of objects and lanes that an actor left out for lack of time are left out."""
    measured = list(zip(*(values for values, _, _ in reports), strict=True))
    starts, decoding, per_pair = measured[0], measured[1], measured[2:]
    kept = [trials for trials in per_pair if None not in trials]
    ends = [trial.video_s for trials in kept for trial in trials if trial.video_s is not None]
    rates = [
        Rate(
            objects=trials[0].objects,
            lanes=trials[0].lanes,
            frames_per_s=fmean(trial.frames_per_s for trial in trials),
            video_s=fmean([t.video_s for t in trials if t.video_s is not None] or ends or [0.0]),
            frames=sum(trial.frames for trial in trials),
            full_memory=all(trial.full_memory for trial in trials),
            starved=fmean(trial.starved for trial in trials),
            memory_bytes=max(trial.memory_bytes for trial in trials),
            gpu_memory_bytes=max(trial.gpu_memory_bytes for trial in trials),
        )
        for trials in kept
    ]
    _, clip, environment = reports[0]
    return Calibration(
        model=measurement.model.name,
        weights_digest=measurement.model.digest,
        dtype=measurement.dtype,
        object_cost=measurement.model.object_cost,
        machine={**environment, "cores": len(os.sched_getaffinity(0)), "sam2_corpus_version": version("sam2-corpus")},
        clip=clip,
        actors=measurement.actors,
        gpus_per_actor=min(1.0, measurement.gpus / measurement.actors),
        cpus_per_actor=measurement.cpus_per_actor,
        start_s=fmean(starts),
        decode_frames_per_core_s=1 / fmean(decoding),
        encode_masks_per_core_s=1 / fmean(trial.encode_s for trials in kept for trial in trials),
        rates=rates,
    )
