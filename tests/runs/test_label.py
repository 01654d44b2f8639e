"""From a manifest to tables on a real Ray: what is labelled, what is not and why, and what a second run does."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.console import show_report
from pipeline.labels.key import Parameters
from pipeline.runs.config import RunConfig
from pipeline.runs.run import label_corpus
from pipeline.storage import Store, parse_path
from pipeline.tables.query import open_labels
from tests.clips import green, point, red, write_clip, write_manifest
from tests.runs.chaos import crash
from tests.video.clips import Clip

pytestmark = pytest.mark.usefixtures("local_ray")

GOOD = ("one", "two", "three", "four")
FRAMES = {"one": 6, "two": 7, "three": 8, "four": 9}


def rows_of(folder: Path) -> list[dict]:
    """Four short clips with one or two objects each."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed, name in enumerate(GOOD):
        uri = write_clip(folder / f"{name}.mp4", frames=FRAMES[name], seed=seed)
        prompts = [red(category="red"), green(2)] if seed % 2 else [red()]
        rows.append({"video_id": name, "video_uri": uri, "prompts": prompts, "num_frames": FRAMES[name]})
    return rows


def config(folder: Path, **given) -> RunConfig:
    settings = {"manifest": str(folder / "manifest.parquet"), "output": str(folder / "out"), "actors": 1, **given}
    return RunConfig(model="embedded", **settings)


def masks_of(output) -> Counter:
    """How often the tables hold each video, object and frame."""
    with open_labels(output) as labels:
        return Counter(labels.sql("SELECT video_id, object_id, frame_index FROM masks").fetchall())


def expected_masks(names=GOOD) -> Counter:
    found = Counter()
    for seed, name in enumerate(GOOD):
        if name in names:
            found.update((name, 1, t) for t in range(FRAMES[name]))
            found.update((name, 2, t) for t in range(2, FRAMES[name]) if seed % 2)
    return found


def test_a_bad_video_fails_alone_with_its_reason(tmp_path):
    rows = rows_of(tmp_path / "videos")
    (tmp_path / "videos" / "text.mp4").write_text("no video at all")
    clip = rows[0]["video_uri"]
    bad = {
        "text": {"video_uri": str(tmp_path / "videos" / "text.mp4"), "prompts": [red()]},
        "missing": {"video_uri": str(tmp_path / "videos" / "nowhere.mp4"), "prompts": [red()]},
        "beyond": {"video_uri": clip, "prompts": [red(600)]},
        "outside": {"video_uri": clip, "prompts": [red() | {"points": [point(4000, 2)]}]},
    }
    rows += [{"video_id": name, **row} for name, row in bad.items()]
    write_manifest(tmp_path / "manifest.parquet", rows)

    report = label_corpus(config(tmp_path))

    assert report.exit_code == 3
    assert report.labelled == len(GOOD)
    classes = {failure.video_id: failure.failure_class for failure in report.failures}
    assert classes == {"text": "not_a_video", "missing": "storage", "beyond": "prompt", "outside": "prompt"}
    messages = {failure.video_id: failure.message for failure in report.failures}
    assert "nowhere.mp4" in messages["missing"]
    assert "600" in messages["beyond"]
    assert "point (4000, 2) lies outside the frame" in messages["outside"]
    assert masks_of(tmp_path / "out") == expected_masks()

    again = label_corpus(config(tmp_path))
    assert (again.labelled, again.exit_code, len(again.failures)) == (0, 3, 4)
    assert again.planned == {"labelled": 4, "pending": 0, "quarantined": 3, "unreadable": 1}

    write_clip(Path(bad["missing"]["video_uri"]), frames=4)  # a source that comes back is labelled unasked
    repaired = label_corpus(config(tmp_path))
    assert (repaired.labelled, repaired.exit_code) == (1, 3)
    records = [json.loads(path.read_text()) for path in (tmp_path / "out" / "failures").rglob("*.json")]
    assert sorted(record["video_id"] for record in records) == ["beyond", "outside", "text"]


