"""Detections in the plan: what relabels a video and what does not, and what is wrong with tables, by name."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.api.label import plan as plan_from_python
from pipeline.detection.sources.reading import Reading
from pipeline.detection.thresholds import Association
from pipeline.errors import ManifestError, UsageError
from pipeline.labels.key import Parameters
from pipeline.manifest import digest_records, read_manifest
from pipeline.runs.config import RunConfig
from pipeline.runs.corrections import Correction, Corrections, overlay_manifest, read_corrections
from pipeline.runs.corrections.record import write_correction
from pipeline.runs.prepare import Prepared, prepare
from pipeline.storage import Store

VIDEOS = ("a", "b", "c")
PROMPTS = [[{"object_id": 1, "frame_index": 0, "box": {"x_min": 0.0, "y_min": 0.0, "x_max": 9.0, "y_max": 9.0}}]] * 3


def box(x):
    return {"x_min": float(x), "y_min": 0.0, "x_max": x + 9.0, "y_max": 9.0}


def row(video_id, frame=0, x=1.0, **changed):
    return {"video_id": video_id, "frame_index": frame, "box": box(x), "category": "car", "score": 0.9} | changed


def rows():
    return [row(video_id, frame) for video_id in VIDEOS for frame in (0, 5)]


def plan(tmp_path: Path, records, *, videos=VIDEOS, columns=None, **config) -> Prepared:
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "detections.parquet", row_group_size=2)
    manifest = {"video_id": list(videos), "video_uri": [f"/videos/{v}.mp4" for v in videos]}
    manifest |= {"video_version": ["1"] * len(videos), **(columns or {})}
    pq.write_table(pa.table(manifest), tmp_path / "manifest.parquet")
    usual = {"manifest": str(tmp_path / "manifest.parquet"), "output": str(tmp_path / "out"), "model": "embedded"}
    return prepare(RunConfig(**{**usual, "detections": str(tmp_path / "detections.parquet"), **config}))


def keys(prepared: Prepared) -> dict[str, str]:
    table = prepared.plan.table
    return dict(zip(table["video_id"].to_pylist(), table["label_key"].to_pylist(), strict=True))


def changed_by(tmp_path, records, **config):
    before, after = keys(plan(tmp_path, rows())), keys(plan(tmp_path, records, **config))
    return {video_id for video_id in before if before[video_id] != after[video_id]}


@pytest.mark.parametrize(
    "change", [{"box": box(2)}, {"category": "bus"}, {"score": 0.1}, {"frame_index": 1}, {"box": None}], ids=str
)
def test_a_changed_detection_relabels_its_video_alone(tmp_path, change):
    assert changed_by(tmp_path, [row(**{"video_id": "b", **change}), *rows()[:2], *rows()[3:]]) == {"b"}


def test_order_row_groups_and_other_columns_relabel_nothing(tmp_path):
    assert not changed_by(tmp_path, [{**each, "detector": "x"} for each in rows()[::-1]])


def test_detections_of_other_videos_relabel_nothing_and_are_said(tmp_path):
    assert not changed_by(tmp_path, [*rows(), row("z")])
    assert any(
        "1 of 7 detections are of videos that are not in the manifest" in n
        for n in plan(tmp_path, [*rows(), row("z")]).notes
    )


def test_a_parquet_table_that_is_not_sorted_by_video_is_reported(tmp_path):
    warned = "is not sorted by video_id: workers read most of its row groups for every video"
    assert not any(warned in note for note in plan(tmp_path, rows()).notes)
    assert any(warned in note for note in plan(tmp_path, [*rows()[::2], *rows()[1::2]]).notes)


@pytest.mark.parametrize("changed", [{"min_score": 0.5}, {"classes": ("car",)}, {"retire_after_s": None}], ids=str)
def test_every_setting_of_association_relabels_videos_with_detections(tmp_path, changed):
    assert changed_by(tmp_path, rows(), association=Association(**changed)) == set(VIDEOS)


def test_a_video_without_detections_keeps_its_key(tmp_path):
    prompts = [None, None, [{"object_id": 1, "frame_index": 0, "box": box(3)}]]
    table = str(tmp_path / "detections.parquet")
    columns = {"prompts": prompts, "detections": [table, table, None]}
    before = keys(plan(tmp_path, rows(), columns=columns, detections=None))
    after = keys(plan(tmp_path, rows(), columns=columns, detections=None, association=Association(min_score=0.5)))
    assert {v for v in VIDEOS if before[v] != after[v]} == {"a", "b"}


def test_videos_with_detections_bound_their_conditioning_frames(tmp_path):
    [parameters] = set(plan(tmp_path, rows()).plan.table["parameters"].to_pylist())
    assert parameters == Parameters(max_conditioning_frames=4).to_json()


def test_settings_of_later_releases_are_not_in_older_keys():
    assert "conditioning" not in Parameters().to_json()
    assert '"max_conditioning_frames":2' in Parameters(max_conditioning_frames=2).to_json()


def test_a_video_that_its_table_does_not_mention_is_refused_by_name(tmp_path):
    with pytest.raises(ManifestError, match=r"video_id 'c'.*no row of this video"):
        plan(tmp_path, rows()[:4])
    prepared = plan(tmp_path, rows()[:4], on_bad_row="skip")
    assert set(keys(prepared)) == {"a", "b"}
    assert [bad.video_id for bad in prepared.manifest.bad_rows] == ["c"]


def test_bad_detections_are_refused_by_name_or_left_out(tmp_path):
    bad = row("b", box={**box(1), "x_max": float("nan")})
    with pytest.raises(ManifestError, match=r"row 6, video_id 'b', column box.x_max, value nan"):
        plan(tmp_path, [*rows(), bad])
    prepared = plan(tmp_path, [*rows(), bad], on_bad_row="skip")
    assert keys(prepared) == keys(plan(tmp_path, rows()))
    assert any("they are left out" in note for note in plan(tmp_path, [*rows(), bad], on_bad_row="skip").notes)


def test_classes_that_no_detection_has_are_refused_or_said(tmp_path):
    with pytest.raises(UsageError, match=r"--classes: no detection has the class cat; the tables have car"):
        plan(tmp_path, rows(), association=Association(classes=("cat",)))
    notes = plan(tmp_path, rows(), association=Association(classes=("cat", "car"))).notes
    assert any("no detection has the class cat" in note for note in notes)


def test_a_manifest_names_other_forms_for_some_videos_from_python(tmp_path):
    results = [{"image_id": "b_000000", "category_id": 1, "bbox": [1, 0, 9, 9], "score": 0.9}]
    (tmp_path / "b.json").write_text(json.dumps([*results, {**results[0], "image_id": "b_000005"}]))
    (tmp_path / "names.txt").write_text("bus\nautomobile\n")
    before = keys(plan(tmp_path, rows()))
    table = pq.read_table(tmp_path / "manifest.parquet").append_column(
        "detections", pa.array([None, str(tmp_path / "b.json"), None])
    )
    given = {"names": str(tmp_path / "names.txt"), "map": {"automobile": "car"}}
    given |= {"detections": str(tmp_path / "detections.parquet"), "model": "embedded"}
    prepared = plan_from_python(table, tmp_path / "out", **given)
    assert keys(prepared) == before
    assert set(prepared.adapted) == {str(tmp_path / "b.json"), str(tmp_path / "detections.parquet")}
    with pytest.raises(UsageError, match="--map: no detection has the class lorry; the classes are automobile, car"):
        plan_from_python(table, tmp_path / "out", **{**given, "map": {"lorry": "truck"}})


def test_how_detections_are_read_needs_detections(tmp_path):
    with pytest.raises(UsageError, match="--map needs --detections"):
        plan(tmp_path, rows(), detections=None, reading=Reading(map=(("a", "b"),)), columns={"prompts": PROMPTS})


def test_a_table_that_is_not_there_is_refused_by_name(tmp_path):
    columns = {"detections": [str(tmp_path / "detections.parquet"), str(tmp_path / "none.parquet"), None]}
    with pytest.raises(ManifestError, match=r"none\.parquet"):
        plan(tmp_path, rows(), columns=columns)
    prepared = plan(tmp_path, rows(), columns=columns, on_bad_row="skip")
    assert [bad.video_id for bad in prepared.manifest.bad_rows] == ["b"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"parameters": Parameters(direction="backward")}, "allowed with detections: forward, both"),
        ({"parameters": Parameters(direction="both", non_overlapping=True)}, "--non-overlapping"),
    ],
)
def test_directions_that_cannot_decide_are_refused(tmp_path, config, message):
    with pytest.raises(UsageError, match=message):
        plan(tmp_path, rows(), **config)


@pytest.mark.parametrize("name", ["min_score", "confirm_score", "min_box", "max_objects", "retire_after_s"])
def test_settings_of_association_below_their_least_value_are_refused(name):
    with pytest.raises(UsageError, match="allowed"):
        Association(**{name: -1})


def test_a_corrected_video_is_labelled_from_the_prompts_that_were_decided():
    decided = [{"object_id": n, "frame_index": 2 * n, "box": box(n), "category": "car"} for n in (1, 2)]
    fixed = {"object_id": 2, "frame_index": 9, "points": [{"x": 3.0, "y": 3.0, "label": 1}], "correct": True}
    correction = Correction(
        video_id="b",
        name="n",
        time="",
        who="ann",
        over=digest_records([decided])[0],
        prompts=[fixed],
        removed=[],
        base=decided,
    )
    table = {"video_id": list("ab"), "video_uri": list("ab"), "detections": ["d.parquet"] * 2}
    overlay = overlay_manifest(read_manifest(pa.table(table)), Corrections(history={"b": [correction]}))
    assert (overlay.corrected, overlay.frozen, overlay.outdated) == (("b",), ("b",), ())
    assert overlay.manifest.table["detections"].to_pylist() == ["d.parquet", None]
    prompts = overlay.manifest.table["prompts"].to_pylist()
    assert [(p["object_id"], p["frame_index"]) for p in prompts[1]] == [(1, 2), (2, 4), (2, 9)]
    assert not prompts[0]


def test_corrections_of_decided_prompts_are_read_back(tmp_path):
    store, decided = Store(tmp_path), [{"object_id": 1, "frame_index": 0, "box": box(1)}]
    given = Correction(
        video_id="b",
        name="20261122T210000.000000Z-0000",
        time="t",
        who="ann",
        over="o",
        prompts=[],
        removed=[],
        base=decided,
    )
    write_correction(store, given)
    assert read_corrections(store).history["b"][0].base == decided
