"""Objects that begin from detections: labelled in this process, replayed from their decided prompts, and continued."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.detection import read_video
from pipeline.detection.thresholds import Association
from pipeline.errors import InterruptedLabelingError, StorageError
from pipeline.labels import read_part
from pipeline.labels.key import Parameters, label_key
from pipeline.manifest import prompts_from_json, read_manifest
from pipeline.storage import part_path
from pipeline.video import open_video
from pipeline.workers.labeler import Labeler
from tests import labelling
from tests.clips import write_clip

FRAMES = 24


def red(t):
    return {"x_min": 6.0 + t, "y_min": 8.0, "x_max": 28.0 + t, "y_max": 30.0}


def green(t):
    return {"x_min": 68.0 - t, "y_min": 34.0, "x_max": 90.0 - t, "y_max": 56.0}


def found(t, box, category, score=0.6):
    return {"video_id": "v", "frame_index": t, "box": box, "category": category, "score": score}


def evidence():
    """Looks every 4 frames; green comes later, a false detection once, and red's box is off on one look."""
    rows = [found(t, red(t), "red") for t in range(0, FRAMES, 4) if t != 12]
    rows += [found(t, green(t), "green") for t in range(4, FRAMES, 4)]
    rows += [found(12, {"x_min": 20.0, "y_min": 10.0, "x_max": 60.0, "y_max": 34.0}, "red", 0.9)]
    return [*rows, found(8, {"x_min": 2.0, "y_min": 44.0, "x_max": 14.0, "y_max": 60.0}, "blue")]


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", frames=FRAMES)


@pytest.fixture
def settings(tmp_path):
    return labelling.settings(tmp_path / "out", association=Association())


def task(clip, tmp_path, rows, *, key="key", **changed):
    """A task as the driver makes it for a video with detections."""
    uri = str(tmp_path / f"{key}.parquet")
    pq.write_table(pa.Table.from_pylist(rows), uri)
    manifest = read_manifest(pa.table({"video_id": ["v"], "video_uri": [clip], "detections": [uri]}))
    given = {"detections_digest": read_video(uri, "v").digest, "parameters": Parameters().for_detections(), **changed}
    return replace(labelling.task_of(manifest.video(0), label_key=key), **given)


def part_of(settings, key="key"):
    return read_part(f"{settings.output}/{part_path('v', key)}")


def rows_of(part):
    return part.masks.drop_columns("label_key")


def replayed(settings, clip, part, *, direction="forward", label_rate=None, frame_of=None):
    """The part of an ordinary manifest with the decided prompts, on frames that `frame_of` gives for theirs."""
    given = json.loads(part.video["prompts"][0].as_py())
    for prompt in given if frame_of else ():
        prompt["frame_index"] = frame_of(prompt["frame_index"])
    prompts = prompts_from_json(json.dumps(given))
    manifest = read_manifest(pa.table({"video_id": ["v"], "video_uri": [clip], "prompts": [prompts]}))
    parameters = Parameters(direction=direction, max_conditioning_frames=4)
    plain = labelling.task_of(manifest.video(0), label_key="replayed")
    Labeler(settings).label(replace(plain, parameters=parameters, label_rate=label_rate))
    return part_of(settings, "replayed")


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_decided_prompts_in_a_manifest_give_the_same_rows(settings, clip, tmp_path, direction):
    parameters = Parameters(direction=direction).for_detections()
    outcome = Labeler(settings).label(task(clip, tmp_path, evidence(), parameters=parameters))
    part = part_of(settings)
    assert outcome.frames >= FRAMES
    prompts = json.loads(part.video["prompts"][0].as_py())
    assert [(p["object_id"], p["frame_index"], p["category"], p["why"]) for p in prompts] == [
        (1, 0, "red", "start"),
        (2, 4, "green", "start"),
        (1, 12, "red", "repair"),
        (1, 16, "red", "repair"),
    ][: len(prompts)]
    assert len(prompts) >= 3
    assert json.loads(part.video["dropped_detections"][0].as_py()) == {"unconfirmed": 1}
    assert part.masklets["category"].to_pylist() == ["red", "green"]
    assert rows_of(replayed(settings, clip, part, direction=direction)).equals(rows_of(part))


