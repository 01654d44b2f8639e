"""A prompt digest names the geometry, and nothing else, in every run, on every machine, with every version."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labels.key import Parameters, label_key
from pipeline.manifest import MODIFIERS, PROMPT_KINDS, Manifest, prompt_digests, read_manifest
from pipeline.manifest.schema import SCHEMA
from tests.manifest.manifest_examples import BOX, MASK, POINT, prompt, row

FLOAT = st.floats(-1e6, 1e6, width=32)


def digests(rows: list[dict[str, Any]]) -> list[str]:
    filled = [{name: each.get(name) for name in SCHEMA.names} for each in rows]
    table = pa.Table.from_pylist(filled, schema=SCHEMA)
    return prompt_digests(Manifest(table=table, rows=np.arange(len(rows)), bad_rows=[])).to_pylist()


def number(value: float) -> int | float:
    return int(value) if float(value).is_integer() else float(value)


def reference(prompts: list[dict[str, Any]]) -> str:
    """The same by the standard library, one video at a time."""
    texts = []
    for each in sorted(
        prompts, key=lambda p: (p["object_id"], "frame_index" not in p, p.get("frame_index") or 0, p.get("time_s") or 0)
    ):
        said = {"object_id": each["object_id"]}
        if "frame_index" in each:
            said["frame_index"] = each["frame_index"]
        else:
            said["time_s"] = number(each["time_s"])
        if each.get("points"):
            said["points"] = sorted([number(p["x"]), number(p["y"]), p["label"]] for p in each["points"])
        if each.get("box"):
            said["box"] = [number(np.float32(side)) for side in each["box"].values()]
        if each.get("correct"):
            said["correct"] = True
        if "until_frame" in each:
            said["until_frame"] = each["until_frame"]
        if "until_s" in each:
            said["until_s"] = number(each["until_s"])
        if each.get("mask"):
            said["mask"] = each["mask"]
        texts.append(said)
    return hashlib.sha256(json.dumps(texts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


PROMPTS = st.lists(
    st.one_of(
        st.builds(
            lambda **fields: fields,
            object_id=st.integers(-5, 2**62),
            frame_index=st.integers(0, 9),
            points=st.lists(st.builds(dict, x=FLOAT, y=FLOAT, label=st.integers(0, 1)), max_size=4),
            correct=st.sampled_from([None, False, True]),
            box=st.none() | st.builds(dict, x_min=FLOAT, y_min=FLOAT, x_max=FLOAT, y_max=FLOAT),
        ),
        st.builds(
            lambda **fields: fields,
            object_id=st.integers(0, 3),
            frame_index=st.integers(10, 12),
            until_frame=st.integers(13, 2**31 - 1),
            mask=st.just(MASK),
        ),
        st.builds(
            lambda **fields: fields,
            object_id=st.integers(0, 3),
            time_s=st.floats(0, 1e5),
            until_s=st.floats(1, 1e5),
            mask=st.sampled_from([MASK, {"size": [480, 640], "counts": "a\\b\\\\0"}]),
        ),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda p: (p["object_id"], p.get("frame_index"), p.get("time_s")),
)


@settings(max_examples=25)
@given(st.lists(PROMPTS, min_size=1, max_size=4), st.randoms())
def test_it_is_the_sha256_of_canonical_json_and_order_does_not_matter(videos: Any, shuffle: Any) -> None:
    assert digests([row(*prompts) for prompts in videos]) == [reference(prompts) for prompts in videos]
    for prompts in videos:
        shuffle.shuffle(prompts)
        for each in prompts:
            shuffle.shuffle(each.get("points") or [])
    assert digests([row(*prompts) for prompts in videos]) == [reference(prompts) for prompts in videos]


def test_values_that_must_never_change() -> None:
    """Labels of a whole corpus hang on these: a change here relabels everything."""
    both = [prompt(points=[POINT, {"x": 0.1, "y": -0.0, "label": 0}], category="cat"), prompt(object_id=2, time_s=1.5)]
    assert digests([row(*both), row(prompt(mask=MASK))]) == [
        "5d52a1ec674f4357f2a0c6ba2f64fc7a15ce82c73ba19d2060ecfea2f2e30485",
        "b854adbc12164a0b8fbc212c79d564be8abc45076cc866544d438a9f89008cd5",
    ]


def test_only_geometry_enters() -> None:
    same = [
        row(prompt()),
        row(prompt(category="cat"), video_id="b", video_uri="elsewhere", num_frames=3, priority=9, start_s=1.0),
        row(prompt(points=[], box={**BOX, "x_min": 10}, correct=False)),
    ]
    assert len(set(digests(same))) == 1
    spoilt = [
        prompt(object_id=2),
        prompt(frame_index=1),
        prompt(time_s=0.0),
        prompt(box={**BOX, "x_min": 10.5}),
        prompt(points=[POINT], box=BOX),
        prompt(points=[POINT]),
        prompt(points=[{**POINT, "label": 0}], box=BOX),
        prompt(mask=MASK),
        prompt(correct=True),
        prompt(until_frame=9),
        prompt(until_frame=10),
        prompt(until_s=9.0),
    ]
    assert len(set(digests([row(), *(row(each) for each in spoilt)]))) == len(spoilt) + 1


def test_widths_do_not_matter(tmp_path: Any) -> None:
    found = set()
    for kind in (pa.float32(), pa.float64(), pa.int32(), pa.decimal128(10, 2)):
        sides = pa.struct([(name, kind) for name in BOX])
        prompt_type = pa.struct([("object_id", pa.int16()), ("frame_index", pa.float64()), ("box", sides)])
        whole = {"object_id": 1, "frame_index": 3.0, "box": {"x_min": 1, "y_min": 2, "x_max": 3, "y_max": 4}}
        values = pa.array([[whole]], pa.list_(prompt_type))
        pq.write_table(pa.table({"video_id": ["a"], "video_uri": ["u"], "prompts": values}), tmp_path / "m.parquet")
        found.add(prompt_digests(read_manifest(tmp_path / "m.parquet"))[0].as_py())
    assert len(found) == 1
    tenths = set()
    for kind in (pa.float32(), pa.float64()):
        sides = pa.struct([(name, kind) for name in BOX])
        prompt_type = pa.struct([("object_id", pa.int64()), ("frame_index", pa.int64()), ("box", sides)])
        part = {"object_id": 1, "frame_index": 3, "box": {"x_min": 0.1, "y_min": 0.7, "x_max": 3, "y_max": 4}}
        values = pa.array([[part]], pa.list_(prompt_type))
        pq.write_table(pa.table({"video_id": ["a"], "video_uri": ["u"], "prompts": values}), tmp_path / "m.parquet")
        tenths.add(prompt_digests(read_manifest(tmp_path / "m.parquet"))[0].as_py())
    assert len(tenths) == 1


def test_an_empty_manifest() -> None:
    assert digests([]) == []


GOLDEN = json.loads(Path(__file__).with_name("golden_keys.json").read_text())
"""Prompts of every kind with the digests and label keys that release 0.1.0 (114a87c) gave them; objects that end, which
it did not know, with those of the release after it."""


def test_every_kind_keeps_the_digest_and_label_key_of_0_1_0() -> None:
    assert digests([row(*each["prompts"]) for each in GOLDEN.values()]) == [each["digest"] for each in GOLDEN.values()]
    for each in GOLDEN.values():
        key = label_key(
            version="10-a",
            start_s=None,
            end_s=2.5,
            prompts=each["digest"],
            weights="w",
            parameters=Parameters().to_json(),
        )
        assert key == each["label_key"]


def test_the_golden_keys_cover_every_kind_and_modifier() -> None:
    given = {name for each in GOLDEN.values() for prompt in each["prompts"] for name in prompt}
    assert {field.name for field in (*PROMPT_KINDS, *MODIFIERS)} <= given
