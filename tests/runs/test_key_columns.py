"""Every manifest column, parameter and option is perturbed: the label key changes exactly where masks may change."""

import copy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.detection.thresholds import Association
from pipeline.errors import UsageError
from pipeline.labels import VIDEOS
from pipeline.labels.key import Parameters
from pipeline.manifest import PROMPT, SCHEMA, prompt_digests, read_manifest
from pipeline.masks import rle
from pipeline.runs.config import RunConfig
from pipeline.runs.estimate import costs_of
from pipeline.runs.groups import WorkerGroup
from pipeline.runs.plan import Plan, make_plan
from pipeline.runs.prepare import prepare
from tests.calibrations import calibration, rate
from tests.clips import write_clip, write_manifest

Place = tuple[str | int, ...]


def mask(side: int) -> str:
    return rle.encode(np.pad(np.ones((1, side, side), bool), ((0, 0), (0, 64 - side), (0, 96 - side))))[0]


POINT, BOX = {"x": 5.0, "y": 5.0, "label": 1}, {"x_min": 2.0, "y_min": 2.0, "x_max": 40.0, "y_max": 40.0}
ROW = {
    "video_id": "v",
    "video_uri": "s3://bucket/v.zip",
    "start_s": 0.0,
    "end_s": 1.0,
    "fps": 10.0,
    "video_version": "v1",
    "num_frames": 10,
    "priority": 1,
    "site": "north",
    "prompts": [
        {"object_id": 1, "frame_index": 0, "box": BOX, "category": "cat"},
        {"object_id": 2, "time_s": 0.5, "points": [POINT, {**POINT, "x": 7.0}]},
        {"object_id": 3, "frame_index": 0, "mask": {"size": [64, 96], "counts": mask(9)}},
        {"object_id": 1, "frame_index": 5, "box": BOX, "category": "cat"},
    ],
}
IN_KEY: dict[str, tuple[Place, Any, str]] = {
    "video_version": (("video_version",), "v2", "video"),
    "start_s": (("start_s",), 0.1, "segment"),
    "end_s": (("end_s",), 0.9, "segment"),
    "fps": (("fps",), 24.0, "fps"),
    "label_fps": (("label_fps",), 6.0, "label rate"),
    "label_every": (("label_every",), 3, "label rate"),
    "prompts.object_id": (("prompts", 1, "object_id"), 9, "prompts"),
    "prompts.frame_index": (("prompts", 0, "frame_index"), 3, "prompts"),
    "prompts.time_s": (("prompts", 1, "time_s"), 0.25, "prompts"),
    "prompts.points": (("prompts", 0, "points"), [POINT], "prompts"),
    "prompts.points.x": (("prompts", 1, "points", 0, "x"), 6.0, "prompts"),
    "prompts.points.y": (("prompts", 1, "points", 0, "y"), 6.0, "prompts"),
    "prompts.points.label": (("prompts", 1, "points", 0, "label"), 0, "prompts"),
    "prompts.box": (("prompts", 1, "box"), BOX, "prompts"),
    **{f"prompts.box.{side}": (("prompts", 0, "box", side), value + 1, "prompts") for side, value in BOX.items()},
    "prompts.mask": (("prompts", 2, "mask"), {"size": [96, 64], "counts": mask(9)}, "prompts"),
    "prompts.mask.size": (("prompts", 2, "mask", "size"), [96, 64], "prompts"),
    "prompts.mask.counts": (("prompts", 2, "mask", "counts"), mask(8), "prompts"),
    "prompts.correct": (("prompts", 3, "correct"), True, "prompts"),
    "prompts.until_frame": (("prompts", 3, "until_frame"), 8, "prompts"),
    "prompts.until_s": (("prompts", 1, "until_s"), 0.8, "prompts"),
}
"""Columns that may change masks: where another value goes, the value, and the reason that the plan gives."""
NOT_IN_KEY: dict[str, tuple[Place, Any]] = {
    "video_uri": (("video_uri",), "s3://elsewhere/w.zip"),
    "num_frames": (("num_frames",), 500),
    "priority": (("priority",), 7),
    "site": (("site",), "south"),
    "prompts.category": (("prompts", 0, "category"), None),
}
BY_THEIR_FIELDS_OR_AS_NAMES = {"video_id", "prompts", "detections"}
"""detections: by the content of the table, see tests/detection/test_planning.py."""
PARAMETERS_IN_KEY = {
    "direction": "both",
    "dtype": "bfloat16",
    "mask_threshold": 0.5,
    "max_hole_area": 4,
    "max_sprinkle_area": 4,
    "non_overlapping": True,
    "max_conditioning_frames": 2,
    "retire_after_s": 5.0,
}
OPTIONS_NOT_IN_KEY: dict[str, Any] = {
    "association": Association(min_score=0.5),
    "device": "cpu",
    "engine": "reference",
    "on_drift": "fail",
    "actors": 3,
    "cpus_per_actor": 2.0,
    "gpus_per_actor": 0.0,
    "lanes": 4,
    "worker_group": (WorkerGroup(name="large"),),
    "find_duplicates": "content",
    "address": "auto",
    "on_bad_row": "skip",
    "on_damaged": "fail",
    "publish": False,
    "checkpoint_every_s": 1.0,
    "keep_states": 8,
    "deadline_floor_s": 9.0,
    "grace_s": 1.0,
    "stop_at": 1e10,
    "budget_gpu_hours": 1.0,
    "sample": 1.0,
    "shard": (1, 1),
    "max_relabel": 1.0,
    "check_drift": True,
    "allow_uri": ("/",),
    "calibration": "calibration.json",
    "price_per_hour": 2.0,
}
OPTIONS_THAT_ARE_INPUTS = {
    "manifest",
    "prompts",
    "output",
    "storage",
    "model",
    "revision",
    "parameters",
    "detection",
    "detect",
    "detections",
    "end_at_cuts",
    "reading",
    "label_fps",
    "every",
}
"""By their content: columns, weights (test_plan), the fields of Parameters, and of DetectionParameters in
tests/detection, label rates below; output and storage say where it is."""


