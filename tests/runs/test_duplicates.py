"""Videos of equal content and prompts: labelled once, with rows, parts and label keys of their own."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from jobs.console import show_plan
from pipeline.errors import VideoError
from pipeline.runs.config import RunConfig
from pipeline.runs.prepare import prepare
from pipeline.runs.run import label_corpus
from pipeline.runs.tasks import Tasks
from pipeline.storage import Store
from pipeline.storage.parquet import to_parquet
from pipeline.tables import publish
from pipeline.tables.doctor import examine
from pipeline.tables.forget import forget
from pipeline.tables.query import open_labels
from pipeline.workers.labeler import Labeler
from tests import labelling
from tests.clips import green, point, red, write_clip, write_manifest

FRAMES = 4


@pytest.fixture
def videos(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Rows of four videos: `copy` has the bytes and prompts of `first`, `asked` its bytes only."""
    for seed, names in enumerate((["first", "copy", "asked"], ["other"])):
        clip = write_clip(tmp_path / f"{seed}.mp4", frames=FRAMES, seed=seed)
        for name in names:
            shutil.copyfile(clip, tmp_path / f"{name}.mp4")
    prompts = {"first": [red()], "copy": [red(category="car")], "asked": [green()], "other": [red()]}
    return {
        name: {"video_id": name, "video_uri": str(tmp_path / f"{name}.mp4"), "prompts": each, "num_frames": FRAMES}
        for name, each in prompts.items()
    }


def config(folder: Path, rows: list[dict[str, Any]], **options: Any) -> RunConfig:
    manifest = write_manifest(folder / "manifest.parquet", rows)
    settings = {
        "manifest": manifest,
        "output": str(folder / "out"),
        "actors": 1,
        "find_duplicates": "content",
        **options,
    }
    return RunConfig(model="embedded", **settings)


def run(folder: Path, rows: list[dict[str, Any]], **options: Any):
    return label_corpus(config(folder, rows, **options))


def sources(folder: Path) -> dict[str, str | None]:
    """The column duplicate_of by video."""
    with open_labels(str(folder / "out")) as labels:
        return dict(labels.sql("SELECT video_id, duplicate_of FROM videos").fetchall())


def masks(folder: Path, video_id: str) -> list[tuple[Any, ...]]:
    with open_labels(str(folder / "out")) as labels:
        columns = "object_id, frame_index, time_s, counts, area, predicted_iou, stability"
        query = f"SELECT {columns} FROM masks WHERE video_id = '{video_id}' ORDER BY object_id, frame_index"
        return labels.sql(query).fetchall()


@pytest.mark.usefixtures("local_ray")
def test_equal_videos_are_tracked_once_and_have_rows_of_their_own(tmp_path: Path, videos, capsys) -> None:
    rows = list(videos.values())
    show_plan(prepare(config(tmp_path, rows)))
    said = capsys.readouterr().out
    assert "4 videos pending, 12 frames and 3 objects" in said
    assert "1 pending video is a duplicate of other videos: labelled once, with rows for each" in said
    report = run(tmp_path, rows)
    assert (report.labelled, report.frames, report.masks) == (4, 3 * FRAMES, 3 * FRAMES)
    assert sources(tmp_path) == {"first": None, "copy": "first", "asked": None, "other": None}
    assert masks(tmp_path, "copy") == masks(tmp_path, "first") != []
    with open_labels(str(tmp_path / "out")) as labels:
        assert labels.sql("SELECT video_id, category FROM masklets WHERE category IS NOT NULL").fetchall() == [
            ("copy", "car")
        ]
        keys, uris = labels.sql(
            "SELECT count(DISTINCT v.label_key || v.video_id), count(DISTINCT uri) FROM videos v JOIN masks m "
            "ON m.video_id = v.video_id AND m.label_key = v.label_key"
        ).fetchall()[0]
        assert (keys, uris) == (4, 4)
    assert examine(Store(tmp_path / "out")) == []
    assert run(tmp_path, rows).planned["pending"] == 0

    # New prompts for one of the two, as a correction gives them: it is tracked itself, and the other one is kept.
    before = masks(tmp_path, "first")
    report = run(tmp_path, [videos["first"], {**videos["copy"], "prompts": [red() | {"points": [point(18, 20)]}]}])
    assert (report.labelled, report.frames) == (1, FRAMES)
    assert sources(tmp_path)["copy"] is None
    assert masks(tmp_path, "first") == before

    # The labels of the duplicate stay when the other video is erased, and are tracked again when they are wanted.
    run(tmp_path, [videos["first"], videos["copy"]])
    forget(Store(tmp_path / "out"), ["first"])
    assert masks(tmp_path, "copy") == before


@pytest.mark.usefixtures("local_ray")
def test_labels_of_an_earlier_run_are_copied_if_their_part_is_there(tmp_path: Path, videos) -> None:
    rows = [videos["first"], videos["copy"]]
    run(tmp_path, rows[:1])  # as if the driver had been killed before the duplicate
    report = run(tmp_path, rows)
    assert (report.labelled, report.frames) == (1, 0)
    assert sources(tmp_path) == {"first": None, "copy": "first"}
    third = {**videos["copy"], "video_id": "third"}
    for part in (tmp_path / "out/parts").glob("*/*/*.parquet"):
        part.unlink()  # published, and removed by maintenance since
    report = run(tmp_path, [*rows, third])
    assert (report.labelled, report.frames) == (1, FRAMES)
    assert sources(tmp_path)["third"] is None
    assert masks(tmp_path, "third") == masks(tmp_path, "first")


