import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.detection import read_video
from pipeline.detection.part import DetectionRows, Look
from pipeline.detection.publication import erase_detections, keys_of, publish_detections
from pipeline.detection.settings import DetectionParameters
from pipeline.errors import UsageError
from pipeline.storage import Store
from pipeline.storage.ownership import is_ours
from pipeline.storage.paths import DETECTIONS_TABLE, MARKER, part_path
from pipeline.tables.forget import forget
from pipeline.tables.output import check_output, claim_output, require_output

KEY, OTHER = "1" * 64, "2" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "detections")
    claim_output(store, "detections")
    return store


def commit(store: Store, video_id: str, *, key: str = KEY, looks: tuple[int, ...] = (2, 0, 1)) -> None:
    """A part with as many detections at each look."""
    rows = DetectionRows(video_id, height=40, width=60)
    for time, count in enumerate(looks):
        boxes = np.array([[at, 1, at + 5, 9] for at in range(count)], np.float32).reshape(-1, 4)
        scores = np.full(count, 0.5, np.float32)
        rows.add(Look(time_s=float(time), boxes=boxes, scores=scores, categories=["car"] * count, masks=None))
    store.commit_once(part_path(video_id, key), rows.to_parquet({"uri": f"/videos/{video_id}"}))


def rows_of(store: Store) -> list[tuple[str, float, Any]]:
    table = pq.read_table(pa.BufferReader(store.read(DETECTIONS_TABLE)))
    return [(row["video_id"], row["time_s"], row["box"] and row["box"]["x_min"]) for row in table.to_pylist()]


def test_the_table_holds_every_look_sorted_by_video(store: Store) -> None:
    for name in ("b", "a", "ü"):
        commit(store, name)
    published = publish_detections(store, {"ü": KEY, "b": KEY, "a": KEY})
    each = [(0.0, 0.0), (0.0, 1.0), (1.0, None), (2.0, 0.0)]
    assert rows_of(store) == [(name, *row) for name in ("a", "b", "ü") for row in each]
    assert (published.videos, published.rows) == (3, 12)
    found = read_video(store.uri_of(DETECTIONS_TABLE), "b")
    assert found.table["video_id"].to_pylist() == ["b"] * 4
    assert not found.bad_rows


def test_changed_videos_replace_their_rows_and_others_stay(store: Store) -> None:
    for name in ("a", "b", "c"):
        commit(store, name)
    publish_detections(store, dict.fromkeys("abc", KEY))
    commit(store, "b", key=OTHER, looks=(0,))
    commit(store, "bb", looks=(1,))
    published = publish_detections(store, {"b": OTHER, "bb": KEY, "c": KEY})
    assert published.videos == 2
    assert [row for row in rows_of(store) if row[0] in ("b", "bb")] == [("b", 0.0, None), ("bb", 0.0, 0.0)]
    assert keys_of(store) == {"a": KEY, "b": OTHER, "bb": KEY, "c": KEY}
    before = store.info(DETECTIONS_TABLE)
    assert publish_detections(store, {"b": OTHER}).videos == 0
    assert store.info(DETECTIONS_TABLE) == before


def test_damaged_parts_are_left_out_of_the_table(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    commit(store, "a")
    store.commit_once(part_path("b", KEY), b"no Parquet")
    assert publish_detections(store, {"a": KEY, "b": KEY, "gone": KEY}).rows == 4
    assert "is damaged and not in the table" in caplog.text
    assert keys_of(store) == {"a": KEY}


def test_forgotten_videos_leave_the_table_and_the_parts(store: Store) -> None:
    for name in ("a", "b"):
        commit(store, name)
    publish_detections(store, dict.fromkeys("ab", KEY))
    assert forget(store, ["a"]).videos == {"a"}
    assert keys_of(store) == {"b": KEY}
    assert not store.exists(part_path("a", KEY))
    assert store.exists(part_path("b", KEY))
    assert erase_detections(store, ["a"]) == 0


def test_outputs_of_labels_and_of_detections_refuse_each_other(tmp_path: Path, store: Store) -> None:
    labels = Store(tmp_path / "labels")
    claim_output(labels)
    assert "kind" not in json.loads(labels.read(MARKER))
    with pytest.raises(UsageError, match="is an output of labels, not of detections"):
        check_output(labels, "detections")
    for refuse in (claim_output, check_output, require_output):
        with pytest.raises(UsageError, match="is an output of detections, not of labels"):
            refuse(store)
    require_output(store, None)
    assert is_ours(DETECTIONS_TABLE)


def test_a_foreign_table_of_detections_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / DETECTIONS_TABLE).write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"holds files of others .* detections\.parquet"):
        claim_output(Store(tmp_path / "mine"), "detections")
    claim_output(Store(tmp_path / "mine"))  # an output of labels does not use this name
    assert (tmp_path / "mine" / DETECTIONS_TABLE).read_bytes() == b"mine"


def test_every_setting_of_detection_is_in_the_key() -> None:
    base = DetectionParameters(classes=("car",))
    other = {"classes": ("car", "person"), "at": "2s", "threshold": 0.4}
    keys = {
        base.to_json(),
        *(DetectionParameters(**{"classes": ("car",), **{n: v}}).to_json() for n, v in other.items()),
    }
    keys.add(DetectionParameters(everything=True).to_json())
    assert len(keys) == 5
    assert {field.name for field in fields(DetectionParameters)} == {*other, "everything"}
