"""Exports as the tools that they are made for read them, from another working directory."""

import itertools
import json
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.compute as pc
import pytest
import yaml

from jobs import export as job
from pipeline.errors import VideoError
from pipeline.formats.export import export_labels
from pipeline.formats.importing import import_prompts
from pipeline.formats.registry import format_of
from pipeline.formats.segments import file_frames
from pipeline.formats.split import Splits
from pipeline.masks import rle
from pipeline.storage import Store
from tests.formats.conftest import SIZE, TIMES, VIDEOS, labels_of, part, write_clip
from tests.formats.test_export import publish

UNEVEN = tuple(itertools.accumulate([0.04, 0.04, 0.12] * 13, initial=0.0))
"""Times of a video whose frame intervals differ: 40 frames in 2.6 s."""


def write(labels, target: Path, name: str, *, where: str | None = None, every: int = 1, **options):
    return export_labels(labels.select(where=where, every=every), Store(target), format_of(name), **options)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that has a folder named as one of an export."""
    folder = tmp_path / "elsewhere"
    (folder / "images/train").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory):
    """Labels of videos that exist."""
    clip = write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")
    return labels_of(*(part(name, {1: "cat", 2: "dog"}, apart=True, uri=clip) for name in VIDEOS))


def as_ultralytics_resolves(path: Path) -> dict[str, Path]:
    """Folders of pictures by split, resolved as check_det_dataset does:
    https://github.com/ultralytics/ultralytics/blob/main/ultralytics/data/utils.py"""
    data = yaml.safe_load(path.read_text())
    assert {"train", "val", "names"} <= data.keys()
    root = Path(data.get("path") or path.parent)
    return {name: (root / data[name]).resolve() for name in ("train", "val", "test") if name in data}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("splits", [[], ["val=0.4"], ["val=0.01"], ["val=1"], ["val=0.4", "test=0.2"], ["test=0.99"]])
def test_ultralytics_finds_all_folders_from_any_directory(filmed, target: Path, splits) -> None:
    done = write(filmed, target, "yolo", splits=Splits.parse(splits), with_pictures=True, every=8)
    found = as_ultralytics_resolves(target / "data.yaml")
    assert all(folder.is_dir() and target in folder.parents for folder in found.values())
    assert not set(done.empty_splits) & {path.name for path in (target / "images").iterdir()}
    for picture in target.glob("images/*/*.jpg"):
        assert (target / "labels" / picture.parent.name / f"{picture.stem}.txt").exists()


@pytest.mark.usefixtures("elsewhere")
def test_ultralytics_itself_reads_it(filmed, target: Path) -> None:
    pytest.importorskip("ultralytics")
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    write(filmed, target, "yolo", splits=Splits.parse(["val=0.4"]), with_pictures=True, every=4)
    data = check_det_dataset(str(target / "data.yaml"), autodownload=False)
    assert data["names"] == {0: "cat", 1: "dog"}
    read = {name: YOLODataset(img_path=data[name], data=data, task="segment", imgsz=128) for name in ("train", "val")}
    assert sum(map(len, read.values())) == 3 * len(VIDEOS)
    for label in read["val"].labels:
        assert sorted(label["cls"].ravel().tolist()) == [0, 1]
        assert label["shape"] == SIZE


def test_an_empty_split_is_reported_and_mentioned_in_no_file(
    filmed, tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = publish(filmed, tmp_path / "labels")
    assert job.main([output, "--format", "coco", "--to", str(target), "--split", "val=0.001"]) == 0
    assert "no video is in the split val" in capsys.readouterr().out
    assert [path.name for path in target.glob("annotations/*")] == ["instances_train.json"]


def test_yolo_labels_take_sizes_from_pictures_or_videos_beside_them(filmed, tmp_path: Path) -> None:
    expected = None
    for beside in ("tracks", "pictures", "video", "nothing"):
        folder = tmp_path / beside
        write(filmed, folder, "yolo", with_pictures=beside == "pictures", where="video_id = 'clip 1'", every=4)
        if beside != "tracks":
            (folder / "tracks_train.csv").unlink()
        if beside == "video":
            write_clip(folder / "clip%201.mp4")
        sizes = {"clip%201": SIZE} if beside == "nothing" else {}
        table = import_prompts("yolo", str(folder), size_of=sizes.get).select(["x_min", "y_min", "x_max", "y_max"])
        expected = expected or table
        assert table == expected


def visible_in_cvat(data: bytes, frames: int) -> dict[int, set[int]]:
    """Frames on which CVAT shows each track: a shape stays until the next keyframe of its track, or to the end."""
    found: dict[int, set[int]] = defaultdict(set)
    for track in ElementTree.fromstring(data).iter("track"):
        shapes = [shape for shape in track if shape.tag == "polygon"]
        numbers = [int(shape.attrib["frame"]) for shape in shapes]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] < frames
        object_id = int(shapes[0].findtext("attribute"))
        for shape, start, stop in zip(shapes, numbers, [*numbers[1:], frames], strict=True):
            if shape.attrib["outside"] == "0":
                found[object_id] |= set(range(start, stop))
    return found


