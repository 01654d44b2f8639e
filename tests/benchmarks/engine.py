"""The engine against transformers' own loop: same weights and frames, one thread, frame by frame in turn.

python -m tests.benchmarks.engine [launches] [embedded] [tiny] [--sizes 256 512] [--objects 1 8]

transformers runs all objects in one session, which shares the encoder between them: its best case, faster than the
session per object that the tests compare with. Times are of this process's CPU, per frame with a full memory: medians
of rounds in which the contestants take turns, as the ratios are medians of each round's. The embedded model's rounds
take half a minute, because a shared core's speed changes every few seconds, and not alike for both.
"""

import argparse
import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pipeline.tracking import Engine, TrackedObject
from pipeline.tracking.sam2.model import Sam2
from pipeline.tracking.sam2.step import Sam2Stepper
from pipeline.video import keep_freed_memory
from tests.tracking import models, videos

WARM = 17
"""Frames until memories and pointers are full."""


def _linear_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * math.prod(x) * weight[0]


ONEDNN_FLOPS: dict[Any, Any] = {torch.ops.mkldnn._linear_pointwise: _linear_flops}


class Work(contextlib.AbstractContextManager["Work"]):
    """Sums the floating-point operations of steps while it is counting."""

    def __init__(self) -> None:
        self.counting = False
        self.total = 0

    def __enter__(self) -> "Work":
        self._mode = FlopCounterMode(display=False, custom_mapping=ONEDNN_FLOPS) if self.counting else None
        if self._mode:
            self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._mode:
            self._mode.__exit__(*error)
            self.total += self._mode.get_total_flops()


class Launches(TorchDispatchMode):
    """Counts aten operations that are not views."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return self.counts.total()


def objects(count: int) -> list[TrackedObject]:
    w, h = videos.WIDTH, videos.HEIGHT
    return [videos.tracked(n, f0=videos.click(((n + 1) / (count + 1) * w, h / 2, 1))) for n in range(count)]


def transformers_frames(sam2: Sam2, video: list[Any], count: int) -> Iterator[int]:
    model: Any = sam2.model
    processor: Any = sam2.processor
    session = processor.init_video_session(video=video)
    for tracked in objects(count):
        prompt = tracked.prompts[0]
        processor.add_inputs_to_inference_session(
            session,
            frame_idx=0,
            obj_ids=[tracked.object_id],
            input_points=[[prompt.points.tolist()]],
            input_labels=[[prompt.labels.tolist()]],
        )
    session.obj_with_new_inputs = list(range(count))
    model(session, frame_idx=0)
    for out in model.propagate_in_video_iterator(session, start_frame_idx=0):
        yield out.frame_idx


def engine_frames(engine: Engine, sam2: Sam2, video: list[Any], count: int) -> Iterator[int]:
    for frame in engine.propagate(videos.MemorySource(sam2, video), objects(count)):
        yield frame.frame_index


def lane_frames(engine: Engine, sam2: Sam2, made: list[list[Any]], *, together: int = 1) -> Iterator[int]:
    """One frame of every lane at a time; after the warm ones, lanes are waited for every `together` frames alone, since
    gates take a hundredth of their time."""
    lanes = len(made)
    gate = threading.Barrier(lanes + 1)

    def lane(video: list[Any]) -> None:
        frames = engine.propagate(videos.MemorySource(sam2, video), objects(1))
        with frames, contextlib.suppress(threading.BrokenBarrierError):
            for t, _ in enumerate(frames):
                if gated(t):
                    gate.wait()
                    gate.wait()

    def gated(t: int) -> bool:
        return t < WARM or (t + 1 - WARM) % together == 0

    threads = [threading.Thread(target=lane, args=(video,)) for video in made]
    for thread in threads:
        thread.start()
    try:
        for t in range(len(made[0])):
            if gated(t):
                gate.wait()
            yield t
            if gated(t):
                gate.wait()
    finally:
        gate.abort()
        for thread in threads:
            thread.join()


def per_frame(frames: dict[str, Iterator[int]], *, rounds: int, together: int) -> dict[str, list[float]]:
    """Seconds a frame in each round: contestants take turns of `together` frames, whole batches of the encoder."""
    spent: dict[str, list[float]] = {name: [] for name in frames}
    with torch.inference_mode():
        for iterator in frames.values():
            for _ in range(WARM):
                next(iterator)
        for _ in range(rounds):
            for name, iterator in frames.items():
                started = time.process_time()
                for _ in range(together):
                    next(iterator)
                spent[name].append((time.process_time() - started) / together)
    return spent


def told(spent: dict[str, list[float]], **share: int) -> str:
    """Each contestant's median time a frame and how many times as fast as transformers; `share` frames at once."""
    words = []
    for name, seconds in spent.items():
        part = share.get(name, 1)
        ratio = median(t * part / s for t, s in zip(spent["transformers"], seconds, strict=True))
        words.append(f"{name} {1000 * median(seconds) / part:.1f} ms ({ratio:.2f}x)")
    return ", ".join(words)


def count_launches(iterator: Iterator[int], watch: Launches, *, frames: int = 8) -> tuple[float, Counter[str]]:
    """Launches per frame with a full memory; `watch` is active where the model runs."""
    for _ in range(WARM):
        next(iterator)
    watch.counts.clear()
    for _ in range(frames):
        next(iterator)
    counts = Counter({name: n / frames for name, n in watch.counts.items()})
    return watch.total / frames, counts


def watched(sam2: Sam2, watch: contextlib.AbstractContextManager[Any]) -> Sam2:
    """The model with `watch` active in its steps: a dispatch mode belongs to one thread, and steps have their own."""

    class Watched(Sam2Stepper):
        @contextlib.contextmanager
        def inference(self) -> Iterator[None]:
            with super().inference(), watch:
                yield

    return models.with_stepper(sam2, Watched)