def planned(folder: Path, row: dict[str, Any], *, labelled: Plan | None = None, **parameters: Any) -> Plan:
    manifest = read_manifest(write_manifest(folder / "m.parquet", [row]))
    return make_plan(
        manifest.table,
        versions=manifest.table["video_version"].combine_chunks(),
        sizes=pa.array([1000], pa.int64()),
        prompt_digests=prompt_digests(manifest),
        weights="w",
        parameters=Parameters(**parameters),
        labelled=labelled.table if labelled else VIDEOS.empty_table(),
        committed=(),
        quarantined=(),
        costs=costs_of(None, object_cost=1.39, lanes=None),
    )


def with_value(place: Place, value: Any) -> dict[str, Any]:
    row: Any = copy.deepcopy(ROW)
    holder = row
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    return row


def test_the_two_lists_hold_every_column_parameter_and_option() -> None:
    names = set(SCHEMA.names) | {"site"}
    for field in PROMPT:
        names.add(f"prompts.{field.name}")
        kind = field.type.value_type if pa.types.is_list(field.type) else field.type
        if pa.types.is_struct(kind):
            names |= {f"prompts.{field.name}.{child.name}" for child in kind}
    assert names == set(IN_KEY) | set(NOT_IN_KEY) | BY_THEIR_FIELDS_OR_AS_NAMES
    assert {field.name for field in fields(Parameters)} == set(PARAMETERS_IN_KEY)
    assert {field.name for field in fields(RunConfig)} == set(OPTIONS_NOT_IN_KEY) | OPTIONS_THAT_ARE_INPUTS


@pytest.mark.parametrize("name", IN_KEY)
def test_a_column_that_may_change_masks_makes_the_video_pending(tmp_path: Path, name: str) -> None:
    place, value, reason = IN_KEY[name]
    after = planned(tmp_path, with_value(place, value), labelled=planned(tmp_path, ROW))
    assert after.reasons() == {f"{reason} changed": 1}


@pytest.mark.parametrize("name", NOT_IN_KEY)
def test_a_column_that_cannot_change_masks_changes_no_key(tmp_path: Path, name: str) -> None:
    after = planned(tmp_path, with_value(*NOT_IN_KEY[name]), labelled=planned(tmp_path, ROW))
    assert after.table["state"].to_pylist() == ["labelled"]


@pytest.mark.parametrize("name", PARAMETERS_IN_KEY)
def test_every_parameter_makes_the_video_pending(tmp_path: Path, name: str) -> None:
    after = planned(tmp_path, ROW, labelled=planned(tmp_path, ROW), **{name: PARAMETERS_IN_KEY[name]})
    assert after.reasons() == {"parameters changed": 1}


