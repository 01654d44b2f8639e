"""How many frames the pending videos have: from the manifest, from headers, or estimated from the size of the file."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import CorpusError
from pipeline.manifest.label_rates import labelled_share
from pipeline.runs.plan import Numbers, Plan
from pipeline.storage import Storage
from pipeline.video.headers import Length, read_length
from pipeline.views.words import count

PROBED = 256
"""Largest number of videos whose headers a plan reads."""
PROBE_S = 2.0
"""Seconds after which no other header is waited for."""
THREADS = 16

ReadLength = Callable[..., Length | None]


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Frames to label of every video of a plan, and how those of the pending ones are known."""

    frames: Numbers
    """float64 (rows,)."""
    given: int = 0
    """Pending videos whose manifest row has num_frames."""
    read: int = 0
    """Pending videos whose header was read."""
    guessed: int = 0
    """The other pending videos: estimated from the size of the file, scaled as those whose header was read."""

    @property
    def known(self) -> bool:
        """Whether no number of frames is a guess."""
        return not self.guessed

    def __str__(self) -> str:
        parts = ((self.given, "from the manifest"), (self.read, "from headers"), (self.guessed, "from file sizes"))
        return ", ".join(f"{count(videos, 'video')} {where}" for videos, where in parts if videos)


def probe_lengths(
    plan: Plan,
    manifest: pa.Table,
    *,
    storage: Storage,
    most: int = PROBED,
    seconds: float = PROBE_S,
    read: ReadLength = read_length,
) -> Lengths:
    """The frames of a plan's videos, with the headers of at most `most` pending videos without num_frames read.

    Where there are more, videos of all sizes are read. What is not read in time, or not readable, stays an estimate,
    scaled by the ratio of header to estimate of the others.
    """
    frames = plan.table["frames"].to_numpy().copy()
    tracked = plan.tracked
    unknown = tracked[np.asarray(manifest["num_frames"].is_null())[tracked]]
    found = _read_all(_spread(unknown, frames, most), plan, manifest, storage, seconds=seconds, read=read)
    rows = np.array(list(found), np.int64)
    lengths = np.array(list(found.values()), np.float64)
    if estimated := float(frames[rows].sum()):
        frames[unknown] *= lengths.sum() / estimated
    frames[rows] = lengths
    given = len(tracked) - len(unknown)
    return Lengths(frames=frames, given=given, read=len(found), guessed=len(unknown) - len(found))


def _spread(rows: npt.NDArray[np.int64], frames: Numbers, most: int) -> list[int]:
    """At most `most` of the rows, evenly from the longest to the shortest by the estimate so far."""
    longest_first = rows[np.argsort(-frames[rows], kind="stable")]
    places = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64))
    return [int(row) for row in longest_first[places]]


def _read_all(
    rows: list[int], plan: Plan, manifest: pa.Table, storage: Storage, *, seconds: float, read: ReadLength
) -> dict[int, float]:
    """Frames to label by row, of the videos whose header was read in time."""
    if not rows:
        return {}
    columns = ["video_uri", "start_s", "end_s", "fps"]
    records = manifest.select(columns).take(pa.array(rows)).to_pylist()
    rates = plan.table["label_rate"].take(pa.array(rows)).to_pylist()
    threads = ThreadPoolExecutor(THREADS)
    until = time.monotonic() + seconds
    jobs: dict[int, Future[float | None]] = {
        row: threads.submit(partial(_frames, record, rate, storage=storage, read=read))
        for row, record, rate in zip(rows, records, rates, strict=True)
    }
    found = {}
    for row, job in jobs.items():
        try:
            frames = job.result(timeout=max(0.0, until - time.monotonic()))
        except TooSlow:
            continue
        if frames is not None:
            found[row] = frames
    threads.shutdown(wait=False, cancel_futures=True)
    return found


def _frames(record: Mapping[str, Any], rate: str | None, *, storage: Storage, read: ReadLength) -> float | None:
    """Frames to label of one row; None if its video cannot be read, which labelling then reports."""
    try:
        length = read(record["video_uri"], storage=storage, fps=record["fps"])
    except CorpusError:
        return None
    if length is None:
        return None
    part = length.within(record["start_s"], record["end_s"])
    return max(1.0, part.frames * float(labelled_share(rate, part.fps) if rate else 1.0))
