"""Labels against transformers' own loop, through the whole path: real video, manifest, label rows.

The reference runs each object alone in a session of its own over the whole decoded video (tests/tracking/reference.py).
"""

import av
import numpy as np
import pytest

from pipeline.labels import read_part
from pipeline.labels.key import Parameters
from pipeline.manifest import read_manifest
from pipeline.masks import rle
from pipeline.runs.config import RunConfig
from pipeline.runs.run import label_corpus
from pipeline.storage import part_path
from pipeline.tables.query import open_labels
from pipeline.tracking.model import load
from pipeline.workers.labeler import Labeler
from pipeline.workers.prompts import resolve_prompts
from tests.clips import HEIGHT, WIDTH, point, write_clip, write_manifest
from tests.labelling import settings, task_of
from tests.tracking.models import random_model, random_sam2, tiny_config
from tests.tracking.reference import rows as reference_rows

LENGTHS = (1, 2, 10, 15, 16, 17, 40)
SHORT = (1, 2, 17)
BOX = {"x_min": 20.0, "y_min": 10.0, "x_max": 60.0, "y_max": 50.0}


def save(sam2, folder):
    """A model as users have it: a folder for from_pretrained."""
    sam2.model.save_pretrained(folder)
    sam2.processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(random_model(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def sam2(folder):
    return load(folder, device="cpu")


def prompts_of(kind, frames, direction):
    """Prompts of each kind the manifest has, as far as the video is long enough for them."""
    square = np.zeros((1, HEIGHT, WIDTH), bool)
    square[0, 12:44, 30:70] = True
    last = frames - 1
    click = {"object_id": 1, "frame_index": 0, "points": [point(40, 30)]}
    middle = click | {"frame_index": frames // 2}
    reached = {"forward": [last], "backward": [0], "both": [0, last]}[direction]
    off = {"object_id": 1, "points": [point(50, 40, 0)], "correct": True}
    kinds = {
        "click": [click],
        "clicks": [click | {"points": [point(40, 30), point(60, 20), point(5, 5, 0)]}],
        "box": [{"object_id": 1, "frame_index": 0, "box": BOX}],
        "box and points": [{"object_id": 1, "frame_index": 0, "box": BOX, "points": [point(40, 30), point(3, 3, 0)]}],
        "mask": [
            {"object_id": 1, "frame_index": 0, "mask": {"size": [HEIGHT, WIDTH], "counts": rle.encode(square)[0]}}
        ],
        "refined": [click, click | {"frame_index": last, "points": [point(50, 40), point(9, 9, 0)]}],
        "late": [middle],
        "corrected": [middle, *(off | {"frame_index": t} for t in reached if t != frames // 2)],
        "three": [
            click,
            {"object_id": 2, "frame_index": frames // 3, "box": BOX},
            {"object_id": 3, "frame_index": last, "points": [point(70, 20), point(80, 30)]},
        ],
    }
    return kinds[kind][: 1 if frames == 1 and kind == "refined" else None]


def decode(path):
    """All frames as plain PyAV gives them."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def compare(sam2, model_folder, tmp_path, frames, kind, direction):
    """Label one clip and hold every row against the reference; gives rows, rows that are not empty, pixels, flips."""
    path = tmp_path / f"{frames}.mp4"
    write_clip(path, frames=frames, seed=frames)
    rows = [{"video_id": "v", "video_uri": str(path), "prompts": prompts_of(kind, frames, direction)}]
    video = read_manifest(write_manifest(tmp_path / "m.parquet", rows)).video(0)
    output = tmp_path / f"{frames}-{kind}-{direction}"
    Labeler(settings(output, model=model_folder, parameters=Parameters(direction=direction))).label(task_of(video))
    labels = read_part(f"{output}/{part_path('v', 'key')}").masks.to_pylist()
    objects = resolve_prompts(video.prompts, height=HEIGHT, width=WIDTH, index_at=lambda times: [0] * len(times))
    expected = reference_rows(sam2, decode(path), objects, direction)
    assert {(row["object_id"], row["frame_index"]) for row in labels} == set(expected)
    filled = flipped = 0
    for row in labels:
        wanted = expected[row["object_id"], row["frame_index"]]
        flipped += np.count_nonzero(rle.decode(row["counts"], (HEIGHT, WIDTH)) != wanted.mask)
        filled += bool(wanted.mask.any())
        if row["object_logit"] is None:
            assert np.isnan(wanted.object_logit)
        else:
            assert row["object_logit"] == pytest.approx(wanted.object_logit, abs=1e-3)
            assert row["predicted_iou"] == pytest.approx(wanted.predicted_iou, abs=1e-3)
    return np.array([len(labels), filled, len(labels) * HEIGHT * WIDTH, flipped])


def check(totals):
    """At most one pixel in 100,000 may flip: engine and reference add the same numbers in another order."""
    rows, filled, pixels, flipped = totals
    print(f"{rows} masks, {filled} not empty: {flipped} of {pixels} pixels differ")
    assert filled > 0.5 * rows, "most masks are empty: this compares nothing with nothing"
    assert flipped <= max(1, pixels / 100_000)


KINDS = ("click", "clicks", "box", "box and points", "mask", "refined", "late", "corrected", "three")


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_labels_equal_transformers_own_loop(sam2, folder, tmp_path, direction):
    kinds = ("refined", "three")
    check(sum(compare(sam2, folder, tmp_path, frames, kind, direction) for frames in SHORT for kind in kinds))


def test_labels_of_trained_weights_equal_transformers_own_loop(tmp_path):
    sam2 = load("embedded", device="cpu")
    check(sum(compare(sam2, "embedded", tmp_path, 17, kind, "both") for kind in ("three", "corrected")))


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_prompt_kind_and_length_equals_transformers_own_loop(sam2, folder, tmp_path, kind, direction):
    check(sum(compare(sam2, folder, tmp_path, frames, kind, direction) for frames in LENGTHS))


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_the_real_architecture_on_a_real_video(tmp_path, shared):
    """hiera-tiny at 1024 px with random weights, on the first three frames, from manifest to tables."""
    model_folder = save(random_sam2(tiny_config(1024)), tmp_path / "hiera-tiny")
    path = shared / "videos" / "bedroom.mp4"
    prompts = [{"object_id": 1, "frame_index": 0, "points": [point(420, 270)]}]
    rows = [{"video_id": "bedroom", "video_uri": str(path), "prompts": prompts, "end_s": 0.1}]
    config = RunConfig(
        manifest=write_manifest(tmp_path / "m.parquet", rows),
        output=str(tmp_path / "out"),
        model=model_folder,
        actors=1,
    )
    assert label_corpus(config).exit_code == 0
    with open_labels(tmp_path / "out") as labels:
        found = labels.sql("SELECT frame_index, counts, object_logit FROM masks ORDER BY 1").fetchall()
    sam2 = load(model_folder, device="cpu")
    objects = resolve_prompts(
        read_manifest(config.manifest).video(0).prompts, height=540, width=960, index_at=lambda times: [0] * len(times)
    )
    expected = reference_rows(sam2, decode(path)[:3], objects, "forward")
    assert [frame for frame, _, _ in found] == [0, 1, 2]
    for frame, counts, logit in found:
        wanted = expected[1, frame]
        assert wanted.mask.any()
        assert np.count_nonzero(rle.decode(counts, (540, 960)) != wanted.mask) <= 5  # of 518,400
        assert logit == pytest.approx(wanted.object_logit, abs=1e-3)