def backward() -> object:
    """Labels of frames 0 to 4 of nine, as backward propagation from frame 4 gives them."""
    labels = labels_of(part("v", {1: "cat", 3: "dog"}, apart=True))
    return labels._replace(masks=labels.masks.filter(pc.field("frame_index") < 5))


CUT = {
    "whole": (
        labels_of(part("v", {1: "cat", 2: "dog", 7: None})),
        {},
        {1: range(9), 2: range(9), 7: {0, 1, 2, 5, 6, 7, 8}},
    ),
    "backward": (backward(), {}, {1: range(5), 3: range(5)}),
    "where": (backward(), {"where": "frame_index IN (1, 2, 4)"}, {1: {1, 2, 4}, 3: {1, 2, 4}}),
    "every": (backward(), {"every": 2}, {1: range(6), 3: range(6)}),
    "both": (backward(), {"every": 2, "where": "frame_index <> 2"}, {1: {0, 1, 4, 5}, 3: {0, 1, 4, 5}}),
}


@pytest.mark.parametrize("case", CUT)
def test_cvat_shows_tracks_only_where_they_are_labelled(target: Path, case: str) -> None:
    labels, selected, expected = CUT[case]
    write(labels, target, "cvat", **selected)
    found = visible_in_cvat((target / "train/v.xml").read_bytes(), 9)
    assert found == {object_id: set(frames) for object_id, frames in expected.items()}


def masks_that_cvat_keeps(data: bytes) -> dict[tuple[int, int], tuple[str, tuple[int, ...]]]:
    """Masks by object and frame: label, runs and box, of the one shape that CVAT's reader keeps of a track of masks.

    `load_anno` of cvat/apps/dataset_manager/formats/cvat.py: the first shape; the box has inclusive maxima.
    """
    found = {}
    for track in ElementTree.fromstring(data).iter("track"):
        first = next(iter(track))
        left, top, width, height = (int(first.attrib[name]) for name in ("left", "top", "width", "height"))
        points = (*map(int, first.attrib["rle"].split(",")), left, top, left + width - 1, top + height - 1)
        found[int(first.findtext("attribute") or ""), int(first.attrib["frame"])] = (track.attrib["label"], points)
    return found


def test_cvat_keeps_every_mask_and_its_exact_pixels(labels, target: Path) -> None:
    write(labels, target, "cvat-masks")
    found = masks_that_cvat_keeps((target / "train/clip%201.xml").read_bytes())
    expected = {}
    for row in labels.masks.filter(pc.field("video_id") == "clip 1").to_pylist():
        if row["area"]:
            expected[row["object_id"], row["frame_index"]] = rle.decode(row["counts"], SIZE)
    assert found.keys() == expected.keys()
    for key, (_, (*runs, left, top, right, bottom)) in found.items():
        drawn = np.zeros(SIZE, np.bool_)
        pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        drawn[top : bottom + 1, left : right + 1] = pixels.reshape(bottom + 1 - top, right + 1 - left)
        assert np.array_equal(drawn, expected[key])
    assert {object_id: label for (object_id, _), (label, _) in found.items()} == {0: "cat", 1: "dog", 7: "object"}


def numbered(target: Path, name: str) -> list[int]:
    """The frame numbers, from 0, that an export gives to its one object."""
    if name in ("cvat", "cvat-masks"):
        shapes = itertools.chain.from_iterable(ElementTree.parse(target / "train/v.xml").getroot().iter("track"))
        return [int(one.attrib["frame"]) for one in shapes if one.attrib["outside"] == "0"]
    (task,) = json.loads((target / "train/v.json").read_text())
    return [one["frame"] - 1 for one in task["predictions"][0]["result"][0]["value"]["sequence"]]


