"""Whole evaluations: which frames count, what is missing or broken, groups, intervals, processes."""

import json
import math
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import evaluate as job
from pipeline.errors import UsageError
from pipeline.formats.evaluate import bootstrap, compare, evaluate, j_and_f, statistics, summarise, to_csv, worst_videos
from pipeline.formats.opening import open_masks
from pipeline.formats.rows import RowBuilder
from pipeline.formats.sources import TableMasks
from pipeline.masks import rle

SIZE = (60, 90)


def disk(x: float, y: float = 30, radius: float = 12) -> str:
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    return rle.encode(((u - x) ** 2 + (v - y) ** 2 < radius**2)[None])[0]


EMPTY = rle.encode(np.zeros((1, *SIZE), np.bool_))[0]
Row = tuple[str, int, int, str]


def source(rows: list[Row], category: dict[int, str] | None = None) -> TableMasks:
    builder = RowBuilder()
    for video, one, frame, counts in rows:
        builder.add(video, one, frame, SIZE, counts, (category or {}).get(one))
    return TableMasks(builder.table())


def clip(video: str, shift: float = 0, frames: int = 10, objects: int = 2) -> list[Row]:
    return [(video, one, t, disk(20 + 3 * t + shift, 15 + 20 * one)) for one in range(objects) for t in range(frames)]


def test_davis_leaves_out_the_first_and_last_frame_of_the_video() -> None:
    truth = clip("a", frames=8, objects=1) + [("a", 5, t, disk(30 + t)) for t in range(3, 6)]
    found = [(video, one, t, disk(50, 40) if t in (0, 7) else counts) for video, one, t, counts in truth]
    result = evaluate(source(found), source(truth))
    assert result.protocol == "davis"
    assert [(score.frames, score.j_and_f) for score in result.scores] == [(6, 1.0), (3, 1.0)]
    everything = evaluate(source(found), source(truth), protocol="all")
    assert [score.frames for score in everything.scores] == [8, 3]
    assert everything.scores[0].j_and_f < 1


def test_sav_leaves_out_the_first_and_last_annotated_frame_of_the_object() -> None:
    truth = [("a", 1, t, disk(20 + t)) for t in range(0, 24, 4)] + [("a", 2, t, disk(30 + t)) for t in range(8, 24, 4)]
    found = [("a", one, t, disk(20 + t + 10 * (one == 2))) for one in (1, 2) for t in range(24)]
    result = evaluate(source(found), source(truth), protocol="sav")
    assert [score.frames for score in result.scores] == [4, 2]
    assert summarise(result).overall.j_and_f == 1


def test_scores_are_the_measures_of_the_frames() -> None:
    truth, found = clip("a"), clip("a", shift=4)
    score = evaluate(source(found), source(truth), protocol="all").scores[0]
    pairs = np.array([j_and_f(t[3], f[3], SIZE) for t, f in zip(truth, found, strict=True) if t[1] == 0])
    assert score.j == statistics(pairs[:, 0])
    assert score.f == statistics(pairs[:, 1])
    assert score.presence == 1


def test_presence() -> None:
    truth = [("a", 1, t, disk(30) if t < 6 else EMPTY) for t in range(10)]
    found = [("a", 1, t, disk(30) if t < 8 else EMPTY) for t in range(10)]
    (score,) = evaluate(source(found), source(truth), protocol="all").scores
    assert score.presence == pytest.approx(0.8)
    assert score.j.mean == pytest.approx(0.8)


def test_missing_frames_objects_and_videos_count_as_empty_and_are_counted() -> None:
    truth = clip("a") + clip("b") + clip("c", objects=1)
    found = [row for row in clip("a") if row[2] != 5 and row[1] == 0] + clip("b") + clip("z")
    result = evaluate(source(found), source(truth), protocol="all")
    values = {(score.video_id, score.object_id): (score.missing, score.j.mean) for score in result.scores}
    assert values == {
        ("a", 0): (1, pytest.approx(0.9)),
        ("a", 1): (10, 0),
        ("b", 0): (0, 1),
        ("b", 1): (0, 1),
        ("c", 0): (10, 0),
    }
    assert result.missing_videos == ("c",)
    assert result.extra_videos == 1
    assert {score.video_id for score in evaluate(source(found), source(truth), missing="skip videos").scores} == {
        "a",
        "b",
    }


def test_a_selection_is_judged_by_what_it_holds() -> None:
    found = [row for row in clip("a") if row[1] == 0 and row[2] > 4]
    result = evaluate(source(found), source(clip("a") + clip("b")), protocol="all", missing="skip")
    assert [(score.frames, score.missing) for score in result.scores] == [(5, 0), (0, 0)]
    assert summarise(result).overall.j_and_f == 1
    assert summarise(result).overall.masklets == 1


def test_no_common_video_is_an_error() -> None:
    with pytest.raises(UsageError, match="no video_id in common; examples are 'a', 'b'"):
        evaluate(source(clip("b")), source(clip("a")))


