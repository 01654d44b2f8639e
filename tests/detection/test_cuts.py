"""Objects end at the cuts of a table of shots, whether prompts or detections begin them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError, UsageError
from pipeline.labels.key import Parameters
from pipeline.runs.config import RunConfig
from pipeline.runs.prepare import Prepared, prepare
from tests.detection.test_association import associate, detection, looks, whys
from tests.detection.test_planning import box, keys, row

VIDEOS = ("a", "b", "c")


def shots(**starts: tuple[int, ...]) -> pa.Table:
    """A table of jobs.shots at 10 frames a second."""
    rows = [
        {"video_id": video_id, "shot": n, "start_frame": t, "start_s": t / 10, "end_s": 99.0, "end_frame": 990}
        for video_id, frames in starts.items()
        for n, t in enumerate((0, *frames))
    ]
    return pa.Table.from_pylist(rows)


def plan(tmp_path: Path, prompts: list[dict[str, Any]], table: pa.Table | None, **config: Any) -> Prepared:
    manifest = {"video_id": list(VIDEOS), "video_uri": [f"/videos/{v}.mp4" for v in VIDEOS]}
    manifest |= {"video_version": ["1"] * 3, "prompts": [prompts, prompts, None]}
    detections = tmp_path / "detections.parquet"
    pq.write_table(pa.Table.from_pylist([row("c", frame) for frame in (0, 5, 25)]), detections)
    pq.write_table(pa.table({**manifest, "detections": [None, None, str(detections)]}), tmp_path / "manifest.parquet")
    if table is not None:
        pq.write_table(table, tmp_path / "shots.parquet")
        config = {"end_at_cuts": str(tmp_path / "shots.parquet"), **config}
    usual = {"manifest": str(tmp_path / "manifest.parquet"), "output": str(tmp_path / "out"), "model": "embedded"}
    return prepare(RunConfig(**{**usual, **config}))


def prompt(object_id: int, **given: Any) -> dict[str, Any]:
    return {"object_id": object_id, "box": box(3), **given}


def test_prompts_end_their_objects_at_the_next_cut(tmp_path: Path) -> None:
    prompts = [
        prompt(1, frame_index=3),
        prompt(1, frame_index=20),
        prompt(2, time_s=1.9, until_frame=15 + 5),
        prompt(3, time_s=2.0),
        prompt(4, frame_index=0, until_s=0.5),
        prompt(5, frame_index=45),
    ]
    prepared = plan(tmp_path, prompts, shots(a=(20, 40), b=(), c=()))
    of_a, of_b = (prepared.manifest.video(n).prompts for n in (0, 1))
    assert [(p.until_frame, p.until_s) for p in of_a] == [
        (20, None), (40, None), (20, None), (40, None), (None, 0.5), (None, None),
    ]  # fmt: skip
    assert [(p.until_frame, p.until_s) for p in of_b] == [(p.get("until_frame"), p.get("until_s")) for p in prompts]


def test_only_videos_with_cuts_are_relabelled(tmp_path: Path) -> None:
    prompts = [prompt(1, frame_index=3)]
    without = keys(plan(tmp_path, prompts, None))
    assert keys(plan(tmp_path, prompts, shots(a=(), b=(), c=()))) == without
    cut = plan(tmp_path, prompts, shots(a=(), b=(20,), c=(20,)))
    assert {video_id for video_id, key in keys(cut).items() if without[video_id] != key} == {"b", "c"}
    assert cut.cuts == {"b": (20,), "c": (20,)}
    association = cut.plan.table["association"].to_pylist()
    assert association[:2] == [None, None]
    assert json.loads(association[2])["cuts"] == [20]


@pytest.mark.parametrize(
    ("table", "changed", "named"),
    [
        (shots(a=(), b=()), {}, r"row 2, video_id 'c', .*its table of shots has no row of this video"),
        (pa.table({"video_id": ["a"], "shot": [0]}), {}, "column start_frame is missing; a table of jobs.shots has"),
        (shots(a=(), b=(), c=()), {"parameters": Parameters(direction="both")}, "--direction is 'both'; allowed with"),
    ],
)
def test_wrong_tables_of_shots_are_named(tmp_path: Path, table: pa.Table, changed: dict[str, Any], named: str) -> None:
    with pytest.raises((ManifestError, UsageError), match=named):
        plan(tmp_path, [prompt(1, frame_index=3)], table, **changed)


def test_a_video_that_the_table_lacks_can_be_left_out(tmp_path: Path) -> None:
    prepared = plan(tmp_path, [prompt(1, frame_index=3)], shots(a=(5,), c=(5,)), on_bad_row="skip")
    assert prepared.manifest.table["video_id"].to_pylist() == ["a", "c"]
    assert [bad.video_id for bad in prepared.manifest.bad_rows] == ["b"]


def test_detections_begin_anew_after_a_cut() -> None:
    seen = looks(*[[detection(10 + n, score=0.9)] for n in range(4)])
    associator, decisions = associate(seen, cuts=(15,), frames_per_s=10)
    assert whys(associator) == [(1, 0, "start"), (2, 20, "start")]
    assert associator.prompts[0]["until_frame"] == 15
    assert decisions[14] == ([], [1])


def test_a_detection_beyond_the_cut_confirms_nothing() -> None:
    associator, _ = associate(looks([detection(10)], [detection(11)]), cuts=(10,))
    assert whys(associator) == []
    assert associator.dropped == {"unconfirmed": 2}
