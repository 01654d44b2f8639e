"""The flat prompt table gives the table that the nested form gives, and its mistakes are named by its rows."""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ManifestError
from pipeline.manifest import read_manifest
from tests.manifest.manifest_examples import BOX, MASK, POINT, prompt, row

PIXEL = st.floats(0, 4000, width=32)
COORDINATES = st.tuples(st.integers(0, 500), st.integers(501, 1000)).map(sorted)


@st.composite
def prompts(draw: st.DrawFn, category: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    kind = draw(st.sampled_from(["points", "box", "both", "mask"]))
    if kind in ("points", "both"):
        others = draw(st.lists(st.builds(dict, x=PIXEL, y=PIXEL, label=st.integers(0, 1)), max_size=3))
        fields["points"] = [*others, {"x": draw(PIXEL), "y": draw(PIXEL), "label": 1}]
    if kind in ("box", "both"):
        x, y = draw(COORDINATES), draw(COORDINATES)
        fields["box"] = {"x_min": x[0] / 4, "y_min": y[0] / 4, "x_max": x[1] / 4, "y_max": y[1] / 4}
    if kind == "mask":
        fields["mask"] = MASK
    if category:
        fields["category"] = category
    return fields


@st.composite
def manifests(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    for name in draw(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1, max_size=5)):
        given_prompts = []
        for object_id in draw(st.lists(st.integers(-3, 2**40), unique=True, min_size=1, max_size=3)):
            category = draw(st.sampled_from([None, "cat", 'a "quoted", name']))
            for frame in draw(st.lists(st.integers(0, 50), unique=True, min_size=1, max_size=2)):
                when = {"time_s": frame / 8} if draw(st.booleans()) else {"frame_index": frame}
                given = draw(prompts(category))
                if any(each["object_id"] == object_id for each in given_prompts) and "mask" not in given:
                    given["correct"] = draw(st.sampled_from([None, False, True]))
                given |= draw(st.sampled_from([{}, {"until_frame": 51}, {"until_s": 51 / 8}]))
                given_prompts.append({"object_id": object_id, **when, **given})
        rows.append(row(*given_prompts, video_id=name))
    return rows


def flatten(rows: list[dict[str, Any]], *, zipped: bool) -> list[dict[str, Any]]:
    flat = []
    for video in rows:
        for each in video["prompts"]:
            plain = ("object_id", "frame_index", "time_s", "category", "correct", "until_frame", "until_s")
            line = {name: each.get(name) for name in plain}
            points = each.get("points")
            if zipped:
                for name in ("x", "y", "label"):
                    line[f"points_{name}"] = points and [point[name] for point in points]
            else:
                line["points"] = points
            line |= {name: (each.get("box") or {}).get(name) for name in BOX}
            height, width = (each.get("mask") or {}).get("size", (None, None))
            counts = (each.get("mask") or {}).get("counts")
            line |= {"mask_height": height, "mask_width": width, "mask_counts": counts}
            flat.append({"video_id": video["video_id"], **line})
    return flat


def write_flat(lines: list[dict[str, Any]], path: Path) -> None:
    names = list(lines[0])
    match path.suffix:
        case ".parquet":
            pd.DataFrame(lines).to_parquet(path)
        case ".jsonl":
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        case ".csv":
            cells = [{k: json.dumps(v) if isinstance(v, list) else v for k, v in line.items()} for line in lines]
            pd.DataFrame(cells, columns=names).to_csv(path, index=False)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    rows=manifests(), shuffle=st.randoms(), zipped=st.booleans(), suffix=st.sampled_from([".parquet", ".csv", ".jsonl"])
)
def test_flat_is_nested(tmp_path: Path, write: Any, rows: Any, shuffle: Any, zipped: bool, suffix: str) -> None:
    nested = read_manifest(write(rows))
    lines = flatten(rows, zipped=zipped)
    shuffle.shuffle(lines)
    write_flat(lines, tmp_path / f"prompts{suffix}")
    bare = write([{name: value for name, value in each.items() if name != "prompts"} for each in rows], "bare.parquet")
    assert read_manifest(bare, prompts=tmp_path / f"prompts{suffix}").table.equals(nested.table)


