"""What a correction costs with kept states and without, and what keeping them costs.

    python -m tests.benchmarks.relabel [--frames 240] [--at 200] [--states 16] [--rounds 3]

Labels a rendered clip with the embedded model, corrects one object on frame --at, and labels it again: from a kept
state, and in full, in turns. Prints tracked frames, CPU seconds of this process (decoding, model and encoding, one
thread), their ratio, and whether the labels are equal; then the seconds of labelling with and without states, and their
size.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from pipeline.labels import read_part
from pipeline.storage import Store, part_path
from pipeline.workers.labeler import Labeler
from pipeline.workers.task import LabelerSettings, Outcome, Task
from tests import labelling
from tests.clips import green, point, red, write_clip
from tests.workers.test_states import task


def seconds(label: Callable[[], Outcome]) -> tuple[float, Outcome]:
    started = time.process_time()
    done = label()
    return time.process_time() - started, done


def again(labeler: Labeler, settings: LabelerSettings, wanted: Task) -> tuple[float, Outcome]:
    """Label a video whose part is deleted first."""
    Store(settings.output).delete(part_path("v", wanted.label_key))
    return seconds(lambda: labeler.label(wanted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("frames", 240), ("at", 200), ("states", 16), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, frames=given.frames)
        prompts = [red(), green(4)]
        fix = {"object_id": 1, "frame_index": given.at, "points": [point(50, 19, 0)], "correct": True}
        settings = labelling.settings(Path(folder) / "out")
        keeping = replace(settings, keep_states=given.states)
        plain, kept = Labeler(settings), Labeler(keeping)
        first = task(settings, clip, prompts)
        fixed = task(settings, clip, [*prompts, fix])
        labelled = [(again(plain, settings, first)[0], again(kept, keeping, first)[0]) for _ in range(given.rounds)]
        rounds, parts = [], []
        for _ in range(given.rounds):
            for earlier in (first.label_key, None):
                rounds.append(again(plain, settings, replace(fixed, earlier_key=earlier)))
                parts.append(read_part(f"{settings.output}/{part_path('v', fixed.label_key)}").masks)
        states = [e.size for e in Store(settings.output).list("states") if e.path.endswith(".state")]
    times = [median(s for s, _ in rounds[n::2]) for n in (0, 1)]
    frames = [rounds[n][1].frames for n in (0, 1)]
    equal = all(part.equals(parts[0]) for part in parts)
    print(
        f"correction on frame {given.at} of {given.frames}: {frames[0]} of {frames[1]} frames tracked, "
        f"{times[0]:.2f} of {times[1]:.2f} CPU s, ratio {times[0] / times[1]:.2f}; labels equal: {equal}"
    )
    without, with_states = (median(pair[n] for pair in labelled) for n in (0, 1))
    print(
        f"{len(states)} states of {sum(states) / len(states) / 1000:.0f} kB, 2 objects; labelling with and without "
        f"{with_states:.2f}, {without:.2f} CPU s, ratio {with_states / without:.3f}"
    )


if __name__ == "__main__":
    main()
