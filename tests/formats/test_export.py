"""Exports that are selected, split, cut short and gone on with; and the command."""

import json
import os
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from PIL import Image

from jobs import evaluate as evaluate_job
from jobs import export as job
from pipeline.errors import StorageError, UsageError
from pipeline.formats.evaluate import evaluate, summarise
from pipeline.formats.export import export_labels
from pipeline.formats.opening import open_masks
from pipeline.formats.registry import format_of
from pipeline.formats.selection import VideoCount, chunks
from pipeline.formats.sources import SelectedMasks
from pipeline.formats.split import Splits
from pipeline.storage import Store
from pipeline.tables.delta import FORMAT_PROPERTY
from tests.formats.conftest import SIZE, VIDEOS, labels_of, part

OURS = {FORMAT_PROPERTY: "1"}
"""Properties of a published table."""

FORMATS = ("sav", "davis", "png", "coco", "youtube-vis", "yolo", "mots", "label-studio", "cvat", "cvat-masks")


def write(labels, target: Path | Store, name: str = "coco", **options):
    where = options.pop("where", None)
    store = target if isinstance(target, Store) else options.pop("store", Store)(target)
    return export_labels(labels.select(where=where), store, format_of(name), chunk_rows=60, **options)


def tree(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and "_export" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_a_condition_may_name_columns_of_all_three_tables(labels, target: Path) -> None:
    write(labels, target, where="category = 'dog' AND weather = 'rain' AND frame_index >= 4 AND predicted_iou < 0.85")
    document = json.loads((target / "annotations/instances_train.json").read_text())
    assert {image["video_id"] for image in document["images"]} == {"clip/2"}
    assert {image["frame_index"] for image in document["images"]} == set(range(4, 9))
    assert {one["track_id"] for one in document["annotations"]} == {1}


@pytest.mark.parametrize(
    ("where", "says"),
    [("no such column", "cannot be selected"), ("area >", "cannot be selected"), ("area < 0", "no mask is selected")],
)
def test_bad_conditions_are_usage_errors(labels, target: Path, where: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        write(labels, target, where=where)


def test_splits_depend_on_the_video_alone_and_grow() -> None:
    small, large = Splits.parse(["val=0.1"]), Splits.parse(["val=0.3", "test=0.2"])
    ids = [f"video {i}" for i in range(5000)]
    held = {one for one in ids if small.of(one) == "val"}
    assert 420 < len(held) < 580
    assert held <= {one for one in ids if large.of(one) == "val"}
    counts = Counter(map(large.of, ids))
    assert counts["train"] == pytest.approx(2500, abs=150)
    assert counts["test"] == pytest.approx(1000, abs=120)
    for bad in (["val"], ["val=2"], ["val=x"], ["val=0"], ["val=nan"], ["train=0.1"], ["a=0.6", "b=0.6"], ["a b=0.1"]):
        with pytest.raises(UsageError):
            Splits.parse(bad)


class FailingStore(Store):
    """Loses its connection after so many writes."""

    left = 7

    def put(self, path: str, data: bytes | Path) -> None:
        self.count(path)
        super().put(path, data)

    def commit_once(self, path: str, data: bytes | Path) -> bool:
        self.count(path)
        return super().commit_once(path, data)

    def count(self, path: str) -> None:
        FailingStore.left -= 1
        if FailingStore.left < 0:
            raise StorageError(f"cannot write {path}: the connection is lost")


@pytest.mark.parametrize("name", FORMATS)
def test_a_resumed_export_equals_an_uninterrupted_one(labels, tmp_path: Path, name: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    splits = Splits.parse(["val=0.4"])
    assert write(labels, whole, name, splits=splits).chunks == 4
    runs = 0
    while True:
        FailingStore.left, runs = {"png": 60, "davis": 30, "yolo": 30}.get(name, 7), runs + 1
        try:
            done = write(labels, broken, name, splits=splits, store=FailingStore)
            break
        except StorageError:
            assert runs < 12
    assert runs > 1
    assert done.chunks_done_before > 0
    assert tree(broken) == tree(whole)
    again = write(labels, whole, name, splits=splits)
    assert again.chunks_done_before == again.chunks


def test_only_chunks_with_new_labels_are_written_again(labels, target: Path) -> None:
    write(labels, target, "png")
    newer = labels_of(
        *(
            part(name, {0: "cat", 1: "dog", 7: None}, start=at % 2, key="k2" if at == 0 else "k1")
            for at, name in enumerate(VIDEOS)
        )
    )
    done = write(newer, target, "png")
    assert (done.chunks, done.chunks_done_before) == (4, 3)


def test_a_place_holds_one_export(labels, target: Path) -> None:
    write(labels, target)
    with pytest.raises(UsageError, match="holds an export with format 'coco', not 'mots'"):
        write(labels, target, "mots")
    with pytest.raises(UsageError, match="holds an export with splits"):
        write(labels, target, splits=Splits.parse(["val=0.5"]))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_with_foreign_files_is_refused_and_unchanged(labels, target: Path, name: str) -> None:
    for path in ("labels/train/clip%201_000000.txt", "data.yaml", "annotations/instances_train.json", "photo.jpg"):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(b"not yours")
    before = everything(target)
    with pytest.raises(UsageError, match="holds files that no export wrote, such as"):
        write(labels, target, name)
    assert everything(target) == before


@pytest.mark.parametrize(("name", "path"), [("png", "Annotations/clip%2F2/001/00004.png"), ("yolo", "data.yaml")])
def test_files_edited_or_added_after_the_export_are_never_replaced(labels, target: Path, name: str, path: str) -> None:
    write(labels, target, name)
    (target / path).write_bytes(b"corrected by hand")
    (target / "notes.txt").write_bytes(b"mine")
    parts = (
        part(one, {0: "cat", 1: "dog", 7: None, 8: "bird"}, start=at % 2, key="k2") for at, one in enumerate(VIDEOS)
    )
    with pytest.raises(UsageError, match=r"is not as this export wrote it, so it is not replaced"):
        write(labels_of(*parts), target, name)
    assert (target / path).read_bytes() == b"corrected by hand"
    assert (target / "notes.txt").read_bytes() == b"mine"


def test_files_of_an_interrupted_export_are_replaced_by_those_of_newer_labels(labels, target: Path) -> None:
    FailingStore.left = 45
    with pytest.raises(StorageError):
        write(labels, target, "png", store=FailingStore)
    assert len(list(target.rglob("*.png"))) > 20
    newer = labels_of(*(part(name, {0: "cat", 1: "dog", 7: None}, key="k2", apart=True) for name in VIDEOS))
    write(newer, target, "png")
    write(newer, target / "fresh", "png")
    for path, data in tree(target / "fresh").items():
        assert (target / path).read_bytes() == data


def test_a_folder_with_a_foreign_record_is_refused(labels, target: Path) -> None:
    (target / "_export").mkdir(parents=True)
    for text in ("[]", "{", '{"format": "theirs"}'):
        (target / "_export/export.json").write_text(text)
        with pytest.raises(UsageError, match="choose another place"):
            write(labels, target)


def test_what_a_format_cannot_hold_is_left_out_and_named(target: Path) -> None:
    fine, many, negative = (
        part("fine", {1: None}),
        part("many", dict.fromkeys(range(256)), start=8),
        part("neg", {-4: None}),
    )
    labels = labels_of(fine, many, negative)
    done = write(labels, target / "davis", "davis")
    assert [problem.video_id for problem in done.problems] == ["many"]
    assert "256 objects in one video; a palette image holds at most 254" in str(done.problems[0])
    assert (target / "davis/ImageSets/2017/train.txt").read_text() == "fine\nneg\n"
    done = write(labels, target / "png", "png")
    assert [problem.video_id for problem in done.problems] == ["neg"]
    again = write(labels, target / "png", "png")
    assert again.problems == done.problems


def test_broken_masks_in_the_labels_are_named_and_the_other_videos_written(labels, target: Path) -> None:
    counts = labels.masks.column("counts").to_pylist()
    counts[5] = "!broken"
    masks = labels.masks.set_column(labels.masks.schema.get_field_index("counts"), "counts", pa.array(counts))
    for name in ("davis", "png", "yolo", "cvat", "cvat-masks", "sav", "mots"):
        done = write(labels._replace(masks=masks), target / name, name)
        assert [problem.video_id for problem in done.problems] == [VIDEOS[0]], name
        assert "malformed or truncated" in done.problems[0].message


def test_chunks() -> None:
    videos = [VideoCount(video_id="", rows=rows, frames=rows + 1, label_key="") for rows in (5, 5, 30, 1, 1, 9)]
    found = list(chunks(videos, rows=10))
    assert [[video.rows for video in chunk.videos] for chunk in found] == [[5, 5], [30], [1, 1], [9]]
    assert [chunk.first for chunk in found] == [0, 2, 3, 5]
    assert [chunk.rows_before for chunk in found] == [0, 10, 40, 42]
    assert [chunk.frames_before for chunk in found] == [0, 12, 43, 47]
    assert list(chunks([])) == []


def publish(labels, folder: Path) -> str:
    for name in labels._fields:
        table = getattr(labels, name)
        DeltaTable.create(f"{folder}/{name}", table.schema, configuration=OURS, raise_if_key_not_exists=False)
        write_deltalake(f"{folder}/{name}", table, mode="append")
    return str(folder)


def test_the_commands_on_published_labels(labels, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, target = publish(labels, tmp_path / "labels"), str(tmp_path / "out")
    assert job.main([output, "--format", "coco", "--to", target, "--split", "val=0.4", "--where", "area > 0"]) == 0
    assert "wrote 188 masks of 8 videos" in capsys.readouterr().out
    assert evaluate_job.main([target, "--truth", output, "--fail-under", "1", "--workers", "1"]) == 0
    assert evaluate_job.main([output, "--truth", output, "--where", "category = 'dog'", "--fail-under", "1"]) == 0
    assert job.main([output, "--format", "mots", "--to", target]) == 2
    assert job.main([output, "--format", "coco", "--to", target, "--tolerance", "1"]) == 2
    assert job.main([output, "--format", "coco", "--to", f"{target}2", "--where", "nonsense"]) == 2
    assert job.main([output, "--format", "coco", "--to", f"{target}2", "--every", "0"]) == 2
    assert job.main([str(tmp_path / "nothing"), "--format", "coco", "--to", f"{target}2"]) == 2
    said = capsys.readouterr().err
    assert "holds an export with format 'coco'" in said
    assert "nonsense" in said


def test_pictures_are_the_videos_frames(tmp_path: Path) -> None:
    folder, clip = tmp_path / "labels", tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv444p"
        for t in range(9):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.full((*SIZE, 3), 25 * t, np.uint8), format="rgb24"))
            )
        container.mux(stream.encode())
    labels = labels_of(part("a", {1: None}), part("gone", {1: None}))
    column = pa.array([str(clip), str(tmp_path / "gone.mp4")])
    labels = labels._replace(videos=labels.videos.set_column(2, "uri", column))
    target = tmp_path / "out"
    arguments = ["--format", "coco", "--to", str(target), "--every", "4", "--frames", "write"]
    assert job.main([publish(labels, folder), *arguments]) == 3
    found = {path.name: np.asarray(Image.open(path)).mean() for path in (target / "train/a").iterdir()}
    assert found == {f"00000{t}.jpg": pytest.approx(25 * t, abs=3) for t in (0, 4, 8)}
    document = json.loads((target / "annotations/instances_train.json").read_text())
    assert all((target / "train" / image["file_name"]).exists() for image in document["images"])


@pytest.mark.parametrize("name", ["coco", "png"])
def test_on_s3(labels, s3, name: str) -> None:
    target, where = f"{s3.uri}/{name}", "frame_index < 3"
    done = write(labels, Store(target), name, where=where)
    assert write(labels, Store(target), name, where=where).chunks_done_before == done.chunks
    found = open_masks(target)
    assert found.kind == name
    result = evaluate(found, SelectedMasks(labels.select(where=where)), protocol="all", workers=1)
    assert summarise(result).overall.j_and_f == 1


def test_paths_may_be_relative(labels, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(labels, target, "mots")
    monkeypatch.chdir(target)
    for path in (".", "../out", "./instances_txt/..", str(target) + "/", f"file://{target}"):
        assert len(open_masks(path).row_counts()) == 8
    assert evaluate_job.main([".", "--truth", "../out", "--workers", "1", "--json", "../scores.json"]) == 0
    assert json.loads((target.parent / "scores.json").read_text())["overall"]["j_and_f"] == 1


@pytest.mark.slow
def test_memory_is_bounded_on_a_million_rows(tmp_path: Path) -> None:
    """COCO, the format with the largest documents, and an evaluation against itself."""
    script = Path(__file__).parent / "million.py"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.formats.million", str(tmp_path)],
        cwd=script.parents[2], env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert max(peaks.values()) < 900, peaks
