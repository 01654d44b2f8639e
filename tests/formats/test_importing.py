"""Prompts from what others annotated, as a manifest takes them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import manifest as manifest_job
from pipeline.errors import UsageError
from pipeline.formats.export import export_labels
from pipeline.formats.importing import import_prompts
from pipeline.formats.opening import open_masks
from pipeline.formats.registry import format_of
from pipeline.manifest import read_manifest
from pipeline.masks import rle
from pipeline.storage import Store
from tests.formats.conftest import write_clip

NAMES = ("sav", "davis", "png", "coco", "youtube-vis", "yolo", "mots", "label-studio", "cvat", "cvat-masks")


@pytest.fixture(scope="module", params=NAMES)
def annotated(request, apart, tmp_path_factory):
    """An export of each format, and the labels it was made from."""
    folder = tmp_path_factory.mktemp(request.param)
    export_labels(apart.select(every=format_of(request.param).default_stride), Store(folder), format_of(request.param))
    return request.param, str(folder), apart.masks.to_pylist()


def boxes(table: pa.Table) -> dict[tuple[str, int, int], tuple[float, ...] | None]:
    found = {}
    for row in table.to_pylist():
        box = (row["x_min"], row["y_min"], row["x_max"], row["y_max"])
        if row["mask_counts"]:
            box = rle.bbox(row["mask_counts"], (row["mask_height"], row["mask_width"]))
        found[row["video_id"], row["object_id"], row["frame_index"]] = box
    return found


def test_the_first_frames_are_a_manifests_prompts(annotated) -> None:
    name, folder, masks = annotated
    table = import_prompts(name, folder)
    expected = {
        (row["video_id"], row["object_id"], 0): tuple(row[side] for side in ("x_min", "y_min", "x_max", "y_max"))
        for row in masks
        if row["frame_index"] == 0
    }
    found = boxes(table)
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key], abs=1e-3) for key in expected)
    videos = sorted({key[0] for key in expected})
    manifest = read_manifest(pa.table({"video_id": videos, "video_uri": videos}), prompts=table)
    assert len(manifest) == len(videos)
    assert not manifest.bad_rows
    prompts = manifest.video(0).prompts
    assert [prompt.object_id for prompt in prompts] == [1, 2, 3]
    if name not in ("sav", "davis", "png"):  # which have no classes
        assert [prompt.category for prompt in prompts] == ["cat", "dog", "dog"]


def test_all_frames(annotated) -> None:
    name, folder, masks = annotated
    table = import_prompts(name, folder, frames="all")
    visible = {
        (row["video_id"], row["object_id"], row["frame_index"])
        for row in masks
        if row["area"] and row["frame_index"] % format_of(name).default_stride == 0
    }
    assert boxes(table).keys() <= visible
    if name != "label-studio":  # which keeps keyframes only
        assert boxes(table).keys() == visible


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_boxes_are_those_of_the_masks(name: str, labels, tmp_path: Path) -> None:
    export_labels(labels.select(), Store(tmp_path), format_of(name))
    table = import_prompts(name, str(tmp_path), prompt="box")
    assert table.column("x_min").null_count == 0
    assert table.column("mask_counts").null_count == table.num_rows
    masks = open_masks(str(tmp_path))
    tables, problems = masks.read(list(masks.row_counts()))
    assert not problems
    expected = {
        (row["video_id"], row["object_id"], row["frame_index"]): rle.bbox(row["counts"], (row["height"], row["width"]))
        for one in tables.values()
        for row in one.to_pylist()
    }
    assert all(expected[key] == pytest.approx(box) for key, box in boxes(table).items())


@pytest.mark.parametrize("name", ["coco", "sav", "png", "cvat", "cvat-masks"])
def test_masks_are_prompts_as_they_are(name: str, labels, tmp_path: Path) -> None:
    export_labels(labels.select(every=format_of(name).default_stride), Store(tmp_path), format_of(name))
    table = import_prompts(name, str(tmp_path))
    assert table.column("mask_counts").null_count == 0
    assert table.column("x_min").null_count == table.num_rows


def test_published_sav(shared) -> None:
    table = import_prompts("sav", str(shared / "videos/sav_000001_manual.json"))
    assert table.column("frame_index").to_pylist() == [0, 0, 0, 452, 0]
    assert set(table.column("video_id").to_pylist()) == {"sav_000001"}


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>7</id><name>street.mp4</name><size>9</size>
<original_size><width>20</width><height>10</height></original_size></task></meta>
<track id="3" label="car" source="manual">
  <box frame="2" keyframe="1" outside="0" occluded="0" xtl="1.5" ytl="2" xbr="6" ybr="8" z_order="0"></box>
  <box frame="3" keyframe="0" outside="0" occluded="0" xtl="2.5" ytl="2" xbr="7" ybr="8" z_order="0"></box>
  <box frame="4" keyframe="1" outside="1" occluded="0" xtl="2.5" ytl="2" xbr="7" ybr="8" z_order="0"></box>
</track>
<track id="4" label="dog" source="manual">
  <mask frame="5" keyframe="1" outside="0" occluded="0" rle="1, 2, 2, 1" left="3" top="4" width="3" height="2"/>
</track></annotations>"""