def test_many_blocks_and_batches(tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(prompt(), prompt(frame_index=3, points=[POINT]), video_id=f"v{i}") for i in range(40)]
    nested = read_manifest(write(rows))
    monkeypatch.setattr("pipeline.manifest.source._BATCH_ROWS", 7)
    monkeypatch.setattr("pipeline.manifest.flat._BLOCK_BYTES", 2000)
    bare = write([{"video_id": f"v{i}", "video_uri": "s3://bucket/a.mp4"} for i in range(40)], "bare.parquet")
    lines = flatten(rows, zipped=False)
    for order in (lines, lines[::-1], lines[::2] + lines[1::2]):
        write_flat(order, tmp_path / "prompts.parquet")
        assert read_manifest(bare, prompts=tmp_path / "prompts.parquet").table.equals(nested.table)


@pytest.fixture
def complain(tmp_path: Path, write: Any) -> Any:
    bare = write([{"video_id": name, "video_uri": "u"} for name in "ab"], "bare.parquet")

    def complain(lines: list[dict[str, Any]], name: str = "prompts.parquet") -> str:
        write_flat(lines, tmp_path / name)
        with pytest.raises(ManifestError) as caught:
            read_manifest(bare, prompts=tmp_path / name)
        return str(caught.value)

    return complain


SOUND = [{"video_id": name, "object_id": 1, "frame_index": 0, **BOX} for name in "ab"]


def test_a_bad_line_is_named_by_both_its_rows(complain: Any) -> None:
    bad = {**SOUND[0], "object_id": 2, "x_max": 1.0}
    text = complain([*SOUND, bad])
    assert "row 0, video_id 'a', column prompts[1].box (row 2 of the prompt table), value {'x_min': 10.0" in text
    assert "x_min must be less than x_max" in text


def test_values_that_cannot_be_cast(complain: Any) -> None:
    lines = [*SOUND, {**SOUND[1], "frame_index": 1.5, "object_id": 7}]
    assert "row 1, video_id 'b', column prompts[1].frame_index (row 2 of the prompt table), value 1.5" in complain(
        lines
    )


def test_missing_parts(complain: Any) -> None:
    half = dict.fromkeys(BOX) | {"x_min": 1.0}
    assert "prompts[1].box.y_min (row 2 of the prompt table), value None: missing" in complain(
        [*SOUND, {**SOUND[0], "object_id": 2, **half}]
    )
    masked = {**SOUND[0], "object_id": 2, **dict.fromkeys(BOX), "mask_height": 4.0, "mask_counts": "525"}
    assert "prompts[1].mask.size (row 2 of the prompt table), value [4, None]: must be [height" in complain(
        [*SOUND, masked]
    )
    assert "video_id 'b', column prompts, value []: empty" in complain(SOUND[:1])
    assert "row 1, column video_id is missing" in complain([SOUND[0], {**SOUND[1], "video_id": None}])


def test_lists_of_points_of_different_lengths(complain: Any) -> None:
    lists = {"points_x": [1.0, 2.0], "points_y": [1.0], "points_label": [1, 1]}
    text = complain([*SOUND, {**SOUND[0], "object_id": 2, **lists}])
    assert (
        "prompts[1].points (row 2 of the prompt table), value (2, 1, 2): points_x, points_y, points_label have" in text
    )


def test_csv_cells_that_are_no_lists(complain: Any) -> None:
    for cell in ("12", "[1,", '[{"x": 1, "y": 2}]', '[{"x": 1, "y": 2, "label": "in"}]', "[[1, 2, 1]]", "[" * 5000):
        text = complain([{**SOUND[0], "points": cell}, SOUND[1]], "prompts.csv")
        assert "column prompts[0].points (row 0 of the prompt table)" in text
        assert "is not a JSON list" in text


def test_columns_that_are_wrong(complain: Any) -> None:
    assert "column 'xmin' is unknown; allowed are video_id, object_id, frame_index" in complain(
        [{**SOUND[0], "xmin": 1}]
    )
    assert "column object_id is missing; the file has ['video_id']" in complain([{"video_id": "a"}])
    assert "only points_x are there; points need all three" in complain([{**SOUND[0], "points_x": [1]}])
    assert "column points beside points_x" in complain(
        [{**SOUND[0], "points": [POINT], "points_x": [1], "points_y": [1], "points_label": [1]}]
    )
    assert "column box.x_min has the type large_string, not a number" in complain([{**SOUND[0], "x_min": "left"}])


