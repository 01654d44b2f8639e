"""jobs.detect on a real Ray: one run finds what there is to find, and later ones do what is left."""

import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import detect, label
from pipeline.demo.corpus import write_video
from pipeline.detection.publication import keys_of
from pipeline.labels.failures import read_failures
from pipeline.storage import Store, parse_path
from pipeline.storage.paths import DETECTIONS_TABLE, PARTS
from pipeline.tables.query import open_labels
from tests.detection import tiny_models
from tests.runs.chaos import crash

CLIPS = 4
GRID_LOOKS = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of a second and a half, a file that is no video, and a detector of random weights."""
    folder = tmp_path_factory.mktemp("detect")
    random = np.random.default_rng(0)
    (folder / "clips").mkdir()
    for number in range(CLIPS):
        ground = random.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        frames = np.stack([np.roll(ground, at, axis=1) for at in range(30)])
        write_video(folder / "clips" / f"clip{number}.mp4", frames, Fraction(20))
    (folder / "clips" / "broken.mp4").write_bytes(b"no video")
    tiny_models.save("rt_detr", folder)
    return folder


def arguments(corpus: Path, output: Path, **changed: str) -> list[str]:
    given = {
        "videos": str(corpus / "clips"), "output": str(output), "model": str(corpus / "rt_detr"),
        "classes": "car, person", "at": "0.5s", "device": "cpu", "actors": "1", **changed,
    }  # fmt: skip
    return [text for name, value in given.items() for text in (f"--{name}", value)]


def parts_of(store: Store) -> Counter[str]:
    return Counter(found[0] for entry in store.list(PARTS) if (found := parse_path(entry.path)))


@pytest.mark.usefixtures("local_ray")
def test_a_run_detects_and_the_next_one_does_what_changed(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    store = Store(output)
    assert detect.main(arguments(corpus, output)) == 3  # one file is no video
    told = capsys.readouterr().out
    assert f"detected {CLIPS} of {CLIPS + 1} pending videos" in told
    assert f"{CLIPS * len(GRID_LOOKS)} looks" in told
    assert "'broken.mp4' (not_a_video)" in told
    table = pq.read_table(pa.BufferReader(store.read(DETECTIONS_TABLE)))
    looks = set(zip(table["video_id"].to_pylist(), table["time_s"].to_pylist(), strict=True))
    assert looks == {(f"clip{number}.mp4", time) for number in range(CLIPS) for time in GRID_LOOKS}
    assert set(table["category"].to_pylist()) <= {"car", "person", None}
    assert [failure.video_id for failure in read_failures(store)] == ["broken.mp4"]

    assert detect.main(arguments(corpus, output)) == 3
    assert f"nothing pending: {CLIPS} videos detected before" in capsys.readouterr().out
    before, keys = parts_of(store), keys_of(store)
    assert before == Counter({f"clip{number}.mp4": 1 for number in range(CLIPS)})

    write_video(corpus / "clips" / "clip0.mp4", np.zeros((25, 48, 64, 3), np.uint8), Fraction(20))
    assert detect.main(arguments(corpus, output)) == 3
    assert "detected 1 of 1 pending video" in capsys.readouterr().out
    assert parts_of(store) == before + Counter({"clip0.mp4": 1})
    changed = {video_id for video_id, key in keys_of(store).items() if keys[video_id] != key}
    assert changed == {"clip0.mp4"}

    assert detect.main(arguments(corpus, output, classes="Car", at="keyframes")) == 3
    assert f"detected {CLIPS} of {CLIPS + 1} pending videos" in capsys.readouterr().out
    again = pq.read_table(pa.BufferReader(store.read(DETECTIONS_TABLE)))
    assert set(again["category"].to_pylist()) <= {"car", None}
    assert set(again["detection_key"].to_pylist()).isdisjoint(table["detection_key"].to_pylist())


@pytest.mark.usefixtures("local_ray")
def test_one_command_detects_in_a_folder_and_labels_what_it_finds(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "labels"
    command = ["--manifest", str(corpus / "clips"), "--output", str(output), "--model", "embedded", "--device", "cpu",
        "--detect", "car, person", "--detector", str(corpus / "rt_detr"), "--at", "0.5s", "--threshold", "0.9",
        "--max-objects", "2", "--actors", "1"]  # fmt: skip
    assert label.main(command) == 3  # one file is no video
    told = capsys.readouterr().out
    assert "broken.mp4" in told
    assert "its table of detections has no row of this video" in told
    assert keys_of(Store(output / "detections")).keys() == {f"clip{number}.mp4" for number in range(CLIPS)}
    with open_labels(str(output)) as labels:
        rows = labels.sql("SELECT video_id, objects FROM videos ORDER BY video_id").fetchall()
    assert [video_id for video_id, _ in rows] == [f"clip{number}.mp4" for number in range(CLIPS)]
    assert max(objects for _, objects in rows) in (1, 2)
    assert label.main(command) == 3
    assert "nothing pending" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_run_loses_and_repeats_nothing(corpus: Path, tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    command = [sys.executable, "-m", "jobs.detect", *arguments(corpus, output, at="0.1s", lanes="1")]
    with log.open("wb") as stream:
        driver = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        deadline = time.monotonic() + 1200  # Ray may start slowly
        while not parts_of(Store(output)) and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        crash(driver)
    store = Store(output)
    first = {entry.path: (entry.size, entry.mtime) for entry in store.list(PARTS)}
    assert first, log.read_text()
    assert not store.exists(DETECTIONS_TABLE)
    known = [failure.video_id for failure in read_failures(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    after = {entry.path: (entry.size, entry.mtime) for entry in store.list(PARTS)}
    assert first.items() <= after.items()
    assert parts_of(store) == Counter({f"clip{number}.mp4": 1 for number in range(CLIPS)})
    left = CLIPS - len(first)
    assert f"detected {left} of {left + (not known)} pending" in done.stdout
    table = pq.read_table(pa.BufferReader(store.read(DETECTIONS_TABLE)))
    distinct = set(zip(table["video_id"].to_pylist(), table["time_s"].to_pylist(), strict=True))
    looks = Counter(video_id for video_id, _ in distinct)
    assert looks.pop("clip0.mp4") in (13, 15)  # another test replaces it by a shorter one
    assert looks == Counter({f"clip{number}.mp4": 15 for number in range(1, CLIPS)})


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"classes": "car, zebra"}, "does not know the class 'zebra'; it knows Red_Bird, car, person, tree"),
        ({"model": "/nowhere/model"}, "No model folder at /nowhere/model"),
        ({"at": "often"}, "--at is 'often'; allowed are"),
        ({"threshold": "7"}, "--threshold is 7.0; allowed are scores from 0 to 1"),
        ({"videos": "/nowhere/clips"}, "/nowhere/clips is not there"),
        ({"videos": "/nowhere/videos.parquet"}, "/nowhere/videos.parquet"),
    ],
)
def test_wrong_input_is_named_before_anything_is_written(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], named: str
) -> None:
    assert detect.main(arguments(corpus, tmp_path / "out", **changed)) == 2
    told = capsys.readouterr().err
    assert named in told
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_a_table_of_videos_is_checked_by_the_rules_of_manifests(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pa.table({"video_id": ["a", None], "video_uri": ["x.mp4", "y.mp4"], "site": ["s", "s"]})
    pq.write_table(table, tmp_path / "videos.parquet")
    command = arguments(corpus, tmp_path / "out", videos=str(tmp_path / "videos.parquet"))
    assert detect.main(command) == 2
    assert "row 1" in capsys.readouterr().err
    pq.write_table(table.select(["video_id"]), tmp_path / "videos.parquet")
    assert detect.main(command) == 2
    assert "column video_uri is missing; the columns video_id, video_uri" in capsys.readouterr().err
