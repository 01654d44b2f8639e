"""Each measure on masks whose value is known, and doubt on masklets that a reviewer would or would not flag."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.labels.masklets import masklet_quality
from pipeline.labels.measures.doubt import NAMED_FROM, REASONS, WEIGHTS, doubt_of, signals_of
from pipeline.labels.measures.frames import measure_logits
from pipeline.labels.rows import measure_masklet
from pipeline.workers.frame_masks import count_logits

PIXELS = 100 * 100


def logits(*pictures):
    """Logits from pictures of characters: `#` 5, `+` 0.5, `-` -0.5, `.` -5."""
    values = {"#": 5.0, "+": 0.5, "-": -0.5, ".": -5.0}
    return torch.tensor([[[values[c] for c in line] for line in picture.split()] for picture in pictures])


def measure(logits_ohw, object_ids, **threshold):
    return measure_logits(count_logits(logits_ohw, **threshold), object_ids)


def masklet(count=20, **columns):
    """Mask rows of a steady object of 20 x 20 pixels; columns replace its own."""
    base = {
        "frame_index": list(range(count)),
        "is_prompted": [True] + [False] * (count - 1),
        "area": [400] * count,
        "x_min": [10] * count,
        "y_min": [10] * count,
        "x_max": [30] * count,
        "y_max": [30] * count,
        "object_logit": [8.0] * count,
        "predicted_iou": [0.97] * count,
        "stability": [0.98] * count,
        "parts": [1] * count,
        "overlap": [0.0] * count,
        "touches_border": [None] * count,
        "area_change": [None] * count,
        "center_shift": [None] * count,
    } | columns
    types = {"touches_border": pa.bool_(), "area_change": pa.float32(), "center_shift": pa.float32()}
    table = pa.table({name: pa.array(values, types.get(name)) for name, values in base.items()})
    return measure_masklet(table, None, height=100, width=100)


def test_stability_is_the_iou_of_a_lower_and_a_higher_threshold():
    found = measure(logits("##+-. ##+-.", "..... ....."), (7, 8))
    assert found["stability"] == [pytest.approx(4 / 8), None]
    raised = measure(logits("##+-. ##+-.") + 2, (7,), mask_threshold=2.0)
    assert raised["stability"] == [pytest.approx(4 / 8)]


def test_parts_are_counted_by_object_and_corners_connect():
    diagonal, apart, ring, empty = "#.. .#. ..#", "#.# ... #.#", "### #.# ###", "... ... ..."
    assert measure(logits(diagonal, apart, ring, empty), (1, 2, 3, 4))["parts"] == [1, 4, 1, 0]
    assert measure(logits(empty), (1,))["parts"] == [0]


def test_overlap_names_the_closest_other_object():
    found = measure(logits("##.. ....", ".##. ....", ".### ....", ".... ...#"), (10, 20, 30, 40))
    assert found["overlap"] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 0])
    assert found["overlap_object_id"] == [20, 30, 20, None]
    assert measure(logits("##.."), (10,))["overlap_object_id"] == [None]


def test_motion_compares_with_the_frame_before_only_where_there_is_one():
    rows = masklet(
        5,
        frame_index=[3, 4, 6, 7, 8],
        area=[400, 800, 400, 0, 400],
        x_min=[10, 10, 10, None, 0],
        y_min=[10, 10, 10, None, 10],
        x_max=[30, 50, 30, None, 20],
        y_max=[30, 30, 30, None, 100],
    )
    assert rows["area_change"].to_pylist() == [None, 1.0, None, None, None]
    shift = rows["center_shift"].to_pylist()
    assert shift == [None, pytest.approx(10 / ((math.hypot(20, 20) + math.hypot(40, 20)) / 2)), None, None, None]
    assert rows["touches_border"].to_pylist() == [False, False, False, None, True]


def test_a_steady_object_has_low_doubt_and_no_reasons():
    quality = masklet_quality(masklet(), pixels=PIXELS)
    assert quality["doubt"] < 0.2
    assert quality["reasons"] == []
    assert (quality["appearances"], quality["disappearances"], quality["jumps"]) == (0, 0, 0)
    assert quality["visible_share"] == 1


def test_each_kind_of_wrong_mask_raises_its_signal():
    wrong = {
        "flicker": masklet(area=[400, 0] * 10, x_min=[10, None] * 10),
        "jumps": masklet(area=[400, 1600] * 10),
        "parts": masklet(parts=[3] * 20),
        "whole_frame": masklet(area=[400] + [9_000] * 19),
        "grown": masklet(area=[400] + [9_000] * 19),
        "merged": masklet(overlap=[0.9] * 20),
        "swap": masklet(overlap=[0.0] * 5 + [0.7] * 5 + [0.0] * 10),
        "low_iou": masklet(predicted_iou=[0.3] * 20),
        "unstable": masklet(stability=[0.3] * 20),
        "low_presence": masklet(object_logit=[0.1] * 20),
        "border": masklet(x_min=[0] * 20),
        "absent": masklet(area=[400] * 2 + [0] * 18, x_min=[10] * 2 + [None] * 18),
    }
    steady = signals_of(masklet(), pixels=PIXELS)
    for name, rows in wrong.items():
        assert signals_of(rows, pixels=PIXELS)[name] > steady[name] + 0.3, name
    assert masklet_quality(wrong["swap"], pixels=PIXELS)["swap_suspicions"] == 1
    assert masklet_quality(wrong["whole_frame"], pixels=PIXELS)["whole_frame_masks"] == 19


def test_doubt_rises_with_every_signal_and_stays_between_zero_and_one():
    assert set(REASONS) == set(WEIGHTS)
    nothing = dict.fromkeys(WEIGHTS, 0.0)
    assert doubt_of(nothing) == (0.0, [])
    for name, weight in WEIGHTS.items():
        doubt, reasons = doubt_of(nothing | {name: 1.0})
        assert 0 <= doubt <= 1
        assert (doubt > 0) == (weight > 0)
        assert reasons == ([REASONS[name]] if doubt >= NAMED_FROM else [])
    doubt, reasons = doubt_of(dict.fromkeys(WEIGHTS, 1.0))
    assert doubt <= 1
    assert len(set(reasons)) == len(reasons)


def test_absent_objects_and_missing_scores_give_a_finite_doubt():
    empty = [0] * 20
    none = pa.array([None] * 20, pa.int32())
    rows = masklet(area=empty, x_min=none, object_logit=pa.array([None] * 20, pa.float32()))
    quality = masklet_quality(rows, pixels=PIXELS)
    assert quality["visible_share"] == 0
    assert 0 < quality["doubt"] <= 1
    older = rows.select(["frame_index", "is_prompted", "area", "object_logit", "predicted_iou"])
    assert 0 <= masklet_quality(older, pixels=PIXELS)["doubt"] <= 1
    assert not np.isnan(quality["doubt"])