def test_an_index_that_pandas_wrote_is_no_column(tmp_path: Path) -> None:
    frame = pd.DataFrame(SOUND)
    frame.to_csv(tmp_path / "p.csv")
    frame.iloc[::-1].to_parquet(tmp_path / "p.parquet")
    videos = pa.table({"video_id": ["a", "b"], "video_uri": ["u", "u"]})
    from_csv, from_parquet = (read_manifest(videos, prompts=tmp_path / f"p.{each}") for each in ("csv", "parquet"))
    assert from_csv.table.equals(from_parquet.table)


def test_a_repeated_id_is_told_as_such(tmp_path: Path) -> None:
    write_flat(SOUND, tmp_path / "p.parquet")
    videos = pa.table({"video_id": ["a", "b", "a"], "video_uri": ["u", "u", "u"]})
    with pytest.raises(ManifestError, match="row 2, video_id 'a', column video_id, value 'a': row 0 has this id"):
        read_manifest(videos, prompts=tmp_path / "p.parquet")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"\xff", b"b"]).view(pa.string())
    pq.write_table(pa.Table.from_pylist(SOUND).append_column("category", raw), tmp_path / "p.parquet")
    videos = pa.table({"video_id": ["a", "b"], "video_uri": ["u", "u"]})
    with pytest.raises(ManifestError, match=r"p.parquet: cannot be read: .*UTF8"):
        read_manifest(videos, prompts=tmp_path / "p.parquet")


def test_both_forms_at_once(tmp_path: Path, write: Any) -> None:
    write_flat(SOUND, tmp_path / "prompts.parquet")
    with pytest.raises(ManifestError, match="both a column prompts and a prompt table are given; only one of them"):
        read_manifest(write([row()]), prompts=tmp_path / "prompts.parquet")


def test_prompts_of_unknown_videos_are_reported_and_ignored(
    tmp_path: Path, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write_flat([*SOUND, {**SOUND[0], "video_id": "c", "x_max": -1.0}], tmp_path / "prompts.parquet")
    bare = write([{"video_id": name, "video_uri": "u"} for name in "ab"], "bare.parquet")
    with caplog.at_level(logging.WARNING):
        assert len(read_manifest(bare, prompts=tmp_path / "prompts.parquet")) == 2
    assert "1 of 3 prompts are for videos that are not in the manifest" in caplog.text


def test_texts_of_csv_stay_texts(tmp_path: Path, write: Any) -> None:
    (tmp_path / "p.csv").write_text(
        "video_id,object_id,frame_index,x_min,y_min,x_max,y_max,category\n007,1,0,1,2,3.5,4,NA\nnull,1,0,1,2,3,4,\n"
    )
    bare = write([{"video_id": name, "video_uri": "u"} for name in ("007", "null")], "bare.parquet")
    manifest = read_manifest(bare, prompts=tmp_path / "p.csv")
    assert [manifest.video(i).prompts[0].category for i in range(2)] == ["NA", None]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_fractions_may_come_late(tmp_path: Path, suffix: str) -> None:
    """Both readers infer types from a first megabyte."""
    lines = [{"video_id": "a", "object_id": i, "frame_index": 0, **dict.fromkeys(BOX, 1)} for i in range(40_000)]
    lines = [line | {"x_max": 2, "y_max": 2} for line in lines]
    lines[-1]["x_max"] = 2.5
    write_flat(lines, tmp_path / f"p.{suffix}")
    manifest = read_manifest(pa.table({"video_id": ["a"], "video_uri": ["u"]}), prompts=tmp_path / f"p.{suffix}")
    assert manifest.video(0).prompts[-1].box == (1, 1, 2.5, 2)


def test_nan_is_missing_in_a_flat_table(tmp_path: Path, write: Any) -> None:
    columns = {
        "video_id": ["a", "b"],
        "object_id": [1.0, 1.0],
        "frame_index": [0.0, float("nan")],
        "time_s": [float("nan"), 0.5],
        "points": [[POINT], None],
        **{name: [float("nan"), value] for name, value in BOX.items()},
    }
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    bare = write([{"video_id": name, "video_uri": "u"} for name in "ab"], "bare.parquet")
    manifest = read_manifest(bare, prompts=tmp_path / "p.parquet")
    assert manifest.video(0).prompts[0].box is None
    assert manifest.video(1).prompts[0].time_s == 0.5
