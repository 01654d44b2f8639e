"""Label keys, reasons and order of work: pure functions over Arrow columns."""

import pyarrow as pa
import pytest

from pipeline.errors import UsageError
from pipeline.labels.key import KEY_COLUMNS, Parameters, label_key
from pipeline.manifest import PROMPT, SCHEMA
from pipeline.runs.estimate import costs_of
from pipeline.runs.plan import make_plan

INPUTS = {"version": "10-a", "start_s": None, "end_s": None, "prompts": "p", "weights": "w", "parameters": "{}"}


KEY_TYPES = {"start_s": pa.float64(), "end_s": pa.float64(), "fps": pa.float64(), "algorithm_version": pa.int32()}
LABELLED = pa.schema(
    [("video_id", pa.string()), ("label_key", pa.string())]
    + [(name, KEY_TYPES.get(name, pa.string())) for name in KEY_COLUMNS]
)


def manifest(rows):
    """Canonical rows with one prompted object each, unless `objects` says how many."""
    filled = []
    for row in rows:
        prompts = [{"object_id": i, "frame_index": 0} for i in range(row.pop("objects", 1))]
        filled.append({"video_uri": f"{row['video_id']}.mp4", "prompts": prompts, **row})
    return pa.Table.from_pylist(filled, schema=SCHEMA)


def plan_of(rows, *, versions=None, sizes=None, labelled=(), weights="w", parameters=None, **given):
    table = given.pop("table", None) or manifest(rows)
    return make_plan(
        table,
        versions=pa.array(versions or ["10-a"] * len(rows), pa.string()),
        sizes=pa.array(sizes or [1000] * len(rows), pa.int64()),
        prompt_digests=pa.array(given.pop("digests", ["p"] * len(rows))),
        weights=weights,
        parameters=parameters or Parameters(),
        labelled=pa.Table.from_pylist(list(labelled), schema=LABELLED),
        committed=given.pop("committed", ()),
        quarantined=given.pop("quarantined", ()),
        costs=costs_of(None, object_cost=1.39, lanes=None),
        **given,
    )


def labelled_as(plan):
    """The videos table after everything in a plan was labelled and published."""
    return plan.table.select(["video_id", "label_key", *KEY_COLUMNS]).to_pylist()


@pytest.mark.parametrize("name", INPUTS)
def test_the_key_changes_with_everything_that_determines_masks(name):
    changed = INPUTS | {name: 1.5 if name.endswith("_s") else "other"}
    assert label_key(**changed) != label_key(**INPUTS)
    assert len(label_key(**INPUTS)) == 64


def test_the_key_is_the_same_for_ever():
    assert label_key(**INPUTS) == "0ef42ded3585d3aac6bf56de273516df8cbfe3602aedd80966b5764f03c3324a"


def test_work_is_ordered_by_priority_and_then_by_cost():
    rows = [
        {"video_id": "short", "num_frames": 10},
        {"video_id": "long", "num_frames": 1000},
        {"video_id": "crowded", "num_frames": 600, "objects": 5},
        {"video_id": "urgent", "num_frames": 1, "priority": 7},
        {"video_id": "later", "num_frames": 9999, "priority": -1},
    ]
    plan = plan_of(rows)
    assert plan.table["video_id"].take(plan.order).to_pylist() == ["urgent", "crowded", "long", "short", "later"]


def test_without_num_frames_the_larger_file_comes_first():
    plan = plan_of([{"video_id": "a"}, {"video_id": "b"}, {"video_id": "c"}], sizes=[10**6, 10**8, None])
    assert plan.table["video_id"].take(plan.order).to_pylist() == ["b", "a", "c"]


def test_distinct_objects_are_counted_not_prompts():
    table = manifest([{"video_id": "a"}])
    prompts = [
        {"object_id": 4, "frame_index": 0},
        {"object_id": 4, "frame_index": 9},
        {"object_id": 1, "frame_index": 0},
    ]
    table = table.set_column(2, "prompts", pa.array([prompts], pa.list_(PROMPT)))
    plan = plan_of([{"video_id": "a"}], table=table)
    assert plan.table["objects"].to_pylist() == [2]


def test_what_is_labelled_is_left_out_whether_published_or_committed():
    first = plan_of([{"video_id": "a"}, {"video_id": "b"}, {"video_id": "c"}])
    published = labelled_as(first)[:1]
    again = plan_of(
        [{"video_id": "a"}, {"video_id": "b"}, {"video_id": "c"}],
        labelled=published,
        committed={("b", first.table["label_key"][1].as_py())},
    )
    assert again.table["state"].to_pylist() == ["labelled", "labelled", "pending"]
    assert again.reasons() == {"new video": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"versions": ["11-b"]}, "video changed"),
        ({"digests": ["q"]}, "prompts changed"),
        ({"weights": "x"}, "model changed"),
        ({"parameters": Parameters(direction="both")}, "parameters changed"),
        ({"weights": "x", "digests": ["q"]}, "prompts and model changed"),
    ],
)
def test_a_changed_part_of_the_key_is_named(change, reason):
    before = plan_of([{"video_id": "a"}])
    assert plan_of([{"video_id": "a"}], labelled=labelled_as(before), **change).reasons() == {reason: 1}


def test_a_changed_segment_is_named_and_an_unchanged_one_is_not():
    before = plan_of([{"video_id": "a", "start_s": 1.0}, {"video_id": "b", "start_s": 1.0, "end_s": 2.0}])
    after = plan_of([{"video_id": "a", "start_s": 2.0}, {"video_id": "b", "start_s": 1.0, "end_s": 2.0}],
                    labelled=labelled_as(before))  # fmt: skip
    assert after.table["state"].to_pylist() == ["pending", "labelled"]
    assert after.reasons() == {"segment changed": 1}


def test_quarantine_holds_for_the_same_key_only():
    first = plan_of([{"video_id": "a"}])
    bad = {("a", first.table["label_key"][0].as_py())}
    assert plan_of([{"video_id": "a"}], quarantined=bad).count("quarantined") == 1
    assert plan_of([{"video_id": "a"}], quarantined=bad, digests=["q"]).count("pending") == 1
    assert plan_of([{"video_id": "a"}], retried=bad).reasons() == {"retry due": 1}


def test_a_missing_source_is_not_assigned():
    plan = plan_of([{"video_id": "a"}, {"video_id": "b"}], versions=[None, "v"])
    assert plan.table["state"].to_pylist() == ["unreadable", "pending"]
    assert plan.order.tolist() == [1]


def test_an_empty_manifest_has_nothing_to_do():
    assert plan_of([]).order.tolist() == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"direction": "sideways"}, "direction is 'sideways'; allowed are forward, backward, both"),
        ({"dtype": "float16"}, "allowed are float32, bfloat16"),
        ({"mask_threshold": float("nan")}, "allowed is any finite number"),
        ({"max_hole_area": -1}, "allowed is 0"),
    ],
)
def test_parameters_out_of_range_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        Parameters(**given)
