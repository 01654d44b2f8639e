"""Videos labelled at a rate: the masks of transformers' loop over the chosen frames, and nothing of the others."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InterruptedLabelingError, PromptError
from pipeline.labels import Part, read_part
from pipeline.labels.key import Parameters
from pipeline.manifest import Prompt, read_manifest
from pipeline.manifest.kinds import to_prompt
from pipeline.masks import rle
from pipeline.storage import part_path
from pipeline.tracking.model import load
from pipeline.video import FrameGrid, open_video
from pipeline.workers.labeler import Labeler
from pipeline.workers.prompts import resolve_prompts
from pipeline.workers.task import LabelerSettings, Task
from tests import labelling
from tests.clips import HEIGHT, WIDTH, green, red, write_clip, write_manifest
from tests.tracking import reference
from tests.video.pictures import write_folder

FRAMES = 40
PROMPTS = [red(1), red(20, until_frame=31), red(33), green(10), green(14, correct=True)]
EVERY_THIRD = [0, 1, 3, 6, 9, 10, 12, 14, 15, 18, 20, 21, 24, 27, 30, 33, 36, 39]
"""Every third frame, and the prompted ones."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_clip(path, frames=FRAMES)
    return path


def task(path: Path, rate: str | None, prompts: list[dict[str, Any]] = PROMPTS, *, key: str = "key") -> Task:
    rows = [{"video_id": "v", "video_uri": str(path), "prompts": prompts}]
    video = read_manifest(write_manifest(path.parent / f"{key}.parquet", rows)).video(0)
    return replace(labelling.task_of(video, label_key=key), label_rate=rate)


def label(settings: LabelerSettings, given: Task) -> Part:
    Labeler(settings).label(given)
    return read_part(f"{settings.output}/{part_path('v', given.label_key)}")


def prompt_at(frame: int, record: dict[str, Any], chosen: list[int]) -> Prompt:
    """The prompt with positions among the chosen frames."""
    until = record.get("until_frame")
    moved = record | {"frame_index": chosen.index(frame)}
    return to_prompt(moved | ({"until_frame": sum(t < until for t in chosen)} if until else {}))


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_masks_are_those_of_transformers_loop_over_the_chosen_frames(
    tmp_path: Path, clip: Path, direction: Any
) -> None:
    settings = labelling.settings(tmp_path / "out", parameters=Parameters(direction=direction), check_drift=True)
    part = label(settings, task(clip, "3f"))
    with open_video(clip, name="clip") as reader:
        pixels = [frame.rgb for frame in reader.forward() if frame.index in EVERY_THIRD]
    moved = [prompt_at(each["frame_index"], each, EVERY_THIRD) for each in PROMPTS]
    objects = resolve_prompts(moved, height=HEIGHT, width=WIDTH, index_at=lambda _: [])
    sam2 = load("embedded", device="cpu")
    expected = {
        (each.object_id, EVERY_THIRD[position]): row
        for each in objects
        for (_, position), row in reference.rows(sam2, pixels, [each], direction).items()
    }
    rows = part.masks.to_pylist()
    assert {(row["object_id"], row["frame_index"]) for row in rows} == expected.keys()
    flipped = 0
    for row in rows:
        wanted = expected[row["object_id"], row["frame_index"]]
        flipped += np.count_nonzero(rle.decode(row["counts"], (HEIGHT, WIDTH)) != wanted.mask)
        assert row["object_logit"] == pytest.approx(wanted.object_logit, abs=1e-3)
        assert row["predicted_iou"] == pytest.approx(wanted.predicted_iou, abs=1e-3)
        assert row["time_s"] == pytest.approx(row["frame_index"] / 10)
        assert row["is_prompted"] == (
            row["frame_index"] in {p["frame_index"] for p in PROMPTS if p["object_id"] == row["object_id"]}
        )
    print(f"{len(rows)} masks: {flipped} of {len(rows) * HEIGHT * WIDTH} pixels differ")
    assert flipped <= 1
    second = [row for row in rows if row["object_id"] == 2 and row["frame_index"] >= 10]
    assert [row["area_change"] is None for row in second] == [direction == "forward"] + [False] * (len(second) - 1)
    assert [row["agreement"] is None for row in second] == [False] * (len(second) - 1) + [True]
    (video,) = part.video.to_pylist()
    assert (video["label_rate"], video["frames"], video["fps"]) == ("3f", FRAMES, 10.0)


