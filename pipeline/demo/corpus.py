"""The demo's corpus: short videos, the truth about them, and a manifest that uses every kind of prompt.

    FOLDER/videos/NAME.mp4         H.264, at a quality that keeps the truth exact
    FOLDER/truth.parquet           one row per video, object and frame: the exact visible mask as COCO RLE
    FOLDER/.sam2-corpus-demo       marks the folder as the demo's
    FOLDER/manifest.parquet        written last: where it is, the corpus is whole

`held_out_corpus` writes clips for evaluation in the same form, with a manifest for each of PROMPTS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.demo.clicks import deepest, depth, tight_box
from pipeline.demo.renderer import EVAL_SEEDS, Clip, Split, render
from pipeline.errors import UsageError
from pipeline.manifest.schema import SCHEMA
from pipeline.masks import rle
from pipeline.storage.parquet import read_parquet

Mask = NDArray[np.bool_]
Row = dict[str, Any]

MARK = ".sam2-corpus-demo"
"""File that marks a folder as the demo's corpus."""

PROMPTS = ("click", "box", "mask")
MIN_SHARE = 0.01  # of the frame that an object shows before a held-out clip prompts it
_HELD_OUT_SEEDS = EVAL_SEEDS + 100_000
_SIZES = ((240, 320), (256, 256), (288, 216), (200, 320), (320, 240))

TRUTH = pa.schema(
    {
        "video_id": pa.string(),
        "object_id": pa.int64(),
        "frame_index": pa.int32(),
        "height": pa.int32(),
        "width": pa.int32(),
        "counts": pa.string(),
        "area": pa.int64(),
    }
)


def click(mask: Mask) -> Row:
    """One click deep inside."""
    x, y = deepest(mask)
    return {"points": [{"x": x, "y": y, "label": 1}]}


def in_and_out(mask: Mask) -> Row:
    """A click deep inside, another at the far end of the object, and one on the ground beside it."""
    x, y = deepest(mask)
    inside, outside = depth(mask), depth(~mask)
    rows, columns = np.nonzero(inside > min(4, inside.max() / 2))
    far = np.hypot(rows - y, columns - x).argmax()
    ground = np.argwhere((outside > 8) & (outside < 14))
    beside = ground[np.hypot(ground[:, 0] - y, ground[:, 1] - x).argmin()]
    found = [(x, y, 1), (int(columns[far]), int(rows[far]), 1), (int(beside[1]), int(beside[0]), 0)]
    return {"points": [{"x": a, "y": b, "label": label} for a, b, label in found]}


def box(mask: Mask) -> Row:
    """The tight box."""
    return {"box": dict(zip(("x_min", "y_min", "x_max", "y_max"), tight_box(mask), strict=True))}


def box_and_point(mask: Mask) -> Row:
    """The tight box and one click."""
    return box(mask) | click(mask)


def exact(mask: Mask) -> Row:
    """The mask itself."""
    return {"mask": _rle(mask)}


@dataclass(frozen=True)
class _Prompt:
    object_id: int
    kind: Callable[[Mask], Row]
    frame: int = 0
    by_time: bool = False


@dataclass(frozen=True)
class _Video:
    name: str
    seed: int
    height: int
    width: int
    rate: Fraction
    frames: int
    prompts: tuple[_Prompt, ...]


_VIDEOS = (
    _Video("one-click", 1, 180, 240, Fraction(24), 48, (_Prompt(1, click),)),
    _Video(
        "three-together", 13, 256, 256, Fraction(30), 60, (_Prompt(1, click), _Prompt(2, in_and_out), _Prompt(3, box))
    ),
    _Video("leave-and-return", 29, 200, 320, Fraction(25), 50, (_Prompt(1, box), _Prompt(2, click))),
    _Video("behind-a-bar", 39, 240, 320, Fraction(30000, 1001), 48, (_Prompt(1, click), _Prompt(2, box))),
    _Video("in-and-out", 49, 160, 200, Fraction(15), 36, (_Prompt(1, in_and_out), _Prompt(2, in_and_out))),
    _Video("box-and-point", 71, 288, 216, Fraction(25, 2), 30, (_Prompt(1, box_and_point), _Prompt(2, box_and_point))),
    _Video("masks", 80, 320, 240, Fraction(24), 40, (_Prompt(1, exact), _Prompt(2, exact), _Prompt(3, exact))),
    _Video("prompted-late", 92, 240, 240, Fraction(20), 48, (_Prompt(1, click), _Prompt(2, click, frame=16))),
    _Video(
        "refined", 99, 360, 204, Fraction(30), 45, (_Prompt(1, click), _Prompt(1, in_and_out, frame=36, by_time=True))
    ),
    _Video("by-time", 66, 216, 288, Fraction(12), 24, (_Prompt(1, box, by_time=True), _Prompt(2, click, by_time=True))),
)


