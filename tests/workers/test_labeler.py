"""One video in, one part out, in this process: no Ray."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
import transformers
from PIL import Image

from pipeline.errors import InterruptedLabelingError, ModelError, PromptError, StorageError, VideoError
from pipeline.labels import read_part
from pipeline.labels.key import Parameters
from pipeline.manifest import read_manifest
from pipeline.manifest.schema import SCHEMA, to_video
from pipeline.masks import rle
from pipeline.storage import Store, part_path
from pipeline.video.content import content_version
from pipeline.workers.labeler import Labeler
from tests import labelling
from tests.clips import HEIGHT, WIDTH, green, point, red, write_clip, write_manifest
from tests.video.pictures import write_folder


@pytest.fixture
def settings(tmp_path):
    return labelling.settings(tmp_path / "out", on_damaged="label")


def task(path, prompts, *, key="key", **row):
    """A task as the driver makes it, for a file of any kind."""
    manifest = write_manifest(
        path.parent / f"{key}.parquet", [{"video_id": "v", "video_uri": str(path), "prompts": prompts, **row}]
    )
    return labelling.task_of(read_manifest(manifest).video(0), label_key=key)


def on_red(**when):
    return {"object_id": 1, "points": [point(17, 19)], **when}


FAR_BOX = {"x_min": 200, "y_min": 1, "x_max": 220, "y_max": 9}
SMALL_MASK = {"size": [4, 4], "counts": "4440"}


def part_of(settings, key="key"):
    return read_part(f"{settings.output}/{part_path('v', key)}")


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, frames=12)
    return path


def test_rows_scores_and_measures_agree_with_the_masks(settings, clip):
    outcome = Labeler(settings).label(task(clip, [red(category="red"), green(4)], site="berlin"))
    part = part_of(settings)
    assert (outcome.frames, outcome.masks, outcome.was_there) == (12, 12 + 8, False)
    rows = part.masks.to_pylist()
    assert [(row["object_id"], row["frame_index"]) for row in rows] == [(1, t) for t in range(12)] + [
        (2, t) for t in range(4, 12)
    ]
    for row in rows:
        mask = rle.decode(row["counts"], (HEIGHT, WIDTH))
        assert row["area"] == mask.sum() > 0
        ys, xs = np.nonzero(mask)
        assert (row["x_min"], row["y_min"], row["x_max"], row["y_max"]) == (
            xs.min(),
            ys.min(),
            xs.max() + 1,
            ys.max() + 1,
        )
        assert row["is_prompted"] == ((row["object_id"], row["frame_index"]) in {(1, 0), (2, 4)})
        assert row["time_s"] == pytest.approx(row["frame_index"] / 10)
        assert row["object_logit"] > 0
        assert 0 <= row["predicted_iou"] <= 1
    assert part.masklets.select(["object_id", "category", "visible_frames"]).to_pylist() == [
        {"object_id": 1, "category": "red", "visible_frames": 12},
        {"object_id": 2, "category": None, "visible_frames": 8},
    ]
    video = part.video.to_pylist()[0]
    assert (video["frames"], video["height"], video["width"], video["site"]) == (12, HEIGHT, WIDTH, "berlin")


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_the_second_pass_agrees_with_good_labels_and_not_with_lost_ones(settings, clip, direction):
    parameters = Parameters(direction=direction)
    prompts = [red(), green(5), {"object_id": 3, "frame_index": 5, "points": [point(3, 60)]}]  # nothing is there
    Labeler(replace(settings, parameters=parameters)).label(task(clip, prompts))
    Labeler(replace(settings, parameters=parameters, check_drift=True)).label(task(clip, prompts, key="checked"))
    plain, checked = part_of(settings), part_of(settings, "checked")
    assert checked.masks["counts"].equals(plain.masks["counts"])
    assert plain.masks["agreement"].null_count == len(plain.masks)
    assert plain.masklets["drift"].null_count == 3
    agreement = checked.masks.to_pandas().groupby("object_id").agreement
    drift = checked.masklets.to_pandas().set_index("object_id").drift
    if direction != "backward":
        assert agreement.count()[1] == 11
        assert drift[1] < 0.3
    assert drift[2] < 0.3
    assert drift.to_dict() == pytest.approx((1 - agreement.mean()).to_dict(), abs=1e-5, nan_ok=True)


def test_the_squares_are_found(settings, clip):
    Labeler(settings).label(task(clip, [red(), green()]))
    truth = {1: lambda t: (slice(8, 30), slice(6 + t, 28 + t)), 2: lambda t: (slice(34, 56), slice(68 - t, 90 - t))}
    for row in part_of(settings).masks.to_pylist():
        square = np.zeros((HEIGHT, WIDTH), bool)
        square[truth[row["object_id"]](row["frame_index"])] = True
        mask = rle.decode(row["counts"], (HEIGHT, WIDTH))
        assert (mask & square).sum() / (mask | square).sum() > 0.6


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_an_interrupted_video_continues_elsewhere_with_equal_labels(settings, tmp_path, direction):
    path = tmp_path / "clip.mp4"
    write_clip(path, frames=40)
    settings = replace(settings, parameters=Parameters(direction=direction))
    prompts = [red(19), green(22), red(25)]
    first = Labeler(settings)
    first.label(task(path, prompts, key="calm"))
    unfinished = replace(task(path, prompts, key="troubled"), resume=True)
    for frames in (3, 4):
        labeler = stopping_after(frames, replace(settings, checkpoint_every_s=0.0))
        with pytest.raises(InterruptedLabelingError):
            labeler.label(unfinished)
    last = Labeler(settings)
    last.label(unfinished)
    assert last.progress()["frames"] <= first.progress()["frames"] - 7, "the last worker did everything again"
    calm, troubled = part_of(settings, "calm"), part_of(settings, "troubled")
    assert calm.masks.drop(["label_key"]).equals(troubled.masks.drop(["label_key"]))
    assert calm.masklets.drop(["label_key"]).equals(troubled.masklets.drop(["label_key"]))
    assert calm.video["frames"] == troubled.video["frames"]
    assert not list((tmp_path / "out").glob("checkpoints/**/*.state"))


def test_an_object_that_ends_has_no_rows_until_its_next_prompt(settings, clip):
    ends = [
        red(until_frame=3),
        red(8, points=[point(25, 19)]),  # begins it again
        green(4, until_s=0.6),
        red(5, object_id=3, until_s=99.0),  # the video ends before
    ]
    for key, changed in (
        ("forward", Parameters()),
        ("both", Parameters(direction="both")),
        ("apart", Parameters(direction="both", non_overlapping=True)),
        ("backward", Parameters(direction="backward")),
    ):
        made = replace(settings, parameters=changed, check_drift=True)
        Labeler(made).label(task(clip, ends, key=key))
    alone = part_of(settings, "forward")
    rows = {o: alone.masks.filter(pc.field("object_id") == o) for o in (1, 2, 3)}
    assert [rows[o]["frame_index"].to_pylist() for o in rows] == [[0, 1, 2, *range(8, 12)], [4, 5], [*range(5, 12)]]
    columns = ("frames", "visible_frames", "gaps", "disappearances", "first_frame", "last_frame")
    assert alone.masklets.select(columns).to_pylist()[0] == dict(zip(columns, (7, 7, 0, 0, 0, 11), strict=True))
    measured = {
        name: dict(zip(*(rows[1][n].to_pylist() for n in ("frame_index", name)), strict=True))
        for name in ("agreement", "area_change")
    }
    assert [t for t, value in measured["agreement"].items() if value is None] == [2, 11], "each appearance has a seed"
    assert [t for t, value in measured["area_change"].items() if value is None] == [0, 8]
    for key in ("both", "apart"):
        both = part_of(settings, key).masks.select(["object_id", "frame_index"]).to_pylist()
        assert [row["frame_index"] for row in both if row["object_id"] == 1] == [0, 1, 2, *range(8, 12)]
        assert [row["frame_index"] for row in both if row["object_id"] == 2] == [*range(6)]
    backward = part_of(settings, "backward").masks.select(["object_id", "frame_index"]).to_pylist()
    assert [row["frame_index"] for row in backward if row["object_id"] == 1] == [0, 8], "never before its beginning"


def test_all_objects_ended_saves_the_rest_of_the_video(settings, clip):
    outcome = Labeler(settings).label(task(clip, [red(until_frame=3), green(1, until_frame=5)]))
    assert outcome.frames == 5
    (video,) = part_of(settings).video.to_pylist()
    assert (video["frames"], video["mask_rows"]) == (12, 7)


def cut(header, tracker):
    return header + b"\n" + tracker[: len(tracker) // 2]


def flipped(header, tracker):
    return header + b"\n" + tracker[:-9] + bytes([tracker[-9] ^ 4]) + tracker[-8:]


def cut_without_digests(header, tracker):
    """As release 0.1.0 saved it."""
    record = {name: value for name, value in json.loads(header).items() if name in ("frames", "rows")}
    return cut(json.dumps(record).encode(), tracker)


@pytest.mark.parametrize("damage", [cut, flipped, cut_without_digests])
def test_a_damaged_checkpoint_is_ignored_with_a_warning(settings, clip, damage, caplog):
    prompts = [red(), green(3)]
    Labeler(settings).label(task(clip, prompts, key="calm"))
    unfinished = replace(task(clip, prompts, key="troubled"), resume=True)
    with pytest.raises(InterruptedLabelingError):
        stopping_after(4, replace(settings, checkpoint_every_s=0.0)).label(unfinished)
    store = Store(settings.output)
    (state,) = (entry.path for entry in store.list() if entry.path.endswith(".state"))
    header, _, tracker = store.read(state).partition(b"\n")
    store.put(state, damage(header, tracker))
    assert Labeler(settings).label(unfinished).frames == 12, "the video was not labelled from its first frame"
    assert f"cannot use the checkpoint {state}" in caplog.text
    calm, troubled = part_of(settings, "calm"), part_of(settings, "troubled")
    assert calm.masks.drop(["label_key"]).equals(troubled.masks.drop(["label_key"]))
    assert calm.masklets.drop(["label_key"]).equals(troubled.masklets.drop(["label_key"]))


def stopping_after(frames, settings):
    """A labeler that is stopped while it encodes its n-th frame."""
    numbers = itertools.count(1)
    labeler = Labeler(settings, on_frame=lambda _: labeler.stop() if next(numbers) == frames else None)
    return labeler


def test_what_is_committed_already_is_not_done_again(settings, clip):
    labeler = Labeler(settings)
    labeler.label(task(clip, [red()]))
    assert labeler.label(task(clip, [red()])).was_there


def test_a_source_that_was_replaced_since_it_was_planned_is_not_labelled(settings, clip):
    planned = task(clip, [red()])
    write_clip(clip, frames=13, seed=1)
    with pytest.raises(StorageError, match="was replaced between planning and labelling"):
        Labeler(settings).label(planned)


def test_a_source_that_is_replaced_while_it_is_labelled_leaves_no_labels(settings, clip):
    def replace_clip(frame_index):
        if frame_index == 3:
            clip.write_bytes(clip.read_bytes())

    planned = task(clip, [red()])
    with pytest.raises(StorageError, match=r"was replaced while it was being labelled \(version .* became "):
        Labeler(settings, on_frame=replace_clip).label(planned)
    assert not list(Store(settings.output).list())
    assert not Labeler(settings).label(task(clip, [red()])).was_there


def test_a_source_deleted_after_reading_is_labelled(settings, clip):
    def remove_clip(frame_index):
        if frame_index == 3:
            clip.unlink()

    assert not Labeler(settings, on_frame=remove_clip).label(task(clip, [red()])).was_there


def test_other_weights_than_planned_are_refused(settings):
    with pytest.raises(ModelError, match="differ from those the run was planned with"):
        Labeler(replace(settings, weights_digest="0" * 64))


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([red(50)], "frame 50"),
        ([on_red(time_s=99.0)], "99"),
        ([on_red(frame_index=0, points=[point(500, 5)])], r"point \(500, 5\) lies outside the frame; .* 96 x 64"),
        ([{"object_id": 7, "frame_index": 0, "box": FAR_BOX}], "object 7, frame 0: box"),
        ([{"object_id": 1, "frame_index": 0, "mask": SMALL_MASK}], r"\[4, 4\]; the frame is 96 x 64"),
        ([red(0), on_red(time_s=0.04)], "two prompts on one frame"),
        ([on_red(time_s=0.5, until_frame=4)], "object 1, frame 5 .*until_frame 4 is not after the prompt's frame 5"),
        ([red(5, until_s=0.55)], "until_s 0.55, frame 5, is not after the prompt's frame 5"),
        ([red(0, until_frame=3), red(4, correct=True)], "nothing to correct on frame 4: the object has ended"),
    ],
)  # fmt: skip
def test_a_prompt_that_does_not_fit_fails_with_its_place(settings, clip, prompts, message):
    with pytest.raises(PromptError, match=message):
        Labeler(settings).label(task(clip, prompts))


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_without_overlap_each_pixel_belongs_to_one_object_and_nothing_is_lost(settings, tmp_path, direction):
    path = tmp_path / "clip.mp4"
    write_clip(path, frames=16)
    whole = {"x_min": 0, "y_min": 0, "x_max": WIDTH, "y_max": HEIGHT}
    prompts = [red(3), green(7), {"object_id": 3, "frame_index": 11, "box": whole}]
    masks = {}
    for separate in (False, True):
        parameters = Parameters(direction=direction, non_overlapping=separate)
        key = f"key{separate}"
        Labeler(replace(settings, parameters=parameters)).label(task(path, prompts, key=key))
        for row in part_of(settings, key).masks.to_pylist():
            masks.setdefault((separate, row["frame_index"]), []).append(rle.decode(row["counts"], (HEIGHT, WIDTH)))
    overlapped = False
    for (separate, frame), found in masks.items():
        if separate:
            free = np.stack(masks[False, frame])
            overlapped = overlapped or bool((free.sum(0) > 1).any())
            assert (np.stack(found).sum(0) <= 1).all()
            assert np.array_equal(np.any(found, 0), free.any(0))
    assert overlapped, "the objects never met, so the test showed nothing"


def test_a_segment_counts_its_frames_from_its_own_start(settings, clip):
    Labeler(settings).label(task(clip, [red(2)], start_s=0.3, end_s=0.9))
    rows = part_of(settings).masks.to_pylist()
    assert [row["frame_index"] for row in rows] == [2, 3, 4, 5]
    assert [row["time_s"] for row in rows] == pytest.approx([0.5, 0.6, 0.7, 0.8])


def test_the_videos_row_records_device_and_versions(settings, clip):
    Labeler(settings).label(task(clip, [red()]))
    (video,) = part_of(settings).video.to_pylist()
    assert video["compute_device"]
    assert video["torch_version"] == torch.__version__
    assert video["transformers_version"] == transformers.__version__
    assert video["compute_capability"] is None
    assert video["cuda_version"] is None, "labelled on a CPU"


def test_categories_and_extra_columns_do_not_change_a_video_record():
    row = dict.fromkeys(SCHEMA.names)
    extra = pa.table({"split": ["val"]})
    video = to_video({**row, "video_id": "v", "video_uri": "u", "prompts": []}, row=3, extra=extra)
    assert video.extra.to_pylist() == [{"split": "val"}]


def test_a_folder_of_images_has_the_rate_of_its_row(settings, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for t in range(5):
        picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        picture[8:30, 6 + t : 28 + t] = (230, 40, 40)
        Image.fromarray(picture).save(folder / f"{t:05}.png")
    version = content_version(str(folder))
    rows = [{"video_id": "v", "video_uri": str(folder), "prompts": [red()], "fps": 6.0}]
    video = read_manifest(write_manifest(tmp_path / "m.parquet", rows)).video(0)
    assert version is not None
    planned = labelling.task_of(video, version=version.token())
    Labeler(settings).label(planned)
    assert part_of(settings).masks["time_s"].to_pylist() == pytest.approx([t / 6 for t in range(5)])
    (folder / "00005.png").write_bytes((folder / "00004.png").read_bytes())
    with pytest.raises(StorageError, match="was replaced"):
        Labeler(settings).label(replace(planned, label_key="other"))


def test_the_fps_of_an_image_sequence_chooses_the_prompted_frame(settings, tmp_path):
    frames = write_folder(tmp_path / "frames", [f"{at}.png" for at in range(8)])
    for fps, frame in ((4.0, 2), (12.0, 6)):
        key = f"{fps:g}"
        Labeler(settings).label(task(frames, [on_red(time_s=0.5)], key=key, fps=fps))
        part = part_of(settings, key)
        assert [row["frame_index"] for row in part.masks.to_pylist() if row["is_prompted"]] == [frame]
        assert (part.video["fps"][0].as_py(), part.video["manifest_fps"][0].as_py()) == (fps, fps)


def test_images_under_a_video_file_name_refuse_an_fps(settings, tmp_path):
    frames = write_folder(tmp_path / "frames.mp4", ["0.png", "1.png"])
    with pytest.raises(
        VideoError, match=r"frames\.mp4: fps is 10, but this name of an image sequence ends like a video"
    ):
        Labeler(settings).label(task(frames, [on_red(frame_index=0)], fps=10.0))
    Labeler(settings).label(task(frames, [on_red(frame_index=0)]))