def test_a_truncated_video_is_labelled_and_counted_in_the_summary(tmp_path, capsys):
    whole = Clip(name="whole.mkv", frames=40).write(tmp_path)
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    write_manifest(
        tmp_path / "manifest.parquet",
        [{"video_id": "cut", "video_uri": str(tmp_path / "cut.mkv"), "prompts": [red()]}],
    )
    report = label_corpus(config(tmp_path))
    assert (report.labelled, report.truncated, report.damaged) == (1, 1, 0)
    assert report.frames < 40
    show_report(report)
    assert "of these 1 truncated (columns" in capsys.readouterr().out


def test_a_source_that_was_unreachable_for_a_night_leaves_no_failure(tmp_path):
    rows = rows_of(tmp_path / "videos")[:1]
    write_manifest(tmp_path / "manifest.parquet", rows)
    label_corpus(config(tmp_path))

    (tmp_path / "videos").rename(tmp_path / "away")
    without = label_corpus(config(tmp_path))
    assert [failure.failure_class for failure in without.failures] == ["storage"]
    assert masks_of(tmp_path / "out") == expected_masks(GOOD[:1])

    (tmp_path / "away").rename(tmp_path / "videos")
    again = label_corpus(config(tmp_path))
    assert (again.labelled, again.exit_code, again.planned["labelled"]) == (0, 0, 1)
    assert not list((tmp_path / "out" / "failures").rglob("*.json"))


def test_only_what_changed_is_labelled_again(tmp_path):
    rows = rows_of(tmp_path / "videos")
    write_manifest(tmp_path / "manifest.parquet", rows)
    label_corpus(config(tmp_path))
    before = masks_of(tmp_path / "out")

    (tmp_path / "videos").rename(tmp_path / "renamed")
    for row in rows:
        row["video_uri"] = row["video_uri"].replace("/videos/", "/renamed/")
        row["prompts"] = [prompt | {"category": "other"} for prompt in row["prompts"]]
    write_manifest(tmp_path / "manifest.parquet", rows)
    renamed = label_corpus(config(tmp_path))
    assert (renamed.labelled, renamed.planned["labelled"]) == (0, 4)

    rows[2]["prompts"] = [red(3)]
    write_manifest(tmp_path / "manifest.parquet", rows)
    changed = label_corpus(config(tmp_path))
    assert (changed.labelled, changed.reasons) == (1, {"prompts changed": 1})
    after = masks_of(tmp_path / "out")
    assert after == before - Counter({("three", 1, t): 1 for t in range(3)})

    rows[2]["prompts"] = [red()]  # back again: the first labels are still there
    write_manifest(tmp_path / "manifest.parquet", rows)
    assert label_corpus(config(tmp_path)).labelled == 0
    assert masks_of(tmp_path / "out") == before


def test_flat_prompts_and_priority_give_the_same_labels_in_their_order(tmp_path):
    rows = rows_of(tmp_path / "videos")
    nested, flat = tmp_path / "nested", tmp_path / "flat"
    nested.mkdir()
    flat.mkdir()
    write_manifest(nested / "manifest.parquet", rows)
    table = [
        {"video_id": row["video_id"], **{k: v for k, v in prompt.items() if k != "box"}, **prompt.get("box", {})}
        for row in rows
        for prompt in row["prompts"]
    ]
    # said to be the longer, the less urgent: without their priority they come the other way round
    videos = [{**row, "priority": seed, "num_frames": 40 - 10 * seed} for seed, row in enumerate(rows)]
    write_table(videos, flat / "manifest.parquet", without=("prompts",))
    write_table(table, flat / "prompts.parquet")

    label_corpus(config(nested))
    report = label_corpus(config(flat, prompts=str(flat / "prompts.parquet")))

    assert report.labelled == 4
    query = "SELECT * EXCLUDE (label_key) FROM masks ORDER BY video_id, object_id, frame_index"
    with open_labels(nested / "out") as one, open_labels(flat / "out") as other:
        assert one.sql(query).fetchall() == other.sql(query).fetchall()
        keys = "SELECT video_id, label_key FROM videos ORDER BY 1"
        assert one.sql(keys).fetchall() == other.sql(keys).fetchall()
        committed = other.sql("SELECT video_id FROM videos ORDER BY committed_at").fetchall()
    order = [name for (name,) in committed]
    assert order[0] in {"four", "three"}  # two are in hand at a time
    assert order.index("one") >= 2