def test_identities_become_object_ids_and_their_prompts_give_the_same_rows(settings, clip, tmp_path):
    tracks = {"red": 9, "green": 4, "blue": None}
    rows = [{**each, "track_id": tracks[each["category"]]} for each in evidence()]
    Labeler(settings).label(task(clip, tmp_path, rows))
    part = part_of(settings)
    found = dict(zip(part.masklets["object_id"].to_pylist(), part.masklets["category"].to_pylist(), strict=True))
    assert found == {4: "green", 9: "red"}
    order = [("frame_index", "ascending"), ("object_id", "ascending")]
    assert rows_of(replayed(settings, clip, part)).sort_by(order).equals(rows_of(part).sort_by(order))


def test_objects_of_detections_end_at_a_cut_and_are_replayed(settings, clip, tmp_path):
    Labeler(settings).label(task(clip, tmp_path, evidence(), cuts=(10,)))
    part = part_of(settings)
    prompts = json.loads(part.video["prompts"][0].as_py())
    begun = [(p["object_id"], p["frame_index"], p["category"]) for p in prompts if p["why"] == "start"]
    assert begun[:2] == [(1, 0, "red"), (2, 4, "green")]
    assert min(frame for _, frame, _ in begun[2:]) == 12
    before = [max(p["until_frame"] for p in prompts if p["object_id"] == i and "until_frame" in p) for i in (1, 2)]
    assert before == [10, 10]
    assert json.loads(part.video["association"][0].as_py())["cuts"] == [10]
    assert rows_of(replayed(settings, clip, part)).equals(rows_of(part))


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_decided_prompts_are_replayed_at_a_label_rate_with_looks_on_its_grid(settings, clip, tmp_path, direction):
    parameters = Parameters(direction=direction).for_detections()
    Labeler(settings).label(task(clip, tmp_path, evidence(), parameters=parameters, label_rate="5fps"))
    part = part_of(settings)
    frames = set(part.masks["frame_index"].to_pylist())
    assert frames == {*range(0, FRAMES, 2)}
    assert len(json.loads(part.video["prompts"][0].as_py())) >= 3
    again = replayed(settings, clip, part, direction=direction, label_rate="2f")
    assert rows_of(again).equals(rows_of(part))
    stopped = []
    labeler = Labeler(settings, on_frame=lambda frame: frame == 14 and (stopped.append(frame) or labeler.stop()))
    if direction == "forward":
        cut = {"parameters": parameters, "label_rate": "5fps", "key": "cut"}
        with pytest.raises(InterruptedLabelingError):
            labeler.label(task(clip, tmp_path, evidence(), **cut))
        Labeler(settings).label(task(clip, tmp_path, evidence(), **cut, resume=True))
        assert rows_of(part_of(settings, "cut")).equals(rows_of(part))


def test_objects_end_at_a_cut_between_labelled_frames_and_are_replayed(settings, clip, tmp_path):
    Labeler(settings).label(task(clip, tmp_path, evidence(), cuts=(11,), label_rate="4f"))
    part = part_of(settings)
    prompts = json.loads(part.video["prompts"][0].as_py())
    assert {p["until_frame"] for p in prompts if "until_frame" in p} == {9}
    assert min(p["frame_index"] for p in prompts if p["object_id"] > 2) == 12
    assert rows_of(replayed(settings, clip, part, label_rate="4f")).equals(rows_of(part))


def test_looks_off_the_grid_are_labelled_as_in_a_video_of_these_frames(settings, clip, tmp_path):
    Labeler(settings).label(task(clip, tmp_path, evidence(), label_rate="5f"))
    part = part_of(settings)
    chosen = sorted({*range(0, FRAMES, 5), *range(0, FRAMES, 4)})
    assert sorted(set(part.masks["frame_index"].to_pylist())) == chosen
    (tmp_path / "images").mkdir()
    with open_video(Path(clip), name="clip") as reader:
        for frame in reader.forward():
            if frame.index in chosen:
                Image.fromarray(frame.rgb).save(tmp_path / "images" / f"{frame.index:03}.png")
    again = replayed(settings, str(tmp_path / "images"), part, frame_of=chosen.index)
    columns = ["object_id", "counts", "object_logit", "predicted_iou", "is_prompted"]
    assert again.masks.select(columns).equals(part.masks.select(columns))
    assert [chosen[place] for place in again.masks["frame_index"].to_pylist()] == part.masks["frame_index"].to_pylist()


