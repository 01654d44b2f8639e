"""Videos that look alike, by perceptual hashes of their key frames, for a person to decide about."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.errors import UsageError
from pipeline.video.info import Rgb

MIN_DEVIATION = 4.0
"""Frames whose grey values deviate less look like all other blank frames, so they are not compared."""

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Two videos that look alike."""

    video_id: str
    other: str
    share: float
    """Share of the key frames of each that have an equal one in the other, the smaller of the two shares."""


def load_hash() -> Callable[[Rgb], int]:
    """The perceptual hash (64 bits) of imagehash, an optional package.

    Raises:
        UsageError: It is not installed.
    """
    try:
        library: Any = importlib.import_module("imagehash")
    except ImportError as error:
        raise UsageError(f"jobs.duplicates needs imagehash: pip install imagehash ({error})") from error
    return lambda rgb: int(str(library.phash(Image.fromarray(rgb))), 16)


def hashes_of(frames: Sequence[Rgb], hash_frame: Callable[[Rgb], int]) -> Hashes:
    """Hashes of the frames that are not blank, uint64 (n,)."""
    return np.array([hash_frame(rgb) for rgb in frames if rgb.mean(axis=2).std() >= MIN_DEVIATION], np.uint64)


def find_alike(hashes: dict[str, Hashes], *, distance: int, share: float) -> Iterator[Alike]:
    """Pairs of videos of whose key frames at least `share` have a hash within `distance` bits in the other video."""
    ids = [video_id for video_id, found in hashes.items() if len(found)]
    if not ids:
        return
    counts = np.array([len(hashes[video_id]) for video_id in ids])
    every, starts = np.concatenate([hashes[video_id] for video_id in ids]), np.cumsum(counts) - counts
    for at, video_id in enumerate(ids[:-1]):
        rest = every[starts[at + 1] :]
        near = np.bitwise_count(hashes[video_id][:, None] ^ rest[None]) <= distance  # (own frames, all later frames)
        bounds = starts[at + 1 :] - starts[at + 1]
        own = np.logical_or.reduceat(near, bounds, axis=1).mean(axis=0)
        others = np.add.reduceat(near.any(axis=0), bounds) / counts[at + 1 :]
        both = np.minimum(own, others)
        for place in np.flatnonzero(both >= share).tolist():
            yield Alike(video_id=video_id, other=ids[at + 1 + place], share=float(both[place]))
