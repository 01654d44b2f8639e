"""Calibrations: the formula of an estimate, and files that cannot be used."""

import dataclasses
import json

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.runs.calibration import Calibration, parse_calibration, read_calibration
from pipeline.runs.config import RunConfig
from pipeline.runs.estimate import costs_of
from pipeline.runs.prepare import prepare
from pipeline.storage import Storage
from tests.calibrations import EMBEDDED, calibration, rate
from tests.clips import green, red, write_clip, write_manifest


def seconds(measured: Calibration, frames: float, objects: int, lanes: int | None = None) -> float:
    (result,) = measured.seconds(np.array([frames], float), np.array([objects]), lanes=lanes)
    return result


def test_seconds_are_linear_between_measured_objects_and_beyond():
    measured = calibration(rate(1, 8, 100, 0.5), rate(5, 8, 50, 0.7), rate(20, 8, 10, 0.7))
    assert seconds(measured, 1000, 1) == pytest.approx(1000 / 100 + 0.5)
    assert seconds(measured, 1000, 5) == pytest.approx(1000 / 50 + 0.7)
    assert seconds(measured, 1000, 3) == pytest.approx(1000 * (1 / 100 + 1 / 50) / 2 + 0.6)
    per_object = (1 / 10 - 1 / 50) / 15
    assert seconds(measured, 1000, 30) == pytest.approx(1000 * (1 / 10 + 10 * per_object) + 0.7)
    assert seconds(measured, 0, 1) == 0.5


def test_one_measured_number_of_objects_is_scaled_by_the_model_cost():
    measured = calibration(rate(5, 8, 20))
    assert seconds(measured, 100, 5) == pytest.approx(5)
    assert seconds(measured, 100, 1) == pytest.approx(5 * (1 + 1.5) / (1 + 5 * 1.5))


def test_rates_of_the_closest_measured_lanes_are_used():
    measured = calibration(rate(1, 1, 10), rate(1, 6, 30))
    assert [measured.lanes_for(n) for n in (None, 1, 3, 8)] == [6, 1, 1, 6]
    assert dataclasses.replace(measured, gpus_per_actor=0.0).lanes_for(None) == 1
    assert seconds(measured, 60, 1, lanes=1) == pytest.approx(6)
    assert seconds(measured, 60, 1) == pytest.approx(2)


def test_a_calibration_is_read_as_it_was_written():
    measured = calibration(rate(1, 1, 10.5, 0.25), rate(2, 1, 7))
    assert parse_calibration(measured.to_json(), "c.json") == measured


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sam2_corpus_calibration": 2}, "sam2_corpus_calibration is 2; allowed is 1"),
        ({"rates": []}, r"rates is \[\]; allowed is a list with at least one rate"),
        ({"actors": "two"}, "actors is 'two'; allowed is int"),
        ({"actors": 0}, "actors is 0; allowed is 1 or more"),
        ({"start_s": float("nan")}, "start_s is nan; allowed is a finite number"),
        ({"object_cost": None}, "object_cost is None; allowed is int or float"),
        ({"rates": [{"objects": 1}]}, r"rates\[0\]: lanes is missing"),
        ({"rates": [7]}, r"rates\[0\] is 7; allowed is an object"),
    ],
)
def test_a_wrong_calibration_is_refused_by_its_wrong_value(changed, message):
    values = json.loads(calibration(rate(1, 1, 10)).to_json()) | changed
    with pytest.raises(
        UsageError, match=rf"c\.json is no calibration of this release, which .*jobs.calibrate.*{message}"
    ):
        parse_calibration(json.dumps(values).encode(), "c.json")


@pytest.mark.parametrize("field", ["objects", "lanes", "frames_per_s"])
def test_a_rate_of_zero_is_refused(field):
    values = json.loads(calibration(rate(1, 1, 10), dataclasses.replace(rate(2, 1, 5), **{field: 0})).to_json())
    with pytest.raises(UsageError, match=rf"rates\[1\].{field} is 0; allowed is a number above 0"):
        parse_calibration(json.dumps(values).encode(), "c.json")


def test_two_rates_of_the_same_objects_and_lanes_are_refused():
    with pytest.raises(UsageError, match="3 objects in 8 lanes are in two rates"):
        parse_calibration(calibration(rate(3, 8, 10), rate(3, 8, 11)).to_json(), "c.json")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"[]", b"{}", b"\xff"])
def test_a_file_that_is_no_calibration_is_refused(data):
    with pytest.raises(UsageError, match=r"c\.json is no calibration of this release"):
        parse_calibration(data, "c.json")


def read(path):
    return read_calibration(str(path), model=EMBEDDED, dtype="float32", storage=Storage())


def test_a_calibration_of_another_model_or_dtype_or_none_is_refused(tmp_path):
    path = tmp_path / "c.json"
    with pytest.raises(UsageError, match=rf"--calibration {path} cannot be read: "):
        read(path)
    path.write_bytes(calibration(rate(1, 1, 10), model="facebook/x", weights_digest="ab" * 32).to_json())
    with pytest.raises(
        UsageError,
        match=rf"measured with the model facebook/x \(weights abababababab\), and this run uses embedded \(weights "
        rf"{EMBEDDED.digest[:12]}\); measure it: python -m jobs.calibrate --model embedded --dtype float32",
    ):
        read(path)
    path.write_bytes(calibration(rate(1, 1, 10), dtype="bfloat16").to_json())
    with pytest.raises(UsageError, match="measured with --dtype bfloat16, not float32; measure it"):
        read(path)


def test_plan_and_estimate_are_the_formula_of_the_calibration(tmp_path):
    uri = write_clip(tmp_path / "v.mp4")
    rows = [
        {"video_id": "long", "video_uri": uri, "num_frames": 36000, "prompts": [red()]},
        {"video_id": "crowded", "video_uri": uri, "num_frames": 18000, "prompts": [red(), green()]},
    ]
    (tmp_path / "c.json").write_bytes(calibration(rate(1, 8, 10, 2.0), rate(2, 8, 4, 3.0)).to_json())
    config = RunConfig(
        manifest=write_manifest(tmp_path / "manifest.parquet", rows),
        output=str(tmp_path / "out"),
        model="embedded",
        calibration=str(tmp_path / "c.json"),
        actors=3,
    )
    prepared = prepare(config)
    costs = [36000 / 10 + 2.0, 18000 / 4 + 3.0]
    assert prepared.plan.table["cost"].to_pylist() == pytest.approx(costs)
    assert prepared.plan.order.tolist() == [1, 0]
    estimate = prepared.estimate
    assert estimate.seconds == pytest.approx(max(costs)), "no run is shorter than its longest video"
    assert estimate.gpu_hours == estimate.actor_hours == pytest.approx(sum(costs) / 3600)
    assert estimate.price(3.0) == pytest.approx(3 * sum(costs) / 3600)
    one = prepare(dataclasses.replace(config, actors=1, gpus_per_actor=0.5, check_drift=True)).estimate
    assert one.seconds == pytest.approx(2 * sum(costs))
    assert one.gpu_hours == pytest.approx(sum(costs) / 3600)


def test_without_a_calibration_an_object_costs_less_beside_a_larger_encoder():
    frames, objects = np.array([100.0, 40.0]), np.array([1, 5])
    tiny, large = (costs_of(None, object_cost=cost, lanes=None)(frames, objects) for cost in (1.39, 0.23))
    assert tiny[1] > tiny[0]
    assert large[1] < large[0]
