"""Labelling trials: how fast one worker labels a clip with some number of objects and lanes."""

import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from pipeline.errors import PromptError, VideoError
from pipeline.manifest import Video
from pipeline.manifest.fps import rate_of
from pipeline.storage import Storage, redact
from pipeline.tracking.stepping import LoadedModel
from pipeline.video import VideoReader
from pipeline.video.content import content_version, open_uri
from pipeline.workers.labeler import Labeler
from pipeline.workers.metrics import gpu_peak_bytes, rss_bytes
from pipeline.workers.task import LabelerSettings, Task

CLIP_FRAMES = 64
"""Frames of the clip that are labelled, from its first prompt on."""
WARM_FRAMES = 17
"""Frames until a track has all its memories and pointers."""
MIN_FRAMES = 3
"""Frames of each lane that a trial waits for, however long they take."""
DECODE_S = 3.0
"""Seconds for which decoding alone is measured."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one worker did with some number of objects and lanes."""

    objects: int
    lanes: int
    frames_per_s: float
    """Of all lanes together."""
    video_s: float | None
    """Seconds of the worker per video in addition to those of its frames; None if the clip was not finished."""
    frames: int
    full_memory: bool
    starved: float
    """Share of the time of the lanes."""
    encode_s: float
    """CPU seconds per mask for postprocessing, RLE and rows."""
    memory_bytes: int
    gpu_memory_bytes: int


class TimeIsUpError(Exception):
    """Ends the labelling of a clip."""


def clip_of(video: Video, storage: Storage) -> tuple[Video, dict[str, Any]]:
    """The part of a video that trials label, with its earliest prompts, and a description of it.

    Raises:
        StorageError: The video cannot be read.
        VideoError: It cannot be decoded, or has a single frame.
        PromptError: A prompt is beyond its end.
    """
    with _opened(video, storage) as reader:
        prompts = [
            replace(p, frame_index=reader.index_at([p.time_s])[0], time_s=None) if p.time_s is not None else p
            for p in video.prompts
            if not p.correct
        ]
        if not prompts:
            raise PromptError(f"{video.video_uri} has no prompts, and only prompted objects can be measured")
        first = min(p.frame_index or 0 for p in prompts)
        end_s, last = None, first
        for frame in reader.forward(first):
            last = frame.index
            if last == first + CLIP_FRAMES:
                end_s = frame.time_s
                break
        if last == first:
            raise VideoError(f"{video.video_uri} has no frame after its prompt, so that nothing can be measured on it")
        clip = {"video_uri": redact(video.video_uri), "height": reader.info.height, "width": reader.info.width}
    earliest = tuple(p for p in prompts if (p.frame_index or 0) == first)
    return replace(video, prompts=earliest, end_s=video.end_s if end_s is None else end_s), clip


def with_objects(video: Video, count: int) -> Video:
    """The video with this number of objects: its own, repeated under other ids.

    Objects do not influence each other, so an object costs the same beside a copy of itself.
    """
    ids = list(dict.fromkeys(prompt.object_id for prompt in video.prompts))
    made = [
        replace(prompt, object_id=n)
        for n in range(count)
        for prompt in video.prompts
        if prompt.object_id == ids[n % len(ids)]
    ]
    return replace(video, prompts=tuple(made))


@contextmanager
def _opened(video: Video, storage: Storage) -> Iterator[VideoReader]:
    rate = rate_of(video)
    with open_uri(video.video_uri, storage=storage, start_s=video.start_s, end_s=video.end_s, fps=rate) as (reader, _):
        yield reader


def decode_s(video: Video, model: LoadedModel, storage: Storage) -> float:
    """CPU seconds in which a frame of the video is decoded and resized for the model."""
    frames, began, ends = 0, time.process_time(), time.monotonic() + DECODE_S
    while time.monotonic() < ends:
        with _opened(video, storage) as reader:
            for frame in reader.forward(0):
                model.resize(frame.rgb)
                frames += 1
                if time.monotonic() >= ends:
                    break
    return (time.process_time() - began) / max(frames, 1)