def test_no_other_option_changes_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("calibration.json").write_bytes(calibration(rate(1, 1, 10)).to_json())
    row = ROW | {"video_uri": write_clip(tmp_path / "v.mp4", frames=2), "video_version": None}
    config = RunConfig(
        manifest=write_manifest(tmp_path / "m.parquet", [row]), output=str(tmp_path / "out"), model="embedded"
    )
    keys = {
        prepare(changed).plan.table["label_key"][0].as_py()
        for changed in (config, *(replace(config, **{name: value}) for name, value in OPTIONS_NOT_IN_KEY.items()))
    }
    assert len(keys) == 1


def test_the_label_rate_is_in_the_key_wherever_it_is_given(tmp_path: Path) -> None:
    row = ROW | {"video_uri": write_clip(tmp_path / "v.mp4", frames=2), "video_version": None}

    def key(options: dict[str, Any], **columns: Any) -> str:
        manifest = write_manifest(tmp_path / "m.parquet", [row | columns])
        config = RunConfig(manifest=manifest, output=str(tmp_path / "out"), model="embedded", **options)
        table = prepare(config).plan.table
        keys.setdefault(table["label_rate"][0].as_py(), set()).add(table["label_key"][0].as_py())
        return str(table["label_key"][0].as_py())

    keys: dict[str | None, set[str]] = {}
    assert key({}) == key({"every": "1f"}) == key({"label_fps": 5}, label_every=1)
    assert key({"label_fps": 2.0}) == key({"every": "0.5s"}) == key({"every": "7f"}, label_fps=2.0)
    assert key({"every": "3f"}) == key({"label_fps": 5}, label_every=3)
    assert key({"label_fps": 2.5}) != key({"label_fps": 2.0})
    assert {rate: len(found) for rate, found in keys.items()} == {None: 1, "2fps": 1, "3f": 1, "2.5fps": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_fps": 0.0}, "--label-fps is 0.0; allowed: a number of frames a second above 0"),
        ({"label_fps": -3.0}, "--label-fps is -3.0"),
        ({"label_fps": float("nan")}, "--label-fps is nan"),
        ({"every": "3"}, "--every is '3'; allowed: a whole number of frames such as 3f, .* the unit is needed"),
        ({"every": "0f"}, "--every is '0f'"),
        ({"every": "-2f"}, "--every is '-2f'"),
        ({"every": "2.5f"}, "--every is '2.5f'"),
        ({"every": "0s"}, "--every is '0s'"),
        ({"every": "3f", "label_fps": 3.0}, "--label-fps is 3.0; allowed: none beside --every"),
    ],
)
def test_a_label_rate_that_cannot_be_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RunConfig(manifest="m", output="o", model="embedded", **options)


def test_a_label_rate_lowers_the_cost_of_a_plan(tmp_path: Path) -> None:
    costs = {name: planned(tmp_path, ROW | given).total("frames") for name, given in (
        ("all", {"fps": 24.0, "num_frames": 120}),
        ("6 of 24", {"fps": 24.0, "num_frames": 120, "label_fps": 6.0}),
        ("third", {"fps": 24.0, "num_frames": 120, "label_every": 3}),
        ("more than all", {"fps": 24.0, "num_frames": 120, "label_fps": 60.0}),
    )}  # fmt: skip
    assert costs == {"all": 120, "6 of 24": 30, "third": 40, "more than all": 120}


def test_fps_is_in_the_key_of_image_sequences_only(tmp_path: Path) -> None:
    for uri, reasons in (
        ("s3://b/frames/", {"fps changed": 1}),
        ("s3://b/v.zip", {"fps changed": 1}),
        ("s3://b/noname", {"fps changed": 1}),
        ("s3://b/v.MP4", {}),
        ("https://h/v.mkv?signature=ab", {}),
    ):
        row = ROW | {"video_uri": uri}
        before, without = planned(tmp_path, row), planned(tmp_path, row | {"fps": None})
        assert planned(tmp_path, row | {"fps": 24.0}, labelled=before).reasons() == reasons, uri
        assert (before.table["label_key"] == without.table["label_key"]) == (not reasons)


def test_labels_of_0_1_0_without_fps_in_the_key_report_fps_changed(tmp_path: Path) -> None:
    old = planned(tmp_path, ROW | {"fps": None}).table
    old = old.set_column(old.schema.get_field_index("fps"), "fps", pa.array([10.0]))
    assert planned(tmp_path, ROW, labelled=Plan(old, np.zeros(0, np.int64))).reasons() == {"fps changed": 1}