def launches(sam2: Sam2, *, top: int = 0) -> None:
    video = videos.video(WARM + 12)
    reference = {}
    for n in (1, 8):
        with torch.inference_mode(), Launches() as watch:
            reference[n] = count_launches(transformers_frames(sam2, video, n), watch)[0]
    for n, wanted in ((1, 0.8), (8, 1 / 3.5)):
        watch = Launches()
        ours, counts = count_launches(engine_frames(Engine(watched(sam2, watch)), sam2, video, n), watch)
        print(
            f"launches, {n} objects: transformers {reference[n]:.0f}, engine {ours:.0f} a frame: "
            f"{ours / reference[n]:.3f} (wanted at most {wanted:.3f})"
        )
        for name, k in counts.most_common(top):
            print(f"    {k:6.1f} {name}")
    batches = []

    class Batches(Sam2Stepper):
        @contextlib.contextmanager
        def inference(self) -> Iterator[None]:
            self.tracks = 0
            with super().inference(), Launches() as mode:
                yield
            batches.append((self.tracks, mode.total))

        def track(self, items: Any) -> Any:
            self.tracks = len(items)
            return super().track(items)

    engine = Engine(models.with_stepper(sam2, Batches), lanes=8)
    for _ in lane_frames(engine, sam2, [videos.video(WARM + 12, seed=n) for n in range(8)]):
        pass
    full = [ops for tracks, ops in batches[WARM:] if tracks == 8]
    ours = min(full) / 8
    print(
        f"launches, 8 lanes: transformers {reference[1]:.0f}, engine {ours:.0f} a frame: {ours / reference[1]:.3f} "
        f"(wanted at most {1 / 6:.3f}; {len(full)} full batches)"
    )


def speed(name: str, sam2: Sam2, count: int, *, rounds: int, together: int, bf16: bool) -> None:
    video = videos.video(WARM + rounds * together + 1)
    contestants = {
        "transformers": transformers_frames(sam2, video, count),
        "engine": engine_frames(Engine(sam2), sam2, video, count),
    }
    if bf16:
        contestants["engine bf16"] = engine_frames(Engine(sam2, dtype=torch.bfloat16), sam2, video, count)
    print(f"{name}, {count} objects: {told(per_frame(contestants, rounds=rounds, together=together))}", flush=True)


def lanes_speed(name: str, sam2: Sam2, lanes: int, *, rounds: int, together: int) -> None:
    made = [videos.video(WARM + rounds * together + 1, seed=n) for n in range(lanes)]
    spent = per_frame(
        {
            "transformers": transformers_frames(sam2, made[0], 1),
            "engine": lane_frames(Engine(sam2, lanes=lanes), sam2, made, together=together),
        },
        rounds=rounds,
        together=together,
    )
    print(f"{name}, {lanes} lanes of 1 object, a frame: {told(spent, engine=lanes)}", flush=True)


def where_time_goes(name: str, sam2: Sam2, count: int, *, dtype: torch.dtype = torch.float32) -> None:
    """Share of time in products, attention and convolutions; achieved GFLOP/s against one matrix product's."""
    video = videos.video(WARM + 8)
    work = Work()
    frames = engine_frames(Engine(watched(sam2, work), dtype=dtype), sam2, video, count)
    for _ in range(WARM):
        next(frames)
    every_thread = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)  # steps have a thread of their own
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, experimental_config=every_thread) as profile:
        for _ in range(4):
            next(frames)
    spent = {e.key: e.self_cpu_time_total for e in profile.key_averages()}
    heavy = ("addmm", "mm", "bmm", "conv", "attention", "linear", "softmax")
    share = sum(t for key, t in spent.items() if any(word in key for word in heavy)) / sum(spent.values())
    work.counting = True
    for _ in range(2):
        next(frames)
    work.counting = False
    flops = work.total / 2
    started = time.process_time()
    for _ in range(2):
        next(frames)
    seconds = (time.process_time() - started) / 2
    a = torch.randn(1024, 1024, dtype=dtype)
    product = min(_timed(lambda: a @ a) for _ in range(10))
    limit = 2 * 1024**3 / product / 1e9
    print(
        f"{name}, {count} objects, {str(dtype).removeprefix('torch.')}: {100 * share:.0f} % of the time in products, "
        f"attention and convolutions; {flops / 1e9:.1f} GFLOP a frame at {flops / seconds / 1e9:.0f} GFLOP/s, "
        f"{flops / seconds / 1e9 / limit:.2f} of a matrix product's {limit:.0f}",
        flush=True,
    )
    for key, t in sorted(spent.items(), key=lambda item: -item[1])[:12]:
        print(f"    {t / 4000:8.2f} ms  {key}")


def _timed(call: Callable[[], Any]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["launches", "embedded", "tiny"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--top", type=int, default=0, help="show the most frequent operations")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the workers do; it helps transformers alike
    embedded = models.embedded()
    if "launches" in args.what:
        launches(embedded, top=args.top)
    if "embedded" in args.what:
        for count in args.objects:
            speed(f"embedded, {embedded.image_size} px", embedded, count, rounds=25, together=10, bf16=False)
        lanes_speed(f"embedded, {embedded.image_size} px", embedded, 8, rounds=25, together=10)
    if "tiny" in args.what:
        for size in args.sizes:
            sam2 = models.random_sam2(models.tiny_config(size))
            for count in args.objects:
                speed(f"hiera-tiny, {size} px", sam2, count, rounds=3, together=2, bf16=True)
                where_time_goes(f"hiera-tiny, {size} px", sam2, count)


if __name__ == "__main__":
    main()