def test_broken_masks_and_other_sizes_are_named_and_the_rest_is_scored() -> None:
    truth = clip("a", objects=1)
    found = [list(row) for row in clip("a", objects=1)]
    found[3][3], found[4][3] = "!!", disk(20)[:-2]
    large = RowBuilder()
    for video, one, frame, counts in found:
        size = (1 << 20, 1 << 20) if frame == 5 else (30, 180) if frame == 6 else SIZE
        large.add(video, one, frame, size, counts)
    result = evaluate(TableMasks(large.table()), source(truth), protocol="all")
    assert [problem.frame_index for problem in result.problems] == [3, 4, 5, 6]
    assert all("video 'a', object 0, frame" in str(problem) for problem in result.problems)
    assert "30 x 180 cannot be compared with one of 60 x 90" in str(result.problems[3])
    assert result.scores[0].frames == 6
    assert result.scores[0].j.mean == 1
    hostile = RowBuilder()
    hostile.add("a", 0, 0, (1 << 30, 1 << 30), "0" * 50)
    hostile.add("a", 1, 0, SIZE, EMPTY)
    result = evaluate(source(truth), TableMasks(hostile.table()), protocol="all")
    assert "at most" in result.problems[0].message


def test_groups_by_category_and_size() -> None:
    truth = [(v, o, t, disk(40, 30, (4, 25)[o])) for v in ("a", "b") for o in (0, 1) for t in range(4)]
    found = [(v, o, t, counts if o else disk(42, 30, 4)) for v, o, t, counts in truth]
    summary = summarise(evaluate(source(found), source(truth, {0: "bird", 1: "car"}), protocol="all"))
    assert [(group.name, group.masklets) for group in summary.by_category] == [("bird", 2), ("car", 2)]
    assert summary.by_category[1].j_and_f == 1 > summary.by_category[0].j_and_f
    assert [group.name for group in summary.by_size] == ["small", "medium"]
    assert summary.overall.j_and_f == pytest.approx(np.mean([group.j_and_f for group in summary.by_size]))


def test_bootstrap_draws_videos() -> None:
    values = np.repeat([0.0, 1.0], 50)
    videos = ["a"] * 50 + ["b"] * 50
    assert bootstrap(values, videos).low == 0
    assert bootstrap(values, videos).high == 1
    spread = bootstrap(values, [str(i) for i in range(100)])
    assert 0.38 < spread.low < spread.mean == 0.5 < spread.high < 0.62
    assert bootstrap(values, videos) == bootstrap(values, videos)
    assert math.isnan(bootstrap(np.empty(0), []).mean)


def test_one_video_gives_no_interval() -> None:
    found = bootstrap(np.array([0.5, 0.7]), ["a", "a"])
    assert found.mean == pytest.approx(0.6)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_each_category_has_an_interval_and_the_worst_videos_come_first() -> None:
    truth = [row for i in range(12) for row in clip(f"v{i:02}", objects=2, frames=2)]
    found = [row for i in range(12) for row in clip(f"v{i:02}", shift=i % 4, objects=2, frames=2)]
    result = evaluate(source(found), source(truth, {0: "bird", 1: "cat"}), protocol="all")
    groups = summarise(result).by_category
    assert [group.name for group in groups] == ["bird", "cat"]
    for group in groups:
        assert group.interval.mean == pytest.approx(group.j_and_f)
        assert group.interval.low < group.j_and_f < group.interval.high
    assert worst_videos(result.scores, 3) == ["v03", "v07", "v11"]


def test_two_outputs_compared() -> None:
    rng = np.random.default_rng(0)
    truth = [row for i in range(20) for row in clip(f"v{i:02}", objects=1, frames=4)]
    shifts = {f"v{i:02}": rng.uniform(1, 4) for i in range(20)}
    good = [row for video, shift in shifts.items() for row in clip(video, shift / 2, objects=1, frames=4)]
    bad = [row for video, shift in shifts.items() for row in clip(video, shift, objects=1, frames=4)]
    first = evaluate(source(good), source(truth), protocol="all")
    second = evaluate(source(bad), source(truth), protocol="all")
    result = compare(first, second)
    assert result.difference.low > 0
    assert result.difference.mean == pytest.approx(result.j_and_f - result.baseline)
    mirrored = compare(second, first).difference
    assert mirrored.mean == pytest.approx(-result.difference.mean)


def test_processes_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.formats.evaluate.evaluation.INLINE_ROWS", 10)
    truth = [row for i in range(3) for row in clip(f"v{i}", frames=40)]
    found = [row for i in range(3) for row in clip(f"v{i}", shift=i, frames=40)]
    one, two = (evaluate(source(found), source(truth), workers=workers) for workers in (1, 2))
    assert one == two


def test_csv_and_json() -> None:
    result = evaluate(source(clip("a", 2)), source([*clip("a"), ("b,\n", 7, 0, EMPTY)], {0: "bird"}))
    lines = to_csv(result.scores).splitlines()
    assert lines[0].startswith("video_id,object_id,category,size,frames,missing,j_and_f,j_mean,j_recall,j_decay,f_mean")
    assert lines[1].startswith("a,0,bird,small,8,0,0.")
    document = json.loads(json.dumps(summarise(result).to_dict(), allow_nan=False))
    assert document["missing_videos"] == ["b,\n"]
    assert document["overall"]["masklets"] == 2