def test_cvats_own_boxes_and_masks(tmp_path: Path) -> None:
    (tmp_path / "street.xml").write_text(CVAT)
    box, mask = import_prompts("cvat", str(tmp_path), frames="all").to_pylist()
    assert (box["object_id"], box["frame_index"], box["x_min"], box["category"]) == (3, 2, 1.5, "car")
    assert (box["until_frame"], mask["until_frame"]) == (4, None)
    _, of_mask = import_prompts("cvat", str(tmp_path), frames="all", prompt="box").to_pylist()
    assert [of_mask[side] for side in ("x_min", "y_min", "x_max", "y_max")] == [4, 4, 6, 6]
    assert of_mask["mask_counts"] is None
    drawn = rle.decode(mask["mask_counts"], (10, 20))
    assert {(int(y), int(x)) for y, x in np.argwhere(drawn)} == {(4, 4), (4, 5), (5, 5)}


def cvat_track(*shapes: tuple[int, int]) -> str:
    """A task with one track of boxes: frames, and whether the object is outside there."""
    written = (
        f'<box frame="{t}" keyframe="1" outside="{outside}" occluded="0" xtl="1" ytl="2" xbr="6" ybr="8" z_order="0"/>'
        for t, outside in shapes
    )
    head, _, _rest = CVAT.partition('<track id="3"')
    return f'{head}<track id="3" label="car" source="manual">{"".join(written)}</track></annotations>'


@pytest.mark.parametrize(
    ("shapes", "first", "every"),
    [
        ([(2, 0), (5, 1), (7, 0), (8, 1)], [(2, 8)], [(2, 5), (7, 8)]),
        ([(2, 0), (5, 1), (7, 0)], [(2, None)], [(2, 5), (7, None)]),
        ([(2, 0), (3, 0), (6, 1)], [(2, 6)], [(2, None), (3, 6)]),
        ([(1, 1), (2, 0)], [(2, None)], [(2, None)]),
    ],
)
def test_outside_of_a_cvat_track_ends_its_object(
    tmp_path: Path, shapes: list[tuple[int, int]], first: list[tuple[int, int]], every: list[tuple[int, int]]
) -> None:
    (tmp_path / "street.xml").write_text(cvat_track(*shapes))
    for frames, expected in (("first", first), ("all", every)):
        found = import_prompts("cvat", str(tmp_path), frames=frames).to_pylist()
        assert [(row["frame_index"], row["until_frame"]) for row in found] == expected


def test_a_label_studio_keyframe_that_is_not_enabled_ends_its_object(tmp_path: Path) -> None:
    box = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
    sequence = [{"frame": t, "enabled": on, **box} for t, on in ((1, True), (5, False), (9, True), (12, False))]
    result = {
        "type": "videorectangle",
        "value": {"sequence": sequence, "labels": ["car"]},
        "original_width": 100,
        "original_height": 50,
    }
    task = {"data": {"video_id": "a"}, "annotations": [{"result": [result]}]}
    (tmp_path / "a.json").write_text(json.dumps([task]))
    found = import_prompts("label-studio", str(tmp_path), frames="all").to_pylist()
    assert [(row["frame_index"], row["until_frame"]) for row in found] == [(0, None), (4, 5), (8, None), (11, 12)]
    (row,) = import_prompts("label-studio", str(tmp_path)).to_pylist()
    assert (row["frame_index"], row["until_frame"]) == (0, 12)


CVAT_MASKS = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>7</id><name>street.mp4</name><size>9</size>
<original_size><width>20</width><height>10</height></original_size></task></meta>
<track id="0" label="dog" source="file" group_id="1">
  <mask frame="5" keyframe="1" outside="0" occluded="0" rle="0, 6" left="3" top="4" width="3" height="2" z_order="0">
    <attribute name="object_id">8</attribute></mask>
  <mask frame="6" keyframe="1" outside="1" occluded="0" rle="0, 6" left="3" top="4" width="3" height="2" z_order="0">
    <attribute name="object_id">8</attribute></mask>
</track>
<track id="1" label="dog" source="file" group_id="1">
  <mask frame="6" keyframe="1" outside="0" occluded="0" rle="0, 4" left="3" top="4" width="2" height="2" z_order="0">
    <attribute name="object_id">8</attribute></mask>
  <mask frame="7" keyframe="1" outside="1" occluded="0" rle="0, 4" left="3" top="4" width="2" height="2" z_order="0">
    <attribute name="object_id">8</attribute></mask>