@pytest.mark.parametrize("end_s", [None, 0.75])
@pytest.mark.parametrize("name", ["cvat", "cvat-masks", "label-studio"])
def test_frames_of_a_segment_are_those_of_the_file(tmp_path: Path, target: Path, name: str, end_s) -> None:
    times = [t / 20 for t in range(20)]
    segment = times[10 : None if end_s is None else 15]
    clip = write_clip(tmp_path / "v.mp4", times)
    labels = labels_of(part("v", {1: "cat"}, times=segment, uri=clip, start_s=0.5, end_s=end_s, fps=20.0))
    assert not write(labels, target, name).problems
    assert numbered(target, name) == list(range(10, 10 + len(segment)))
    if name == "cvat":
        data = (target / "train/v.xml").read_bytes()
        assert visible_in_cvat(data, 20) == {1: set(range(10, 10 + len(segment)))}


def test_frames_of_a_segment_are_exact_where_the_rate_varies(tmp_path: Path, target: Path) -> None:
    clip = write_clip(tmp_path / "v.mp4", UNEVEN)
    facts = {"uri": clip, "start_s": UNEVEN[17], "fps": 15.4, "variable_rate": True}
    write(labels_of(part("v", {1: "cat"}, times=UNEVEN[17:], **facts)), target, "cvat")
    assert numbered(target, "cvat") == list(range(17, 40))


def test_label_studio_is_given_the_rate_of_each_video(target: Path) -> None:
    times = [t / 50 for t in range(9)]
    write(labels_of(part("a", {1: "cat"}), part("b", {1: "cat"}, times=times, fps=50.0)), target, "label-studio")
    video = ElementTree.parse(target / "config.xml").getroot().find("Video")
    assert video.attrib == {"name": "video", "value": "$video", "frameRate": "$fps"}
    for name, fps in (("a", 24.0), ("b", 50.0)):
        (task,) = json.loads((target / f"train/{name}.json").read_text())
        assert task["data"]["fps"] == fps
        (result,) = task["predictions"][0]["result"]
        assert [one["frame"] for one in result["value"]["sequence"]] == list(range(1, 10))
        assert result["value"]["framesCount"] == 9
        assert result["value"]["duration"] == pytest.approx(9 / fps)


def test_label_studio_validates_tasks_against_the_configuration(labels, target: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    write(labels, target, "label-studio")
    project = interface.LabelInterface((target / "config.xml").read_text())
    for path in target.glob("train/*.json"):
        (task,) = json.loads(path.read_text())
        assert project.validate_task({"data": task["data"]})
        assert all(project.validate_prediction(one) for one in task["predictions"])


def test_formats_of_pictures_record_the_labelled_segment(target: Path) -> None:
    labels = labels_of(part("v", {1: "cat"}, start_s=0.5, end_s=2.0), part("w", {1: "cat"}))
    for name in ("sav", "coco", "youtube-vis"):
        write(labels, target / name, name)
    sav, whole = (json.loads((target / f"sav/train/{one}_auto.json").read_text()) for one in "vw")
    assert (sav["video_start_s"], sav["video_end_s"]) == (0.5, 2.0)
    assert "video_start_s" not in whole
    coco = json.loads((target / "coco/annotations/instances_train.json").read_text())
    assert {image["video_id"]: image.get("start_s") for image in coco["images"]} == {"v": 0.5, "w": None}
    youtube_vis = json.loads((target / "youtube-vis/train/instances.json").read_text())
    assert [video.get("end_s") for video in youtube_vis["videos"]] == [2.0, None]


def test_a_segment_without_its_video_is_left_out_and_reported(target: Path) -> None:
    labels = labels_of(part("v", {1: "cat"}, start_s=0.5, uri="gone.mp4"), part("w", {1: "cat"}))
    done = write(labels, target, "cvat")
    assert [problem.video_id for problem in done.problems] == ["v"]
    assert "gone.mp4" in done.problems[0].message
    assert (target / "train/w.xml").exists()


def test_a_file_that_became_shorter_than_its_segment_is_named(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "v.mp4")
    rows = labels_of(part("v", {1: "cat"}, times=[9.0])).masks
    with pytest.raises(VideoError, match=r"v\.mp4 has no frame at 9 s, which was labelled as frame 0"):
        file_frames({"uri": clip, "start_s": 9.0}, rows, frames=1)


def test_a_segment_that_ends_before_its_file_leaves_room_to_close_tracks(tmp_path: Path) -> None:
    clip, rows = write_clip(tmp_path / "v.mp4"), labels_of(part("v", {1: "cat"}, times=TIMES[2:5])).masks
    found = file_frames({"uri": clip, "start_s": TIMES[2], "end_s": TIMES[5]}, rows, frames=3)
    assert (found.before, found.count) == (2, 9)
    found = file_frames({"uri": clip, "start_s": TIMES[2], "end_s": 99.0}, rows, frames=7)
    assert (found.before, found.count) == (2, 9)
