"""The part: what goes in comes out, sorted, whatever the order and the memory it was built with."""

import math
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.labels import MASKLETS, MASKS, VIDEOS, PartBuilder, read_part, read_part_header, video_table
from tests.labelling import mask_rows

KEY = "0f" * 32
ROW = {"outcome": "labelled", "uri": "s3://b/v.mp4", "extra": {"site": "north", "Width": 3, "none": None}}


def frames(count: int, start: int, objects: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Forward from the prompt, then backward; the last object begins late and blinks."""
    rng = random.Random(count)
    for index in [*range(start, count), *range(start - 1, -1, -1)]:
        ids = [object_id for object_id in range(objects) if object_id < objects - 1 or index >= start + 2]
        areas = [0 if index % 5 == object_id else rng.randrange(1, 99) for object_id in ids]
        yield (
            index,
            {
                "object_id": ids,
                "is_prompted": [index == start] * len(ids),
                "counts": [f"{index}:{object_id}:" + "x" * rng.randrange(30) for object_id in ids],
                "area": areas,
                "boxes": [(1, 2, 3, 4) if area else None for area in areas],
                "object_logit": [math.nan if index == start else rng.uniform(-1, 1) for _ in ids],
                "predicted_iou": [rng.random() for _ in ids],
            },
        )


def build(budget: int = 1 << 26, **given: Any) -> tuple[bytes, bool]:
    with PartBuilder("v/1", label_key=KEY, height=4, width=6, memory_budget_bytes=budget, **given) as builder:
        for index, columns in frames(60, 20, 4):
            builder.add(mask_rows(index, index / 25, columns))
        part = builder.finish(ROW, masklets={1: {"category": "cat", "doubt": 0.5, "reasons": ["small"]}})
        return (part if isinstance(part, bytes) else part.read_bytes()), builder.spilled


def test_rows_come_back_sorted_with_their_video() -> None:
    part = read_part(build()[0])
    assert part.masks.schema.equals(MASKS)
    order = [
        (row["object_id"], row["frame_index"]) for row in part.masks.select(["object_id", "frame_index"]).to_pylist()
    ]
    assert order == sorted(order)
    assert len(order) == 3 * 60 + 38
    first = part.masks.slice(0, 1).to_pylist()[0]
    assert first["counts"].startswith("0:0:")
    assert (first["area"], first["is_present"], first["x_min"], first["y_max"]) == (0, False, None, None)
    prompted = part.masks.filter(pa.compute.field("is_prompted")).to_pylist()
    assert [(row["object_id"], row["frame_index"], row["object_logit"]) for row in prompted] == [
        (0, 20, None), (1, 20, None), (2, 20, None),
    ]  # fmt: skip
    assert part.masks["video_id"].unique().to_pylist() == ["v/1"]
    video = part.video.to_pylist()[0]
    assert (video["video_id"], video["label_key"], video["objects"], video["mask_rows"]) == ("v/1", KEY, 4, 218)
    assert (video["site"], video["manifest_Width"]) == ("north", 3)
    assert "none" not in video


def test_masklets_summarise_their_rows() -> None:
    part = read_part(build()[0])
    assert part.masklets.schema.equals(MASKLETS)
    rows = part.masks.to_pylist()
    for masklet in part.masklets.to_pylist():
        mine = [row for row in rows if row["object_id"] == masklet["object_id"]]
        seen = [row for row in mine if row["is_present"]]
        runs = "".join("x" if row["is_present"] else "." for row in mine).strip(".").replace("x", " ").split()
        assert masklet["frames"] == len(mine)
        assert masklet["visible_frames"] == len(seen)
        assert (masklet["first_frame"], masklet["last_frame"]) == (seen[0]["frame_index"], seen[-1]["frame_index"])
        assert (masklet["gaps"], masklet["longest_gap"]) == (len(runs), max(map(len, runs), default=0))
        assert masklet["mean_area"] == pytest.approx(sum(row["area"] for row in seen) / len(seen))
        assert masklet["min_iou"] == pytest.approx(min(row["predicted_iou"] for row in seen))
        logits = [row["object_logit"] for row in seen if row["object_logit"] is not None]
        assert masklet["mean_logit"] == pytest.approx(sum(logits) / len(logits))
    assert part.masklets.to_pylist()[1]["category"] == "cat"
    assert part.masklets.to_pylist()[1]["reasons"] == ["small"]
    assert part.masklets.to_pylist()[1]["doubt"] == 0.5
    assert 0 <= part.masklets.to_pylist()[2]["doubt"] <= 1


@pytest.mark.parametrize("budget", [1, 3_000, 30_000])
def test_spilled_rows_give_the_same_part(budget: int, tmp_path: Path) -> None:
    whole, spilled = build(), build(budget, spill_dir=tmp_path)
    assert (whole[1], spilled[1]) == (False, True)
    ours, theirs = read_part(whole[0]), read_part(spilled[0])
    assert theirs.masks.equals(ours.masks)
    assert theirs.masklets.equals(ours.masklets)
    assert theirs.video.equals(ours.video)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("budget", [1 << 26, 3_000])
def test_a_checkpoint_in_the_middle_changes_nothing(budget: int) -> None:
    saved: list[pa.Table] = []
    steps = list(frames(60, 20, 4))
    with PartBuilder("v/1", label_key=KEY, height=4, width=6, memory_budget_bytes=budget) as builder:
        for at, (index, columns) in enumerate(steps[:45]):
            builder.add(mask_rows(index, index / 25, columns))
            if at in (10, 11, 44):
                saved.append(builder.drain())
        assert builder.drain().num_rows == 0
    with PartBuilder("v/1", label_key=KEY, height=4, width=6, memory_budget_bytes=budget) as builder:
        for rows in saved:
            builder.add_rows(rows)
        assert builder.drain().num_rows == 0
        for index, columns in steps[45:]:
            builder.add(mask_rows(index, index / 25, columns))
        part = builder.finish(ROW)
        resumed = read_part(part if isinstance(part, bytes) else part.read_bytes())
    assert resumed.masks.equals(read_part(build()[0]).masks)


def test_the_header_needs_only_the_footer() -> None:
    data = build()[0]
    needed = read_part_header(data[-100:])
    assert isinstance(needed, int)
    header = read_part_header(data[-needed:])
    assert not isinstance(header, int)
    assert header.rows == 218
    assert header.video.equals(read_part(data).video)
    assert header.masklets.equals(read_part(data).masklets)


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"hello world, this is no parquet", b"x" * 50 + b"\xff\xff\xff\x7fPAR1"]
)
def test_other_files_are_no_parts(data: bytes) -> None:
    if data.endswith(b"PAR1") and len(data) > 20:
        assert read_part_header(data) == 0x7FFFFFFF + 8
    else:
        with pytest.raises(ValueError, match="not a Parquet file"):
            read_part_header(data)


def test_other_parquet_files_are_no_parts() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    with pytest.raises(ValueError, match="not a label part"):
        read_part(bytes(sink.getvalue()))


def test_a_video_without_rows_is_a_part() -> None:
    with PartBuilder("v", label_key=KEY, height=4, width=6) as builder:
        part = builder.finish(ROW)
    assert isinstance(part, bytes)
    found = read_part(part)
    assert (found.masks.num_rows, found.masklets.num_rows, found.video.num_rows) == (0, 0, 1)


def test_several_row_groups_with_tight_statistics() -> None:
    with PartBuilder("v", label_key=KEY, height=4, width=6) as builder:
        for index in range(20_000):
            columns = {"object_id": [1, 2], "is_prompted": [False] * 2, "counts": ["a", "b"], "area": [1, 1]}
            builder.add(mask_rows(index, 0.0, columns))
        part = builder.finish(ROW)
    assert isinstance(part, bytes)
    metadata = pq.ParquetFile(pa.BufferReader(part)).metadata
    bounds = [
        (group.column(1).statistics.min, group.column(1).statistics.max)
        for group in (metadata.row_group(at) for at in range(metadata.num_row_groups))
    ]
    assert bounds == [(1, 1), (1, 1), (2, 2), (2, 2)]
    assert "RLE_DICTIONARY" in metadata.row_group(0).column(0).encodings
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_two_rows_for_one_frame_are_refused() -> None:
    with PartBuilder("v", label_key=KEY, height=4, width=6) as builder:
        for _ in range(2):
            builder.add(mask_rows(7, 0.0, {"object_id": [1], "is_prompted": [False], "counts": ["a"], "area": [1]}))
        with pytest.raises(ValueError, match="object 1 has two rows for frame 7 of 'v'"):
            builder.finish(ROW)


def test_columns_that_do_not_fit_are_refused() -> None:
    with PartBuilder("v", label_key=KEY, height=4, width=6) as builder:
        row = {"object_id": [1], "is_prompted": [False], "counts": ["a"], "area": [1]}
        with pytest.raises(ValueError, match=r"unknown mask columns \['speed'\]"):
            builder.add(mask_rows(0, 0.0, row | {"speed": [1]}))
        with pytest.raises(ValueError, match="column counts has 2 values for 1 objects"):
            builder.add(mask_rows(0, 0.0, row | {"counts": ["a", "b"]}))


def test_secrets_in_uris_do_not_reach_the_labels() -> None:
    row = {"video_id": "v", "label_key": KEY, "outcome": "labelled"}
    uri = "https://user:pass@h/v.mp4?X-Amz-Signature=ab"
    assert video_table(row | {"uri": uri})["uri"].to_pylist() == ["https://***@h/v.mp4?***"]


def test_unknown_videos_columns_are_refused_and_taken_names_moved() -> None:
    with pytest.raises(ValueError, match=r"unknown videos columns \['nmae'\]"):
        video_table({"nmae": 1})
    row = {"video_id": "v", "label_key": KEY, "outcome": "labelled", "uri": "u", "extra": {"FPS": 1, "fps": 2, "a": 3}}
    assert video_table(row).schema.names[len(VIDEOS.names) :] == ["manifest_FPS", "a", "manifest_manifest_fps"]


HOUR = """
import random, resource, sys
from pipeline.labels import PartBuilder
from tests.labelling import mask_rows
frames, objects = int(sys.argv[1]), 20
rng = random.Random(0)
counts = ["".join(rng.choices("0123456789abcdefghijklmnop", k=150)) for _ in range(997)]
with PartBuilder("v", label_key="ab", height=1080, width=1920) as builder:
    for frame in range(frames):
        builder.add(mask_rows(frame, frame / 30, {
            "object_id": list(range(objects)), "is_prompted": [False] * objects,
            "counts": [counts[(frame * 31 + at * 7) % 997][at:] for at in range(objects)],
            "area": [frame + 1] * objects, "boxes": [(0, 0, 9, 9)] * objects,
            "object_logit": [0.5] * objects, "predicted_iou": [0.9] * objects,
        }))
    part = builder.finish({"outcome": "labelled", "uri": "u"})
    size = len(part) if isinstance(part, bytes) else part.stat().st_size
print(builder.rows, builder.spilled, size >> 20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.mark.slow
def test_an_hour_of_twenty_objects_is_built_in_bounded_memory() -> None:
    peaks = []
    for count in (9_000, 108_000):
        done = subprocess.run([sys.executable, "-c", HOUR, str(count)], capture_output=True, text=True, check=True)
        rows, spilled, _, peak = done.stdout.split()
        assert (int(rows), spilled) == (count * 20, "True")
        peaks.append(int(peak))
    assert peaks[1] - peaks[0] < 200  # MiB: one object of the hour, not twenty
