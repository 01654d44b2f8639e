"""Flip, cut and shuffle bytes of small files and decode what is left. Run in a child: `python -m tests.video.fuzz`.

Prints one line of JSON: what came of the rounds. Anything but frames or a VideoError ends it with a traceback, a crash
with a signal; the file that did it is the one named in the last line of the log.
"""

import ctypes
import gc
import json
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from pipeline.errors import VideoError
from pipeline.video import ImageFiles, VideoLimits, open_video

LIMITS = VideoLimits(max_pixels=1 << 20, max_frames=500, backward_bytes=1 << 20, stall_s=10.0)


def mutate(data: bytes, rng: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(rng.choice((1, 3, 20, 100))):
        # Headers stand at the ends of a file, and are where it hurts most.
        near = rng.choice((len(broken), min(len(broken), 600)))
        at = rng.randrange(near)
        at = len(broken) - 1 - at if rng.random() < 0.3 else at
        broken[at] = rng.choice((0, 255, broken[at] ^ (1 << rng.randrange(8)), rng.randrange(256)))
    if rng.random() < 0.3:
        del broken[rng.randrange(len(broken)) :]
    if rng.random() < 0.1 and len(broken) > 100:
        at = rng.randrange(len(broken) - 50)
        broken[at:at] = broken[at : at + rng.randrange(50)]
    return bytes(broken)


def attempt(path: Path) -> str:
    source: Path | ImageFiles = path
    if path.suffix in (".png", ".jpg"):
        source = {f"{number}{path.suffix}": path.read_bytes for number in range(2)}
    try:
        with open_video(source, name="fuzz", limits=LIMITS) as video:
            forward = [(frame.index, frame.time_s) for frame in video.forward()]
            backward = [(frame.index, frame.time_s) for frame in video.backward(len(forward) - 1)]
            assert backward == forward[::-1]
            video.index_at([forward[-1][1]])
            video.at([len(forward) // 2])
        return "damage" if video.damage.any else "frames"
    except VideoError as error:
        return error.failure_class


def rss() -> int:
    gc.collect()
    with suppress(AttributeError):  # only in glibc: what is free but kept is no leak
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main(seconds: float, seed: int, scratch: Path, log: Path, files: list[Path]) -> None:
    rng = random.Random(seed)
    seeds = [(path.name, path.read_bytes()) for path in files]
    outcomes: Counter[str] = Counter()
    slowest, warm, descriptors = 0.0, 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name, data = rng.choice(seeds)
        path = scratch / f"fuzz{Path(name).suffix}"
        path.write_bytes(mutate(data, rng))
        rounds = outcomes.total()
        log.write_text(f"round {rounds} of seed {seed}: {name}, kept as {path}\n")
        begun = time.monotonic()
        outcomes[attempt(path)] += 1
        slowest = max(slowest, time.monotonic() - begun)
        if rounds == 500:
            warm, descriptors = rss(), len(list(Path("/proc/self/fd").iterdir()))
    report = {
        "rounds": outcomes.total(),
        "outcomes": dict(outcomes.most_common()),
        "slowest_s": round(slowest, 2),
        "grown_mib": round((rss() - warm) / 2**20, 1) if warm else None,
        "descriptors_grown": len(list(Path("/proc/self/fd").iterdir())) - descriptors if warm else None,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), [Path(a) for a in sys.argv[5:]])