def test_a_rate_and_its_stride_give_the_same_labels(tmp_path: Path, clip: Path) -> None:
    settings = labelling.settings(tmp_path / "out")
    stride, rate = label(settings, task(clip, "5f")), label(settings, task(clip, "2fps", key="rate"))
    assert stride.masks.drop(["label_key"]).equals(rate.masks.drop(["label_key"]))
    whole, all_of_them = label(settings, task(clip, None, key="all")), label(settings, task(clip, "10fps", key="10"))
    assert whole.masks.drop(["label_key"]).equals(all_of_them.masks.drop(["label_key"]))


@pytest.mark.parametrize(("rate", "direction"), [("2fps", "both"), ("3f", "forward")])
def test_an_interrupted_video_continues_at_its_rate(tmp_path: Path, clip: Path, rate: str, direction: Any) -> None:
    settings = labelling.settings(tmp_path / "out", parameters=Parameters(direction=direction))
    calm = label(settings, task(clip, rate))
    numbers = itertools.count(1)
    troubled = replace(task(clip, rate, key="troubled"), resume=True)
    stopped = Labeler(
        replace(settings, checkpoint_every_s=0.0), on_frame=lambda _: stopped.stop() if next(numbers) == 6 else None
    )
    with pytest.raises(InterruptedLabelingError):
        stopped.label(troubled)
    assert calm.masks.drop(["label_key"]).equals(label(settings, troubled).masks.drop(["label_key"]))


@pytest.mark.parametrize("isolate", [False, True])
def test_readers_give_the_frames_of_the_grid_with_equal_pixels(tmp_path: Path, clip: Path, isolate: bool) -> None:
    folder = Path(write_folder(tmp_path / "images", [f"{n}.png" for n in range(12)]))
    for source, grid, expected in (
        (clip, FrameGrid(every=7, also=frozenset({8})), [0, 7, 8, 14, 21, 28, 35]),
        (clip, FrameGrid(fps=2.5), [*range(0, 40, 4)]),
        (folder, FrameGrid(fps=6.0), [0, 4, 8]),
    ):
        if isolate and source is folder:
            continue
        with open_video(source, name="v", isolate=isolate) as reader:
            pixels = {frame.index: frame.rgb for frame in reader.forward()}
            assert reader.times(3) == pytest.approx([t / (10 if source is clip else 24) for t in range(3)])
            forward = list(reader.forward(grid=grid))
            backward = list(reader.backward(max(pixels), grid=grid))
        assert [frame.index for frame in forward] == expected
        assert [frame.index for frame in backward] == expected[::-1]
        assert all(np.array_equal(frame.rgb, pixels[frame.index]) for frame in (*forward, *backward))


def test_images_off_the_grid_are_not_opened(tmp_path: Path) -> None:
    folder = Path(write_folder(tmp_path / "images", [f"{n}.png" for n in range(9)]))
    (folder / "4.png").write_bytes(b"no image")
    with open_video(folder, name="v", on_damaged="fail") as reader:
        assert [frame.index for frame in reader.forward(grid=FrameGrid(every=3))] == [0, 3, 6]
        assert reader.damage.complete


def test_a_rate_above_the_videos_own_is_refused(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(PromptError, match="label rate is 24 frames a second, but the video has 10; allowed is at most"):
        Labeler(labelling.settings(tmp_path / "out")).label(task(clip, "24fps"))
    with pytest.raises(PromptError, match="prompt is on frame 55, but the video ends before it"):
        Labeler(labelling.settings(tmp_path / "out")).label(task(clip, "2fps", [red(55)]))