def make_corpus(folder: Path) -> None:
    """Writes the demo's corpus into `folder`, or nothing where it is whole already.

    Raises:
        UsageError: The folder holds something else.
    """
    uris = [str(_video_path(folder, video.name)) for video in _VIDEOS]
    manifest = folder / "manifest.parquet"
    if _is_made(folder) and manifest.exists() and _column(manifest, "video_uri") == uris:
        return
    rows: list[Row] = []
    truth: list[Row] = []
    for video, uri in zip(_VIDEOS, uris, strict=True):
        clip = render(
            EVAL_SEEDS + video.seed, frames=video.frames, height=video.height, width=video.width, split="eval"
        )
        write_video(Path(uri), clip.frames, video.rate)
        truth += _truth(video.name, clip)
        prompts = [_prompt_row(clip, prompt, video.rate) for prompt in video.prompts]
        rows.append({"video_id": video.name, "video_uri": uri, "prompts": prompts, "num_frames": video.frames})
    _write_table(folder / "truth.parquet", truth, TRUTH)
    _write_table(manifest, rows, SCHEMA)


def _is_made(folder: Path) -> bool:
    """Whether the demo's corpus is in a folder, whole, unfinished or moved; marks an empty folder as the demo's.

    Raises:
        UsageError: The folder holds something else, which the demo would overwrite.
    """
    mark = folder / MARK
    if mark.exists():
        return True
    if not folder.exists() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
        return False
    if _column(folder / "manifest.parquet", "video_id") == [video.name for video in _VIDEOS]:
        return True  # made before there were marks
    raise UsageError(f"{folder} holds files that are not of the demo; choose another --folder")


def _column(manifest: Path, name: str) -> list[Any] | None:
    """A column of a manifest; None where it cannot be read."""
    try:
        return read_parquet(manifest.read_bytes(), columns=[name])[name].to_pylist()
    except (OSError, ValueError, KeyError):
        return None


def held_out_corpus(folder: Path, *, clips: int = 100, frames: int = 48) -> dict[str, Path]:
    """Writes evaluation clips, none of which training or the demo has, and returns the manifest of each of PROMPTS."""
    return prompted_corpus(folder, "held-out", _HELD_OUT_SEEDS, split="eval", clips=clips, frames=frames)


def prompted_corpus(folder: Path, title: str, seed: int, *, split: Split, clips: int, frames: int) -> dict[str, Path]:
    """Writes clips of the seeds from `seed` on, and returns the manifest of each of PROMPTS.

    Every object that covers at least MIN_SHARE of frame 0 is prompted on that frame only; the truth has these objects.
    """
    rows: dict[str, list[Row]] = {kind: [] for kind in PROMPTS}
    truth: list[Row] = []
    for number in range(clips):
        height, width = _SIZES[number % len(_SIZES)]
        clip = render(seed + number, frames=frames, height=height, width=width, split=split)
        shown = [i + 1 for i in range(len(clip.objects)) if clip.mask(i + 1)[0].mean() >= MIN_SHARE]
        if not shown:
            continue
        name = f"{title}-{number:03}"
        write_video(_video_path(folder, name), clip.frames, Fraction(24))
        truth += (row for row in _truth(name, clip) if row["object_id"] in shown)
        base = {"video_id": name, "video_uri": str(_video_path(folder, name)), "num_frames": frames}
        for kind, prompt in zip(PROMPTS, (click, box, exact), strict=True):
            prompts = [_prompt_row(clip, _Prompt(i, prompt), Fraction(24)) for i in shown]
            rows[kind].append(base | {"prompts": prompts})
    _write_table(folder / "truth.parquet", truth, TRUTH)
    manifests = {kind: folder / f"manifest-{kind}.parquet" for kind in PROMPTS}
    for kind, path in manifests.items():
        _write_table(path, rows[kind], SCHEMA)
    return manifests


def write_video(path: Path, frames: NDArray[np.uint8], rate: Fraction) -> None:
    """Encodes (T, H, W, 3) RGB frames with even sides as H.264; the same frames give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with av.open(part, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12", "preset": "veryfast", "bf": "0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # with threads, and with B-frames, x264 gives other bytes each time
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    part.replace(path)


def _video_path(folder: Path, name: str) -> Path:
    return (folder / "videos" / f"{name}.mp4").absolute()


def _prompt_row(clip: Clip, prompt: _Prompt, rate: Fraction) -> Row:
    """One prompt of the manifest. A time is in the middle of its frame's display."""
    when = (
        {"time_s": float((prompt.frame + Fraction(1, 2)) / rate)} if prompt.by_time else {"frame_index": prompt.frame}
    )
    given = prompt.kind(clip.mask(prompt.object_id)[prompt.frame])
    category = clip.objects[prompt.object_id - 1].outline
    return {"object_id": prompt.object_id, "category": category} | when | given


def _truth(video_id: str, clip: Clip) -> Iterator[Row]:
    frames, height, width = clip.ids.shape
    for i in range(1, len(clip.objects) + 1):
        for t in range(frames):
            mask = clip.ids[t] == i
            row = {"video_id": video_id, "object_id": i, "frame_index": t, "height": height, "width": width}
            yield row | {"counts": _rle(mask)["counts"], "area": int(mask.sum())}


def _rle(mask: Mask) -> Row:
    return {"size": list(mask.shape), "counts": rle.encode(mask[None])[0]}


def _write_table(path: Path, rows: list[Row], schema: pa.Schema) -> None:
    part = path.with_suffix(".part")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), part)
    part.replace(path)