def test_a_killed_driver_loses_nothing_and_the_next_run_does_the_rest(tmp_path):
    rows = rows_of(tmp_path / "videos")
    rows += [dict(rows[i % 4], video_id=f"copy-{i}") for i in range(4)]
    write_manifest(tmp_path / "manifest.parquet", rows)
    command = [sys.executable, "-m", "jobs.label", "--manifest", str(tmp_path / "manifest.parquet"),
               "--output", str(tmp_path / "out"), "--model", "embedded", "--actors", "1"]  # fmt: skip
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(lambda: len(parts(tmp_path / "out")) >= 2, driver)
    finally:
        crash(driver)
    there = parts(tmp_path / "out")
    assert 2 <= len(there) < 8

    report = label_corpus(config(tmp_path))

    assert report.labelled == 8 - len(there)
    assert set(masks_of(tmp_path / "out").values()) == {1}
    assert len(parts(tmp_path / "out")) == 8


def test_labels_from_and_to_s3_by_the_command_line(tmp_path, s3):
    rows = rows_of(tmp_path / "videos")
    source, manifests = Store(f"{s3.uri}/videos"), Store(f"{s3.uri}/manifests")
    for row in rows:
        name = Path(row["video_uri"]).name
        source.put(name, Path(row["video_uri"]).read_bytes())
        row["video_uri"] = f"{s3.uri}/videos/{name}"
    manifests.put("m.parquet", Path(write_manifest(tmp_path / "m.parquet", rows)).read_bytes())
    command = [sys.executable, "-m", "jobs.label", "--manifest", f"{s3.uri}/manifests/m.parquet",
               "--output", f"{s3.uri}/out", "--model", "embedded", "--actors", "1"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "labelled 4 of 4 pending videos" in done.stdout
    assert masks_of(f"{s3.uri}/out") == expected_masks()
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, "nothing pending: 4 videos labelled before")


def test_a_stop_checkpoints_in_flight_videos_and_the_next_run_continues(tmp_path):
    rows = [{"video_id": "long", "video_uri": write_clip(tmp_path / "long.mp4", frames=400), "prompts": [red()]}]
    write_manifest(tmp_path / "manifest.parquet", rows)
    command = [sys.executable, "-m", "jobs.label", "--manifest", str(tmp_path / "manifest.parquet"),
               "--output", str(tmp_path / "out"), "--model", "embedded", "--actors", "1",
               "--checkpoint-every", "1s"]  # fmt: skip
    checkpoints = tmp_path / "out" / "checkpoints"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as driver:
        wait_for(lambda: list(checkpoints.rglob("*.state")), driver)
        driver.send_signal(signal.SIGTERM)
        said, _ = driver.communicate(timeout=240)
    assert driver.returncode == 4, said
    assert list(checkpoints.rglob("*.state"))
    finished = label_corpus(config(tmp_path))
    assert (finished.exit_code, finished.labelled) == (0, 1)
    assert finished.frames < 400
    assert masks_of(tmp_path / "out") == Counter(("long", 1, t) for t in range(400))


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_other_directions_are_other_labels(tmp_path, direction):
    rows = [{"video_id": "v", "video_uri": write_clip(tmp_path / "v.mp4", frames=6), "prompts": [red(2)]}]
    write_manifest(tmp_path / "manifest.parquet", rows)
    label_corpus(config(tmp_path, parameters=Parameters(direction=direction)))
    frames = {"backward": range(3), "both": range(6)}[direction]
    assert masks_of(tmp_path / "out") == Counter(("v", 1, t) for t in frames)


def write_table(rows: list[dict], path: Path, *, without: tuple[str, ...] = ()) -> None:
    names = dict.fromkeys(name for row in rows for name in row if name not in without)
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)


def parts(output: Path) -> set[tuple[str, str] | None]:
    return {parse_path(path.relative_to(output).as_posix()) for path in output.glob("parts/*/*/*.parquet")}


def wait_for(condition, process, timeout_s=240):
    """Wait until the condition holds, while the process lives."""
    started = time.monotonic()
    while not condition():
        assert process.poll() is None, "the driver ended too early"
        assert time.monotonic() - started < timeout_s
        time.sleep(0.02)
