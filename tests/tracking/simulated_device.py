"""The project's own lanes and prefetching around a simulated device that runs its work first in, first out.

Times are those of a real device, stretched by SCALE, so that the scheduling noise of the machine that runs the tests
weighs less. Rates are given per second of the real device.
"""

import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field

from pipeline.tracking.lanes import Lanes
from pipeline.video import prefetch

SCALE = 3.0
COPY_S = 0.0004
"""From the end of a frame's step to its results in host memory."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one hiera-tiny at 1024 px."""

    encode: float
    """Device, per frame of one lane."""
    track: float
    """Device, per frame of one lane."""
    batch: float
    """Device, per batch of several lanes."""
    batch_frame: float
    """Device, per frame in such a batch."""
    host: float = 0.003
    """Launching one step."""
    host_frame: float = 0.0003
    """Launching one more frame in it."""
    rows: float = 0.003
    """Making the rows of one frame."""


A100 = Timing(encode=0.0034, track=0.0065, batch=0.003, batch_frame=0.0085)
H100 = Timing(encode=0.0018, track=0.004, batch=0.002, batch_frame=0.0042)


class Device:
    """Work in the order of its launch. It is a `BatchClock`, too: batches take device time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = 0.0
        self.busy_s = 0.0
        self.batch_s = 0.0

    def launch(self, seconds: float) -> float:
        """Queue work; returns when it will be done."""
        with self._lock:
            self._free_at = max(self._free_at, time.perf_counter()) + SCALE * seconds
            self.busy_s += SCALE * seconds
            return self._free_at

    def measure(self) -> AbstractContextManager[None]:
        return nullcontext()


def sleep(seconds: float) -> None:
    time.sleep(SCALE * seconds)


def wait_for(done_at: float) -> None:
    time.sleep(max(0.0, done_at - time.perf_counter()))


@dataclass(kw_only=True)
class Outcome:
    frames_per_s: float
    busy: float
    batches: list[int] = field(default_factory=list)

    @property
    def mean_batch(self) -> float:
        """Of the middle three fifths."""
        middle = self.batches[len(self.batches) // 5 : -len(self.batches) // 5 or None]
        return sum(middle) / len(middle)


def several_lanes(timing: Timing, *, lanes: int = 8, frames: int = 40) -> Outcome:
    """Videos that are always decoded in time, one per lane."""
    device, sizes = Device(), []

    def run(requests: Sequence[None]) -> list[float]:
        sizes.append(len(requests))
        sleep(timing.host + timing.host_frame * len(requests))
        device.batch_s = SCALE * (timing.batch + timing.batch_frame * len(requests))
        return [device.launch(device.batch_s / SCALE)] * len(requests)

    shared: Lanes[None, float] = Lanes(run, max_lanes=lanes, clock=device)

    def steps() -> Iterator[float]:
        lane = object()
        shared.join(lane)
        try:
            for _ in range(frames):
                yield shared.submit(lane, None)
        finally:
            shared.leave(lane)

    def consume(seed: int) -> None:
        jitter = random.Random(seed)
        with closing(prefetch(steps(), depth=4)) as results:
            for done_at in results:
                wait_for(done_at + SCALE * COPY_S)
                sleep(timing.rows * jitter.uniform(0.5, 1.5))

    started = time.perf_counter()
    threads = [threading.Thread(target=consume, args=(seed,)) for seed in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - started
    return Outcome(frames_per_s=SCALE * lanes * frames / wall, busy=device.busy_s / wall, batches=sizes)


def one_lane(timing: Timing, *, feed: float, together: int = 8, frames: int = 160) -> Outcome:
    """One video; `feed` is the time to decode and resize a frame, `together` how many the encoder takes at once."""
    device = Device()

    def decoded() -> Iterator[int]:
        for n in range(frames):
            sleep(feed)
            yield n

    def steps() -> Iterator[float]:
        ready = 0
        with closing(prefetch(decoded(), depth=2 * together)) as source:
            while True:
                if not ready:
                    ready = len(list(itertools.islice(source, together)))
                    if not ready:
                        return
                    sleep(timing.host_frame * ready)
                    device.launch(timing.encode * ready)
                ready -= 1
                sleep(timing.host)
                yield device.launch(timing.track)

    started = time.perf_counter()
    with closing(prefetch(steps(), depth=4)) as results:
        for done_at in results:
            wait_for(done_at + SCALE * COPY_S)
            sleep(timing.rows)
    wall = time.perf_counter() - started
    return Outcome(frames_per_s=SCALE * frames / wall, busy=device.busy_s / wall)
