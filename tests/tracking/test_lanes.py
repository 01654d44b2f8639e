"""Lanes share batches and change nothing."""

import gc
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tracking import Direction, Engine, TrackedFrame, TrackedObject
from pipeline.tracking.batching import BatchSize
from pipeline.tracking.lanes import Lanes
from pipeline.tracking.sam2.step import Sam2Stepper
from tests.tracking import compare, models
from tests.tracking import videos as v

SAM2 = models.random_model(1)
Job = tuple[v.MemorySource, Sequence[TrackedObject], Direction]


def run_together(engine: Engine, jobs: Sequence[Job]) -> list[list[TrackedFrame]]:
    found: list[list[TrackedFrame]] = [[] for _ in jobs]

    def lane(n: int) -> None:
        source, objects, direction = jobs[n]
        found[n].extend(engine.propagate(source, objects, direction=direction))

    threads = [threading.Thread(target=lane, args=(n,)) for n in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a lane hangs"
    return found


@st.composite
def job(draw: st.DrawFn) -> Job:
    frames = draw(st.integers(1, 9))
    objects = [
        v.tracked(
            n,
            **{
                f"f{t}": v.prompt(draw(st.sampled_from(v.KINDS)))
                for t in draw(st.sets(st.integers(0, frames - 1), min_size=1, max_size=2))
            },
        )
        for n in range(draw(st.integers(1, 3)))
    ]
    video = v.video(frames, seed=draw(st.integers(0, 3)))
    return v.MemorySource(SAM2, video), objects, draw(st.sampled_from(["forward", "backward", "both"]))


@settings(max_examples=5)
@given(jobs=st.lists(job(), min_size=2, max_size=5), lanes=st.sampled_from([2, 3, 8]))
def test_any_mix_of_videos_equals_one_at_a_time(jobs: list[Job], lanes: int) -> None:
    alone = [list(Engine(SAM2).propagate(s, o, direction=d)) for s, o, d in jobs]
    together = run_together(Engine(SAM2, lanes=lanes), jobs)
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other)
        if one:
            difference = compare.frames_alike(one, other)
            difference.inside = max(difference.inside, 1)  # a short video's masks may all be empty
            difference.check()


def test_lanes_step_in_one_batch() -> None:
    sizes: list[int] = []

    class Slow(Sam2Stepper):
        def track(self, items: Any) -> Any:
            sizes.append(len(items))
            time.sleep(0.05)
            return super().track(items)

    engine = Engine(models.with_stepper(SAM2, Slow), lanes=3)
    objects = [v.tracked(0, f0=v.prompt("click"))]
    run_together(engine, [(v.MemorySource(SAM2, v.video(8, seed=n)), objects, "forward") for n in range(5)])
    assert max(sizes) == 3
    assert sum(sizes) / len(sizes) > 2


def test_one_thread_runs_the_batches_of_all_videos() -> None:
    threads: set[threading.Thread] = set()

    class Watched(Sam2Stepper):
        def track(self, items: Any) -> Any:
            threads.add(threading.current_thread())
            return super().track(items)

    engine = Engine(models.with_stepper(SAM2, Watched), lanes=2)
    objects = [v.tracked(0, f0=v.prompt("click"))]
    for seed in range(3):
        jobs: list[Job] = [(v.MemorySource(SAM2, v.video(4, seed=seed + n)), objects, "forward") for n in range(2)]
        run_together(engine, jobs)
    assert len(threads) == 1
    del engine
    gc.collect()
    (stepping,) = threads
    stepping.join(60)
    assert not stepping.is_alive(), "an engine that is dropped ends its thread"


def test_a_lane_that_stops_early_or_fails_delays_no_other() -> None:
    engine = Engine(SAM2, lanes=8)
    objects = [v.tracked(0, f0=v.prompt("click"))]
    source = v.MemorySource(SAM2, v.video(5))
    suspended = engine.propagate(source, objects)
    next(suspended)  # and never asked again
    closed = engine.propagate(source, objects)
    next(closed)
    closed.close()

    class Broken(v.MemorySource):
        def forward(self, start: int) -> Any:
            yield start, self.at([0])[0]
            raise OSError("the file is gone")

    broken = engine.propagate(Broken(SAM2, v.video(5)), objects)
    with pytest.raises(OSError, match="gone"):
        list(broken)
    (frames,) = run_together(engine, [(source, objects, "forward")])
    assert len(frames) == 5
    assert engine.open_lanes == 1
    del suspended
    gc.collect()
    assert engine.open_lanes == 0


def test_a_video_that_waits_for_a_lane_leaves_the_encoder_its_batch() -> None:
    engine = Engine(SAM2, lanes=2)
    engine.join("first")
    alone = engine.frames_ahead
    engine.join("second")
    shared = engine.frames_ahead
    engine.join("waiting")
    assert alone // 2 == shared == engine.frames_ahead > 1


def test_one_lanes_error_is_its_own() -> None:
    def run(works: Sequence[int]) -> list[int]:
        if 13 in works:
            raise ValueError("thirteen")
        return [10 * work for work in works]

    lanes: Lanes[int, int] = Lanes(run, max_lanes=4)
    results: dict[int, object] = {}

    def lane(work: int) -> None:
        key = object()
        lanes.join(key)
        try:
            results[work] = lanes.submit(key, work)
        except ValueError as error:
            results[work] = str(error)
        finally:
            lanes.leave(key)

    threads = [threading.Thread(target=lane, args=(work,)) for work in (1, 13, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a lane hangs"
    assert results == {1: 10, 13: "thirteen", 2: 20}


def test_running_out_of_memory_halves_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    class LittleMemory(Sam2Stepper):
        def track_batch(self, items: Sequence[Any]) -> Any:
            if len(items) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().track_batch(items)

    objects = [v.tracked(n, f0=v.prompt(kind)) for n, kind in enumerate(v.KINDS)]
    source = v.MemorySource(SAM2, v.video(4))
    made = list(Engine(models.with_stepper(SAM2, LittleMemory)).propagate(source, objects))
    compare.frames_alike(made, Engine(SAM2).propagate(source, objects)).check()
    assert "Out of memory with 5 in a batch: tracks_at_once is now 2." in caplog.text


def test_running_out_of_memory_for_a_single_object_is_an_error() -> None:
    class NoMemory(Sam2Stepper):
        def track_batch(self, _: object) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

    objects = [v.tracked(n, f0=v.prompt("click")) for n in range(3)]
    with pytest.raises(torch.OutOfMemoryError):
        list(Engine(models.with_stepper(SAM2, NoMemory)).propagate(v.MemorySource(SAM2, v.video(4)), objects))


def test_a_halved_batch_grows_again_later_each_time_it_fails() -> None:
    size = BatchSize("tracks_at_once", 8)
    free = 4
    tried: list[int] = []

    def call(batch: Sequence[int]) -> int:
        tried.append(len(batch))
        if len(batch) > free:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return len(batch)

    def batches_until_8() -> int:
        tried.clear()
        for count in range(2000):
            size.run(range(4), call) if size.now == 4 else size.run(range(8), call)
            if 8 in tried:
                return count
        raise AssertionError("no batch of 8 was tried again")

    assert size.run(range(8), call) == [4, 4]
    first = batches_until_8()
    assert size.now == 4
    assert batches_until_8() > 1.5 * first
    free = 8
    batches_until_8()
    assert size.run(range(16), call) == [8, 8]