@dataclass
class FailingLabeler:
    """Makes labelers that cannot decode one video."""

    video_id: str
    warnings: ClassVar = ()

    def __call__(self, settings):
        self.labeler = Labeler(settings)
        return self

    def label(self, task):
        if task.video.video_id == self.video_id:
            raise VideoError("struck")
        return self.labeler.label(task)

    def progress(self):
        return self.labeler.progress()

    def stop(self):
        self.labeler.stop()


@pytest.mark.usefixtures("local_ray")
def test_a_duplicate_of_a_video_in_quarantine_is_tracked_itself(tmp_path: Path, videos) -> None:
    rows = [videos["first"], videos["copy"], {**videos["copy"], "video_id": "third"}]
    report = label_corpus(config(tmp_path, rows), load_labeler=FailingLabeler("first"))
    assert [(each.video_id, each.failure_class) for each in report.failures] == [("first", "decode")]
    assert report.frames == FRAMES
    assert sources(tmp_path) == {"copy": None, "third": "copy"}


def copies(folder: Path, rows: list[dict[str, Any]], how: str) -> dict[str, str]:
    """Duplicates in the plan of a run, each with the video that it equals."""
    plan = prepare(config(folder, rows, find_duplicates=how)).plan
    ids = plan.table["video_id"].to_pylist()
    return {ids[copy]: ids[other] for copy, other in plan.copies.items()}


def test_local_files_are_equal_only_if_they_are_read(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=FRAMES)
    for name in ("b", "titled"):
        shutil.copyfile(clip, tmp_path / f"{name}.mp4")
    with (tmp_path / "titled.mp4").open("ab") as file:
        file.write((16).to_bytes(4) + b"free" + bytes(8))  # metadata that no decoder reads
    write_clip(tmp_path / "c.mp4", frames=FRAMES, seed=1)
    (tmp_path / "text.mp4").write_text("no video")
    rows = [
        {"video_id": name, "video_uri": str(tmp_path / f"{name}.mp4"), "prompts": [red()], "num_frames": 9 - n}
        for n, name in enumerate(("a", "b", "titled", "c", "text", "missing"))
    ]
    assert copies(tmp_path, rows, "etag") == {}
    assert copies(tmp_path, rows, "off") == {}
    assert copies(tmp_path, rows, "content") == {"b": "a"}
    assert copies(tmp_path, rows, "packets") == {"b": "a", "titled": "a"}
    rows[1]["start_s"] = 0.1
    assert copies(tmp_path, rows, "packets") == {"titled": "a"}


def test_objects_on_s3_are_equal_by_size_and_etag(tmp_path: Path, videos, s3) -> None:
    bucket = Store(f"{s3.uri}/videos")
    for name, row in videos.items():
        bucket.put(f"{name}.mp4", Path(row["video_uri"]))
        row["video_uri"] = f"{s3.uri}/videos/{name}.mp4"
    rows = list(videos.values())
    assert copies(tmp_path, rows, "etag") == {"copy": "first"}
    for row in rows:
        row["video_version"] = "1"  # says nothing about the content
    assert copies(tmp_path, rows, "etag") == {}
    assert copies(tmp_path, rows, "content") == {"copy": "first"}


def test_a_published_video_of_another_manifest_on_s3_is_not_tracked_again(tmp_path: Path, videos, s3) -> None:
    bucket = Store(f"{s3.uri}/videos")
    for name, row in videos.items():
        bucket.put(f"{name}.mp4", Path(row["video_uri"]))
        row["video_uri"] = f"{s3.uri}/videos/{name}.mp4"
    label_here(config(tmp_path, [videos["first"]], find_duplicates="etag"))
    other_night = [videos["copy"], videos["asked"], videos["other"]]
    planned = config(tmp_path, other_night, find_duplicates="etag")
    plan = prepare(planned).plan
    assert {row: source for row, (source, _) in plan.earlier.items()} == {0: "first"}
    assert len(plan.tracked) == 2
    for changed in ({"find_duplicates": "off"}, {"label_fps": 5.0}, {"check_drift": True}):
        assert not prepare(replace(planned, **changed)).plan.earlier
    label_here(planned)
    assert sources(tmp_path) == {"first": None, "copy": "first", "asked": None, "other": None}


def label_here(given: RunConfig) -> None:
    """Label and publish in this process: workers of a Ray that other tests started have no environment of this one."""
    prepared = prepare(given)
    plan, labeler = prepared.plan.table, Labeler(labelling.settings(given.output))
    tasks = Tasks(prepared, lambda _: None)
    for row in prepared.plan.order.tolist():
        labeler.label(tasks.make(row, ()))
    prepared.store.put(
        f"runs/{plan.num_rows}-videos/wanted.parquet", to_parquet(plan.select(["video_id", "label_key"]))
    )
    publish(prepared.store)
