"""SA-V's JSON: the published keys, order, types and numbers."""

import json

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.formats.export import export_labels
from pipeline.formats.registry import format_of
from pipeline.formats.sav import read_sav, size_bucket, stride_of, write_sav
from pipeline.storage import Store

CARRIED = ("video_environment", "video_split", "masklet_edited_frame_count", "masklet_type", "masklet_stability_score")


@pytest.fixture(scope="session")
def published(shared):
    return (shared / "videos/sav_000001_manual.json").read_bytes()


def test_import_and_export_give_back_the_published_file_byte_for_byte(published) -> None:
    video = read_sav(published)
    again = write_sav(
        video.video_id,
        video.masks,
        frames=int(video.facts["video_frame_count"]),
        fps=24,
        size=(848, 480),
        facts={name: video.facts[name] for name in CARRIED},
    )
    assert again == published


def test_frames_are_those_of_the_video(published) -> None:
    masks = read_sav(published).masks
    assert sorted(set(masks.column("frame_index").to_pylist())) == list(range(0, 483, 4))
    assert masks.num_rows == 5 * 121


def test_our_labels_have_the_same_keys_order_and_types(published, labels, tmp_path) -> None:
    export_labels(labels.select(every=4), Store(tmp_path), format_of("sav"))
    theirs = json.loads(published)
    for path in tmp_path.glob("train/*.json"):
        ours = json.loads(path.read_bytes())
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            assert type(ours[key]) is type(value), key
            if isinstance(value, list) and key != "masklet":
                assert {type(one) for one in ours[key]} <= {type(one) for one in value}, key
        assert list(ours["masklet"][0][0]) == list(theirs["masklet"][0][0])
        assert len(ours["masklet"]) == 3 == ours["masklet_frame_count"][0]
        assert ours["video_frame_count"] == 9.0
        assert ours["masklet_type"] == ["auto"] * 3
    assert len(list(tmp_path.glob("train/*.json"))) == 8


def test_masklet_facts_are_those_of_sav(labels) -> None:
    rows = labels.select().read(["clip 1"])
    document = json.loads(write_sav("clip 1", rows, frames=9, fps=24, size=(72, 128), stride=1))
    assert document["masklet_id"] == [0, 1, 7]
    assert document["masklet_visibility_changes"] == [0, 0, 2]
    assert document["masklet_first_appeared_frame"] == [0.0, 0.0, 0.0]
    areas = np.array(rows.column("area").to_pylist()).reshape(9, 3)
    assert document["masklet_size_abs"][2] == pytest.approx(areas[areas[:, 2] > 0, 2].mean())
    assert [size_bucket(area) for area in (1, 1023, 1024, 9215, 9216)] == ["small"] * 2 + ["medium"] * 2 + ["large"]


@pytest.mark.parametrize(
    ("frames", "annotated", "stride"), [(483, 121, 4), (9, 9, 1), (100, 50, 2), (1, 1, 4), (7, 1, 7)]
)
def test_the_stride_is_found(frames: int, annotated: int, stride: int) -> None:
    assert stride_of(frames, annotated) == stride


def broken(**changes) -> bytes:
    document = {
        "video_id": "v",
        "video_frame_count": 8.0,
        "masklet": [[{"size": [4, 5], "counts": "d0"}], [{"size": [4, 5], "counts": "d0"}]],
        "masklet_id": [0],
    }
    return json.dumps(document | changes).encode()


HOSTILE = {
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe\x00",
    "a list": b"[]",
    "too deep": b"[" * 100_000,
    "no masks": json.dumps({"video_id": "v"}).encode(),
    "masks of another kind": broken(masklet=5),
    "a frame short of a mask": broken(masklet=[[]]),
    "masks without a size": broken(masklet=[[{"counts": "d0"}], [{"counts": "d0"}]]),
    "a huge size": broken(masklet=[[{"size": [1 << 40, 1 << 40], "counts": "d0"}]] * 2),
    "infinitely many frames": broken(video_frame_count=float("inf")),
    "frames that do not fit": broken(video_frame_count=3.0, masklet=[[{"size": [4, 5], "counts": "d0"}]] * 7),
    "huge ids": broken(masklet_id=[1 << 80]),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_documents_are_named(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"bad\.json is not SA-V's JSON"):
        read_sav(data, name="bad.json")


def test_well_formed() -> None:
    assert read_sav(broken()).masks.column("frame_index").to_pylist() == [0, 4]