def test_an_interrupted_video_continues_with_its_association(settings, clip, tmp_path):
    Labeler(settings).label(task(clip, tmp_path, evidence(), key="whole"))
    stopped = []

    def stop(frame):
        if frame == 13 and not stopped:
            stopped.append(frame)
            labeler.stop()

    labeler = Labeler(settings, on_frame=stop)
    with pytest.raises(InterruptedLabelingError):
        labeler.label(task(clip, tmp_path, evidence(), key="cut"))
    outcome = Labeler(settings).label(task(clip, tmp_path, evidence(), key="cut", resume=True))
    assert 0 < outcome.frames < FRAMES
    whole, cut = part_of(settings, "whole"), part_of(settings, "cut")
    assert rows_of(cut).equals(rows_of(whole))
    assert cut.video["prompts"] == whole.video["prompts"]
    assert cut.video["dropped_detections"] == whole.video["dropped_detections"]


def test_looks_that_saw_nothing_give_an_empty_valid_label(settings, clip, tmp_path):
    nothing = pa.array([None], pa.struct([(side, pa.float64()) for side in red(0)]))
    pq.write_table(pa.table({"video_id": ["v"], "frame_index": [3], "box": nothing}), tmp_path / "none.parquet")
    looked = task(clip, tmp_path, [{"video_id": "v", "frame_index": 3, "box": None, "mask": None}])
    Labeler(settings).label(looked)
    part = part_of(settings)
    assert part.masks.num_rows == part.masklets.num_rows == 0
    assert part.video["objects"].to_pylist() == [0]
    assert part.video["frames"].to_pylist() == [FRAMES]


def test_wrong_detections_are_counted_by_reason_and_cost_nothing_else(settings, clip, tmp_path):
    rows = [found(t, red(t), "red") for t in (0, 8)] * 2  # each twice
    rows += [found(0, {"x_min": 300.0, "y_min": 1.0, "x_max": 400.0, "y_max": 9.0}, "red")]
    rows += [found(900, red(0), "red"), found(4, red(4), "car"), found(4, red(4), "red", 0.1)]
    rows += [found(0, red(4) | {"x_max": -1.0}, "red")]
    association = Association(classes=("red",), min_score=0.3)
    given = replace(settings, association=association)
    Labeler(given).label(task(clip, tmp_path, rows))
    part = part_of(settings)
    assert part.masklets["category"].to_pylist() == ["red"]
    dropped = json.loads(part.video["dropped_detections"][0].as_py())
    assert dropped == {"bad_row": 1, "duplicate": 2, "low_score": 1, "other_class": 1, "outside_the_frame": 1}


def test_detections_without_scores_need_a_second_look(settings, clip, tmp_path):
    rows = [{k: v for k, v in row.items() if k != "score"} for row in evidence()]
    Labeler(settings).label(task(clip, tmp_path, rows))
    assert part_of(settings).masklets["category"].to_pylist() == ["red", "green"]


def test_detections_changed_since_the_plan_are_refused(settings, clip, tmp_path):
    with pytest.raises(StorageError, match="have changed since the run was planned"):
        Labeler(settings).label(task(clip, tmp_path, evidence(), detections_digest="other"))


def test_a_correction_of_decided_prompts_continues_from_a_state(settings, clip, tmp_path):
    settings = replace(settings, keep_states=8)
    parameters = Parameters().for_detections()
    first = task(clip, tmp_path, evidence())
    given = {"start_s": None, "end_s": None, "weights": settings.weights_digest, "parameters": parameters.to_json()}
    decided = {"detections": first.detections_digest, "association": settings.association.to_json()}
    first = replace(first, label_key=label_key(version=first.version, prompts="p", **given, **decided))
    Labeler(settings).label(first)
    prompts = prompts_from_json(part_of(settings, first.label_key).video["prompts"][0].as_py())
    fix = {"object_id": 1, "frame_index": 19, "points": [{"x": 60.0, "y": 19.0, "label": 0}], "correct": True}
    manifest = read_manifest(pa.table({"video_id": ["v"], "video_uri": [clip], "prompts": [[*prompts, fix]]}))
    wanted = replace(labelling.task_of(manifest.video(0)), parameters=parameters)
    done = Labeler(settings).label(replace(wanted, label_key="fixed", earlier_key=first.label_key))
    part = part_of(settings, "fixed")
    assert done.frames == FRAMES - part.video["relabelled_from"][0].as_py() < FRAMES - 8
    Labeler(settings).label(replace(wanted, label_key="full"))
    assert rows_of(part).equals(rows_of(part_of(settings, "full")))