</track></annotations>"""
"""Masks as CVAT writes them back: a track for each, ended on the next frame."""


def test_a_mask_track_that_cvat_ends_does_not_hide_the_next_mask(tmp_path: Path) -> None:
    (tmp_path / "street.xml").write_text(CVAT_MASKS)
    tables, _ = open_masks(str(tmp_path)).read(["street"])
    rows = tables["street"].to_pylist()
    assert [(row["object_id"], row["frame_index"], rle.area(row["counts"])) for row in rows] == [
        (8, 5, 6), (8, 6, 4), (8, 7, 0),
    ]  # fmt: skip


def test_yolos_own_boxes(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/my_clip_000004.txt").write_text("1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text("nc: 2\nnames: ['cat', 'dog']\n")
    with pytest.raises(UsageError, match="size of video 'my_clip' is unknown"):
        import_prompts("yolo", str(tmp_path))
    first, _ = import_prompts("yolo", str(tmp_path), size_of=lambda _: (100, 200)).to_pylist()
    assert (first["video_id"], first["frame_index"], first["category"]) == ("my_clip", 4, "dog")
    assert [first[side] for side in ("x_min", "y_min", "x_max", "y_max")] == pytest.approx([80, 30, 120, 70])


def test_pictures_of_one_folder_name_their_videos(tmp_path: Path) -> None:
    images = [{"id": t, "file_name": f"clip_frame{t:04}.jpg", "height": 48, "width": 64} for t in (0, 7)]
    annotations = [{"id": t, "image_id": t, "category_id": 1, "bbox": [1, 2, 3, 4], "track_id": 5} for t in (0, 7)]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    rows = import_prompts("coco", str(tmp_path), frames="all").to_pylist()
    assert [(row["video_id"], row["frame_index"], row["x_max"]) for row in rows] == [("clip", 0, 4), ("clip", 7, 4)]
    images[0]["file_name"] = "photo.jpg"
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="so its video and frame are unknown"):
        import_prompts("coco", str(tmp_path))


def test_label_studios_own_export(tmp_path: Path) -> None:
    value = {
        "sequence": [{"frame": 5, "enabled": True, "x": 10, "y": 20, "width": 30, "height": 40}],
        "labels": ["cat"],
    }
    task = {
        "data": {"video": "https://example.org/a/street.mp4?token=1"},
        "annotations": [{"result": [{"type": "videorectangle", "value": value}, {"type": "choices", "value": {}}]}],
        "predictions": [{"result": []}],
    }
    (tmp_path / "export.json").write_text(json.dumps([task]))
    with pytest.raises(UsageError, match="size of video 'street' is unknown"):
        import_prompts("label-studio", str(tmp_path))
    (row,) = import_prompts("label-studio", str(tmp_path), size_of=lambda _: (100, 200)).to_pylist()
    assert (row["video_id"], row["frame_index"], row["x_min"], row["y_max"]) == ("street", 4, 20, 60)


def test_the_command_reads_sizes_from_the_videos_themselves(tmp_path: Path, capsys) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/clip_000004.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    write_clip(tmp_path / "clip.mp4")
    found = []
    for at, given in enumerate((["--uri-template", f"{tmp_path}/{{video_id}}.mp4"], ["--size", "256x144"])):
        output = tmp_path / f"{at}.parquet"
        arguments = ["--format", "yolo", "--labels", str(tmp_path / "labels"), "--output", str(output), *given]
        arguments += [] if at == 0 else ["--uri-template", "elsewhere/{video_id}.mp4"]
        assert manifest_job.main(["from-labels", *arguments]) == 0
        found.append(list(read_manifest(str(output)).video(0).prompts[0].box))
    assert found == [[48, 18, 80, 54], [96, 36, 160, 108]]
    capsys.readouterr()


def test_the_command_refuses_segments_of_formats_that_number_the_files_frames(tmp_path: Path, capsys) -> None:
    (tmp_path / "street.xml").write_text(CVAT)
    for start_s, code in ((None, 0), (1.5, 2)):
        table = {"video_id": ["street"], "video_uri": ["street.mp4"], "start_s": pa.array([start_s], pa.float64())}
        pq.write_table(pa.table(table), tmp_path / "videos.parquet")
        places = ["--labels", str(tmp_path / "street.xml"), "--videos", str(tmp_path / "videos.parquet")]
        output = ["--output", str(tmp_path / f"{code}.parquet")]
        assert manifest_job.main(["from-labels", "--format", "cvat", *places, *output]) == code
    assert "video 'street' has start_s" in capsys.readouterr().err


def test_labels_without_annotations_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(UsageError, match="nothing to prompt with"):
        import_prompts("coco", str(tmp_path))