def write(folder: Path, name: str, rows: list[Row]) -> str:
    pq.write_table(source(rows).table, folder / f"{name}.parquet")
    return str(folder / f"{name}.parquet")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = write(tmp_path, "truth", clip("a") + clip("b")), write(tmp_path, "found", clip("a", 1) + clip("b"))
    outputs = ["--json", str(tmp_path / "s.json"), "--csv", str(tmp_path / "m.csv")]
    assert job.main([found, "--truth", truth, "--baseline", truth, "--fail-under", "0.5", *outputs]) == 0
    shown = capsys.readouterr().out
    assert "J&F" in shown
    assert "against the baseline's 1.0000: -0.0" in shown
    assert json.loads((tmp_path / "s.json").read_text())["comparison"]["baseline"] == 1
    assert len((tmp_path / "m.csv").read_text().splitlines()) == 5
    assert job.main([found, "--against", write(tmp_path, "more", clip("a") + clip("c"))]) == 0
    shown = capsys.readouterr().out
    assert "agreement in J&F 0.9" in shown
    assert "not compared: 1 video" in shown
    assert job.main([found, "--truth", truth, "--fail-under", "0.999"]) == 3
    assert "is below the 0.999" in capsys.readouterr().err
    assert job.main([found, "--truth", truth, "--fail-under", "9"]) == 2
    assert job.main([found, "--truth", str(tmp_path / "absent.parquet")]) in (1, 2)
    assert job.main([str(tmp_path / "nothing"), "--truth", truth]) == 2
    assert job.main([found, "--truth", truth, "--where", "area > 0"]) == 2
    capsys.readouterr()


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_results_replace_earlier_results_and_no_other_file(tmp_path: Path, option: str, capsys) -> None:
    truth, result = write(tmp_path, "truth", clip("a")), tmp_path / "result"
    for _ in range(2):
        assert job.main([truth, "--truth", truth, option, str(result)]) == 0
    for foreign in (b"", b"{}", b"video_id,mine\n", Path(truth).read_bytes()):
        result.write_bytes(foreign)
        assert job.main([truth, "--truth", truth, option, str(result)]) == 2
        assert result.read_bytes() == foreign
    assert "is not an earlier result of this command" in capsys.readouterr().err


def test_sav_json_against_itself(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(shared / "videos/sav_000001_manual.json")
    assert job.main([path, "--truth", path, "--fail-under", "1", "--workers", "1"]) == 0
    assert "protocol sav" in capsys.readouterr().out


def test_200_frames_of_480p_with_3_objects_take_under_20_seconds() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:480, :854]
    truth, found = RowBuilder(), RowBuilder()
    for one in range(3):
        ragged = 1 + sum(0.1 / k * np.sin(k * np.arctan2(y - 240, x - 427) + rng.uniform(0, 6)) for k in range(1, 25))
        blob = np.hypot(y - 240, x - 427) < 110 * ragged
        masks = [np.roll(blob, shift, axis=(0, 1)) for shift in ((one * 9, 0), (one * 9 + 4, 3), (one * 5, 40))]
        strings = rle.encode(np.stack(masks))
        for t in range(200):
            truth.add("a", one, t, (480, 854), strings[0])
            found.add("a", one, t, (480, 854), strings[1 + t % 2])
    tables = TableMasks(found.table()), TableMasks(truth.table())
    start = time.process_time()
    result = evaluate(*tables, workers=1)
    assert sum(score.frames for score in result.scores) == 594
    assert time.process_time() - start < 10


def test_davis_folders_as_the_benchmark_reads_them(tmp_path: Path) -> None:
    """Void pixels are background, an object that is absent from a frame is there as an empty mask."""
    truth = tmp_path / "DAVIS/Annotations/480p/bear"
    truth.mkdir(parents=True)
    for t in range(5):
        indices = np.zeros(SIZE, np.uint8)
        indices[10:30, 10 + t : 40 + t] = 1
        if t < 3:
            indices[35:50, 10:30] = 2
        indices[30:33] = 255
        image = Image.fromarray(indices)
        image.putpalette(list(range(256)) * 3)
        image.save(truth / f"{t:05}.png")
    found = open_masks(str(tmp_path / "DAVIS"))
    tables, problems = found.read(["bear"])
    assert not problems
    rows = tables["bear"].to_pylist()
    assert [(row["object_id"], row["frame_index"]) for row in rows] == [(one, t) for one in (1, 2) for t in range(5)]
    assert [rle.area(row["counts"]) for row in rows] == [600] * 5 + [300] * 3 + [0] * 2
    result = evaluate(found, found)
    assert result.protocol == "davis"
    assert [(score.frames, score.j_and_f) for score in result.scores] == [(3, 1.0), (3, 1.0)]
