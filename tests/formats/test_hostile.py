"""What nobody should be given as a truth or a set of labels: named, and survived."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.errors import CorpusError, UsageError
from pipeline.formats.cvat import read_cvat
from pipeline.formats.evaluate import evaluate
from pipeline.formats.label_studio import read_label_studio
from pipeline.formats.mots import read_mots
from pipeline.formats.opening import open_masks
from pipeline.formats.rows import MASK_ROWS
from pipeline.formats.sources import TableMasks
from pipeline.formats.yolo import read_tracks, read_yolo
from pipeline.masks import rle

BOMB = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">
<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">
<!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;">]>
<annotations>&e;</annotations>"""
META = "<meta><task><name>x</name><original_size><width>{}</width><height>{}</height></original_size></task></meta>"


def xml(inside: str, width: object = 20, height: object = 10) -> bytes:
    return f"<annotations>{META.format(width, height)}{inside}</annotations>".encode()


def track(inside: str) -> bytes:
    return xml(f'<track id="0" label="a">{inside}</track>')


@pytest.mark.parametrize(
    "data",
    [
        b"", b"<", b"<a/>", b"<annotations/>", b"\x00\xff", BOMB, xml("", -5), xml("", 1 << 40, 1 << 40), xml("", "x"),
        track("<box/>"),
        track('<box frame="0" xtl="a" ytl="0" xbr="0" ybr="0"/>'), track('<polygon frame="0" points=""/>'),
        track('<polygon frame="0" points="1,2;3"/>'), track('<polygon frame="x" points="1,2;3,4"/>'),
        track('<mask frame="0" rle="5" left="0" top="0" width="99" height="99"/>'),
        track('<mask frame="0" rle="-1,7" left="0" top="0" width="3" height="2"/>'),
        track('<mask frame="0" rle="1" left="0" top="0" width="3" height="2"/>'),
    ],
)  # fmt: skip
def test_cvat(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"^bad\.xml is not CVAT's XML"):
        read_cvat(data, name="bad.xml")


@pytest.mark.parametrize(
    "text",
    ["x", "0 1 1 4 5", "0 1 1 4 5 d0 more", "a 1 1 4 5 d0", "0 1 1 99999999 99999999 d0", "0 1 1 -4 5 d0",
     "99999999999999999999 1 1 4 5 d0", "0 99999999999999999999 1 4 5 d0"],
)  # fmt: skip
def test_mots(text: str) -> None:
    with pytest.raises(UsageError, match=r"^bad\.txt"):
        read_mots(text, "v", name="bad.txt")


@pytest.mark.parametrize("text", ["x", "0", "0 1", "0 1 2 3", "0 nan 1 1 1", "0 inf 1 1 1", "0 1e9 0 0 0", "0 a b c d"])
def test_yolo(text: str) -> None:
    with pytest.raises(UsageError, match=r"^bad\.txt, line 1"):
        read_yolo(text, name="bad.txt")


def test_yolo_tracks() -> None:
    for text in ("a,b\n", "a,b,c,d,e,f\n", "a,v,0,99999999,99999999,1\n", 'a,"v\n'):
        with pytest.raises(UsageError):
            read_tracks(text)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"5", b"[5]", b'[{"data": {}}]', b'[{"data": {"video": "v"}, "annotations": [{}]}]', b"[" * 99999],
)
def test_label_studio(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"^bad\.json is not"):
        read_label_studio(data, name="bad.json")


def png(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, "PNG")
    return sink.getvalue()


def huge_png() -> bytes:
    """A few hundred bytes that claim 60,000 x 60,000 pixels."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def test_pngs_that_cannot_be_read_are_named_and_the_other_videos_scored(tmp_path: Path) -> None:
    good = png(np.eye(12, dtype=np.uint8))
    videos = {
        "good": {"00000.png": good, "00001.png": good, "00002.png": good},
        "torn": {"00000.png": good, "00001.png": good[:-30]},
        "text": {"00000.png": b"hello"},
        "huge": {"00000.png": huge_png()},
        "colour": {"00000.png": png(np.zeros((4, 4, 3), np.uint8))},
        "named": {"first.png": good},
        "empty": {"readme.md": b""},
        "mixed": {"00000.png": good, "1/00000.png": good},
        "gif": {"00000.png": b"GIF89a" + bytes(50)},
    }
    for video, held in videos.items():
        for name, data in held.items():
            path = tmp_path / video / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    source = open_masks(str(tmp_path))
    result = evaluate(source, source, protocol="all", workers=1)
    assert {score.video_id for score in result.scores} == {"good"}
    assert {problem.video_id for problem in result.problems} == videos.keys() - {"good"}
    said = {problem.video_id: problem.message for problem in result.problems}
    assert "exceeds limit" in said["huge"]
    assert "RGB image" in said["colour"]
    assert "'first' is not a number" in said["named"]
    assert "holds no PNG files" in said["empty"]


def test_frames_of_other_sizes_are_named_one_by_one(tmp_path: Path) -> None:
    for t in range(4):
        for folder, size in (("truth", 12), ("found", 12 if t != 2 else 16)):
            path = tmp_path / folder / "v" / f"{t:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(np.eye(size, dtype=np.uint8)))
    result = evaluate(
        open_masks(str(tmp_path / "found")), open_masks(str(tmp_path / "truth")), protocol="all", workers=1
    )
    assert [problem.frame_index for problem in result.problems] == [2]
    assert result.scores[0].frames == 3


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pa.table({"video_id": ["a"]}), "lacks the columns object_id"),
        (pa.table({name: ["x"] for name in MASK_ROWS.names}), "cannot be read as a table of masks"),
        (
            pa.table({name: pa.nulls(1, field) for name, field in zip(MASK_ROWS.names, MASK_ROWS.types, strict=True)}),
            "null",
        ),
    ],
)
def test_tables_that_are_no_masks(tmp_path: Path, table: pa.Table, says: str) -> None:
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=says):
        open_masks(str(tmp_path / "t.parquet"))


def test_files_that_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "b.json").write_text("[")
    (tmp_path / "folder").mkdir()
    for name in ("a.parquet", "a.json", "b.json", "folder", "absent", "absent.parquet", "absent.json"):
        with pytest.raises(CorpusError, match=name.replace(".", r"\.")):
            open_masks(str(tmp_path / name))
    with pytest.raises(UsageError, match="allowed are labels, table"):
        open_masks(str(tmp_path), kind="odd")


def test_two_rows_for_one_frame_are_one_mask() -> None:
    counts = rle.encode(np.eye(6, dtype=np.bool_)[None])[0]
    row = {
        "video_id": "v",
        "object_id": 1,
        "frame_index": 0,
        "height": 6,
        "width": 6,
        "counts": counts,
        "category": None,
    }
    table = pa.Table.from_pylist([row, row], schema=MASK_ROWS)
    result = evaluate(TableMasks(table), TableMasks(table), protocol="all")
    assert result.scores[0].j.mean == 1
    assert json.dumps([str(problem) for problem in result.problems]) == "[]"