class Worker:
    """A labeler whose frames are timed."""

    def __init__(self, settings: LabelerSettings) -> None:
        self.settings = settings
        self._timeline = _Timeline()
        self._labeler = Labeler(settings, on_frame=self._timeline.add)
        self._labels = 0

    @property
    def model(self) -> LoadedModel:
        return self._labeler.model

    def run(self, video: Video, *, objects: int, seconds: float) -> Trial:
        """Label the clip in all lanes, again and again for this time, at least until each has labelled MIN_FRAMES."""
        lanes, ends = self.settings.lanes, time.monotonic() + seconds
        clip = with_objects(video, objects)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        rounds = [self._round(clip, ends)]
        while time.monotonic() < ends:
            rounds.append(self._round(clip, ends))
        whole = [each for each in rounds if each.frames_per_s]
        settled = [each for each in whole[1:] if each.full_memory] or whole[-1:]  # the first also warms up
        finished = [each for each in settled if each.finished]
        rate = median(each.frames_per_s for each in settled)
        return Trial(
            objects=objects,
            lanes=lanes,
            frames_per_s=rate,
            video_s=median((e.seconds - e.lane_frames / rate) / lanes for e in finished) if finished else None,
            frames=sum(each.frames for each in settled),
            full_memory=settled[0].full_memory,
            starved=median(each.starved for each in settled),
            encode_s=median(each.encode_s for each in settled) / objects,
            memory_bytes=int(max(each.memory_bytes for each in rounds)),
            gpu_memory_bytes=int(gpu_peak_bytes()),
        )

    def _round(self, video: Video, ends: float) -> "_Round":
        """Label the clip once in every lane, all at the same time."""
        lanes = self.settings.lanes
        tasks = []
        for _ in range(lanes):
            self._labels += 1
            tasks.append(_task(video, f"{self._labels:064x}", self.settings.storage))
        starved = self._labeler.progress().get("starved_s", 0.0)
        self._timeline.begin(lanes, ends)
        with ThreadPoolExecutor(lanes) as pool:
            finished = all(pool.map(self._label, tasks))
        waited = self._labeler.progress().get("starved_s", 0.0) - starved
        return self._timeline.end(finished=finished, waited=waited)

    def _label(self, task: Task) -> bool:
        """Whether the clip was labelled to its end."""
        try:
            self._labeler.label(task)
        except TimeIsUpError:
            return False
        return True


def _task(video: Video, key: str, storage: Storage) -> Task:
    version = content_version(video.video_uri, storage=storage)
    token = video.video_version or (version.token() if version else "")
    return Task(video=video, label_key=key, version=token, prompts_digest=key, attempt=1, isolate=False)


@dataclass(frozen=True, kw_only=True)
class _Round:
    frames_per_s: float
    """0 if no lane labelled two frames."""
    seconds: float
    lane_frames: int
    """Frames of all lanes, from the first one."""
    frames: int
    """Those that were measured."""
    full_memory: bool
    finished: bool
    starved: float
    encode_s: float
    memory_bytes: float


class _Timeline:
    """When each lane's frames were tracked. A lane's rows are made in one thread, which calls `add`."""

    def begin(self, lanes: int, ends: float) -> None:
        self._lanes, self._ends = lanes, ends
        self._began = time.monotonic()
        self._moments: dict[int, list[float]] = defaultdict(list)
        self._cpu: dict[int, list[float]] = defaultdict(list)
        self._memory = 0.0

    def add(self, _: int) -> None:
        """Note a frame.

        Raises:
            TimeIsUpError: The trial's time is over and each lane has labelled enough.
        """
        lane = threading.get_ident()
        self._moments[lane].append(time.monotonic())
        self._cpu[lane].append(time.thread_time())
        self._memory = max(self._memory, rss_bytes())
        done = [len(moments) for moments in list(self._moments.values())]
        if time.monotonic() >= self._ends and len(done) == self._lanes and min(done) >= MIN_FRAMES:
            raise TimeIsUpError

    def end(self, *, finished: bool, waited: float) -> _Round:
        seconds = time.monotonic() - self._began
        lanes = list(self._moments.values())
        shortest = min(map(len, lanes))
        full = shortest > 2 * WARM_FRAMES
        first = max(moments[WARM_FRAMES if full else 0] for moments in lanes)
        last = min(moments[-1] for moments in lanes)
        if last <= first:  # lanes one after the other
            first, last = min(moments[0] for moments in lanes), max(moments[-1] for moments in lanes)
        frames = sum(first < moment <= last for moments in lanes for moment in moments)
        cpu = [(times[-1] - times[0]) / max(len(times) - 1, 1) for times in self._cpu.values()]
        return _Round(
            frames_per_s=frames / (last - first) if frames else 0.0,
            seconds=seconds,
            lane_frames=sum(map(len, lanes)),
            frames=frames,
            full_memory=full,
            finished=finished,
            starved=min(1.0, waited / (seconds * self._lanes)),
            encode_s=sum(cpu) / len(cpu),
            memory_bytes=self._memory,
        )


def trials(
    settings: LabelerSettings,
    video: Video,
    combinations: Sequence[tuple[int, int]],
    *,
    seconds: float,
    object_cost: float,
    wait: Callable[[], None] = lambda: None,
) -> Iterator["float | Trial | None"]:
    """CPU seconds to decode a frame, then a trial for each (objects, lanes), or None where it would take too long.

    Args:
        settings: of the worker; its output is replaced by a temporary folder.
        video: the clip.
        combinations: (objects, lanes) in the order of lanes.
        seconds: of each trial.
        object_cost: of a track in units of an encoded frame, to estimate how long a trial takes.
        wait: called before each measurement, so that several workers measure at the same time.
    """
    worker: Worker | None = None
    pace = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for objects, lanes in combinations:
            if worker is None or worker.settings.lanes != lanes:
                worker = None
                worker = Worker(replace(settings, output=folder, lanes=lanes))
                if not pace:
                    wait()
                    yield decode_s(video, worker.model, settings.storage)
            wait()
            cost = (1 + objects * object_cost) * lanes
            if pace and pace * cost * MIN_FRAMES > seconds:
                yield None
                continue
            trial = worker.run(video, objects=objects, seconds=seconds)
            pace = pace or lanes / trial.frames_per_s / cost
            yield trial
