"""COCO as pycocotools reads and scores it, and its dialects on the way in."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.errors import UsageError
from pipeline.formats.coco import read_coco
from pipeline.formats.export import export_labels
from pipeline.formats.registry import format_of
from pipeline.formats.split import Splits
from pipeline.formats.youtube_vis import read_youtube_vis
from pipeline.masks import rle
from pipeline.masks.segmentation import to_counts
from pipeline.storage import Store


@pytest.fixture(scope="module")
def exported(labels, tmp_path_factory):
    target = tmp_path_factory.mktemp("coco")
    export_labels(labels.select(), Store(target), format_of("coco"), splits=Splits.parse(["val=0.4"]), chunk_rows=60)
    return target


def load(path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, in pycocotools
def test_pycocotools_loads_and_scores_it(exported, labels) -> None:
    images = annotations = 0
    for split in ("train", "val"):
        truth = load(exported / f"annotations/instances_{split}.json")
        images += len(truth.imgs)
        annotations += len(truth.anns)
        found = [
            {"image_id": one["image_id"], "category_id": one["category_id"], "segmentation": one["segmentation"]}
            | {"score": 0.9}
            for one in truth.anns.values()
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            scores = COCOeval(truth, truth.loadRes(found), "segm")
            scores.evaluate()
            scores.accumulate()
            scores.summarize()
        assert scores.stats[0] == pytest.approx(1)
        for one in truth.anns.values():
            assert one["area"] == coco_mask.area(one["segmentation"]) == truth.annToMask(one).sum()
            assert one["bbox"] == coco_mask.toBbox(one["segmentation"]).tolist()
    assert annotations == sum(area > 0 for area in labels.masks.column("area").to_pylist())
    assert images == len(
        set(zip(*(labels.masks.column(n).to_pylist() for n in ("video_id", "frame_index")), strict=True))
    )


def test_numbers_are_unique_over_all_splits_and_chunks(exported) -> None:
    documents = [json.loads(path.read_text()) for path in sorted(exported.glob("annotations/*.json"))]
    for section in ("images", "annotations"):
        ids = [one["id"] for document in documents for one in document[section]]
        assert len(ids) == len(set(ids))
    assert [one["name"] for one in documents[0]["categories"]] == ["cat", "dog", "object"]
    assert {image["file_name"] for image in documents[0]["images"]} >= {"%2E.3/000000.jpg"} or len(documents) == 2


def test_all_dialects_of_segmentations() -> None:
    mask = np.zeros((10, 12), np.bool_)
    mask[2:7, 3:9] = True
    counts = rle.encode(mask[None])[0]
    plain = {"size": [10, 12], "counts": rle.parse(counts).tolist()}
    polygon = [[3, 2, 9, 2, 9, 7, 3, 7]]
    assert to_counts(plain, (10, 12)) == to_counts({"size": [10, 12], "counts": counts}, (10, 12)) == counts
    assert to_counts(polygon, (10, 12)) == counts
    two = [*polygon, [0, 0, 2, 0, 2, 2, 0, 2]]
    assert rle.area(to_counts(two, (10, 12))) == 30 + 4


def document(**annotation) -> bytes:
    image = {"id": 1, "file_name": "a%2Fb/000003.jpg", "height": 4, "width": 5}
    base = {"id": 9, "image_id": 1, "category_id": 1, "segmentation": {"size": [4, 5], "counts": "d0"}}
    return json.dumps({"images": [image], "annotations": [base | annotation], "categories": []}).encode()


def test_frames_are_known_by_their_names() -> None:
    (row,) = read_coco(document()).to_pylist()
    assert (row["video_id"], row["frame_index"], row["object_id"], row["category"]) == ("a/b", 3, 9, None)


HOSTILE = {
    "not JSON": b"nope",
    "a number": b"5",
    "nothing": b"{}",
    "an unknown image": document(image_id=7),
    "another size": document(segmentation={"size": [40, 50], "counts": "d0"}),
    "a broken string": document(segmentation={"size": [4, 5], "counts": "!!"}),
    "too short": document(segmentation={"size": [4, 5], "counts": "10"}),
    "negative runs": document(segmentation={"size": [4, 5], "counts": [-5, 25]}),
    "huge runs": document(segmentation={"size": [4, 5], "counts": [1 << 70]}),
    "nested runs": document(segmentation={"size": [4, 5], "counts": [[20], [1, 2]]}),
    "endless polygons": document(segmentation=[[0, 0, 1, float("inf"), 2, 2]]),
    "odd polygons": document(segmentation=[[0, 0, 1]]),
    "no segmentation": document(segmentation=None),
    "a huge id": document(track_id=1 << 90),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_documents_are_named(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"bad\.json"):
        read_coco(data, name="bad.json")
    with pytest.raises(UsageError, match=r"bad\.json"):
        read_youtube_vis(data, name="bad.json")


def test_huge_images_and_odd_names_are_refused() -> None:
    for image in (
        {"id": 1, "file_name": "v/000001.jpg", "height": 1 << 30, "width": 1 << 30},
        {"id": 1, "file_name": "nowhere.jpg", "height": 4, "width": 5},
        {"id": 1, "file_name": "v/last.jpg", "height": 4, "width": 5},
    ):
        data = json.loads(document()) | {"images": [image]}
        with pytest.raises(UsageError):
            read_coco(json.dumps(data).encode())
