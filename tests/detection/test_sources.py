"""Detections as detectors and trackers write them: one result for every form, and every wrong input named."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.detection import digest_of
from pipeline.detection.sources.pictures import PictureNames, VideoIds
from pipeline.detection.sources.reading import Reading, Videos
from pipeline.detection.sources.source import Source
from pipeline.errors import CorpusError, ManifestError, UsageError
from pipeline.masks import rle
from pipeline.storage import Store

SIZE = (48, 64)
"""Height and width."""
TRACKED = [
    {"frame": 0, "box": (16, 12, 32, 36), "score": 0.5, "name": "person", "number": 0, "track": 7},
    {"frame": 0, "box": (0, 0, 8, 24), "score": 0.25, "name": "car", "number": 2, "track": 9},
    {"frame": 2, "box": (24, 12, 40, 36), "score": 0.75, "name": "person", "number": 0, "track": 7},
]


def records(*, tracks: bool) -> list[dict[str, Any]]:
    return [{**each, "track": each["track"] if tracks else None} for each in TRACKED]


def canonical(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"video_id": "clip", "frame_index": r["frame"], "category": r["name"], "score": r["score"]}
        | dict(zip(("x_min", "y_min", "x_max", "y_max"), map(float, r["box"]), strict=True))
        | ({} if r["track"] is None else {"track_id": r["track"]})
        for r in rows
    ]


def xywh(box: tuple[float, ...]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def coco(folder: Path, rows: list[dict[str, Any]], name: Callable[[int], str]) -> tuple[str, Reading]:
    """Results as pycocotools' loadRes reads them, and the annotation file that they refer to."""
    frames = sorted({r["frame"] for r in rows})
    images = [{"id": 100 + t, "file_name": name(t), "height": SIZE[0], "width": SIZE[1]} for t in frames]
    categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    (folder / "instances.json").write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    results = [
        {"image_id": 100 + r["frame"], "category_id": 1 if r["name"] == "person" else 3, "bbox": xywh(r["box"])}
        | {"score": r["score"]}
        | ({} if r["track"] is None else {"track_id": r["track"]})
        for r in rows
    ]
    (folder / "results.json").write_text(json.dumps(results))
    return str(folder / "results.json"), Reading(coco_images=str(folder / "instances.json"))


def coco_frame_names(folder: Path, rows: list[dict[str, Any]]) -> tuple[str, Reading]:
    return coco(folder, rows, lambda t: f"clip_frame{t:04}.jpg")


def coco_folders(folder: Path, rows: list[dict[str, Any]]) -> tuple[str, Reading]:
    return coco(folder, rows, lambda t: f"/data/frames/clip/{t:05}.jpg")


def coco_pattern(folder: Path, rows: list[dict[str, Any]]) -> tuple[str, Reading]:
    uri, reading = coco(folder, rows, lambda t: f"{t + 1}-of-clip.png")
    return uri, Reading(
        coco_images=reading.coco_images, name_pattern=r"(?P<frame>\d+)-of-(?P<video>.+)\.png", first_frame=1
    )


def coco_document(folder: Path, rows: list[dict[str, Any]]) -> tuple[str, Reading]:
    """Images and annotations in one file, as CocoVID has them: the images name videos and frames."""
    uri, reading = coco(folder, rows, lambda _: "x.jpg")
    document = json.loads(Path(str(reading.coco_images)).read_text())
    document |= {"videos": [{"id": 5, "name": "clip"}], "annotations": json.loads(Path(uri).read_text())}
    document["images"] = [{**one, "video_id": 5, "frame_id": one["id"] - 100} for one in document["images"]]
    (folder / "document.json").write_text(json.dumps(document))
    return str(folder / "document.json"), Reading()


def ultralytics(row: dict[str, Any]) -> dict[str, Any]:
    """A row of Results.summary() of Ultralytics 8.4, which to_df, to_csv and to_json write."""
    box = dict(zip(("x1", "y1", "x2", "y2"), map(float, row["box"]), strict=True))
    found = {"name": row["name"], "class": row["number"], "confidence": row["score"], "box": box}
    return found if row["track"] is None else {**found, "track_id": row["track"]}


def ultralytics_json(folder: Path, rows: list[dict[str, Any]]) -> tuple[str, Reading]:
    """One to_json() a frame."""
    (folder / "json").mkdir()
    for t in {r["frame"] for r in rows}:
        text = json.dumps([ultralytics(r) for r in rows if r["frame"] == t])
        (folder / f"json/clip_frame{t:04}.json").write_text(text)
    return str(folder / "json"), Reading()


def ultralytics_csv(folder: Path, rows: list[dict[str, Any]]) -> tuple[str, Reading]:
    """One to_csv() a frame, whose boxes are Python's text of a dict."""
    (folder / "csv").mkdir()
    for t in {r["frame"] for r in rows}:
        found = [ultralytics(r) for r in rows if r["frame"] == t]
        lines = [",".join(found[0]), *(",".join(f'"{value}"' for value in each.values()) for each in found)]
        (folder / f"csv/clip_{t:06}.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "csv"), Reading()


def ultralytics_video(folder: Path, rows: list[dict[str, Any]]) -> tuple[str, Reading]:
    """The frames of a video as one list; that without a detection is empty."""
    frames = [[ultralytics(r) for r in rows if r["frame"] == t] for t in range(3)]
    (folder / "clip.json").write_text(json.dumps(frames))
    return str(folder / "clip.json"), Reading()


def yolov5_csv(folder: Path, rows: list[dict[str, Any]]) -> tuple[str, Reading]:
    """results.pandas().xyxy of YOLOv5, and a column of picture names."""
    lines = ["image,xmin,ymin,xmax,ymax,confidence,class,name" + (",track_id" if rows[0]["track"] else "")]
    for r in rows:
        values = [f"clip/{r['frame']:05}.jpg", *r["box"], r["score"], r["number"], r["name"]]
        lines.append(",".join(map(str, [*values, *([float(r["track"])] if r["track"] else [])])))
    (folder / "yolov5.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "yolov5.csv"), Reading()


def yolo_txt(folder: Path, rows: list[dict[str, Any]]) -> tuple[str, Reading]:
    """save_txt with save_conf of a video: frames from 1, and data.yaml of the training."""
    (folder / "predict/labels").mkdir(parents=True)
    (folder / "predict/data.yaml").write_text("names:\n  0: person\n  2: car\n")
    for r in rows:
        x, y, w, h = xywh(r["box"])
        shares = ((x + w / 2) / SIZE[1], (y + h / 2) / SIZE[0], w / SIZE[1], h / SIZE[0])
        line = " ".join(f"{value:g}" for value in (r["number"], *shares, r["score"]))
        with (folder / f"predict/labels/clip_{r['frame'] + 1}.txt").open("a") as file:
            file.write(line + ("" if r["track"] is None else f" {r['track']}") + "\n")
    return str(folder / "predict"), Reading()


def mot(folder: Path, rows: list[dict[str, Any]]) -> tuple[str, Reading]:
    """frame, id, left, top, width, height, confidence, class, visibility; frames from 1."""
    (folder / "clip/det").mkdir(parents=True)
    lines = [f"{r['frame'] + 1},{r['track'] or -1},{','.join(map(str, xywh(r['box'])))},{r['score']},{r['number']},1"
             for r in rows]  # fmt: skip
    (folder / "clip/det/det.txt").write_text("\n".join(lines) + "\n")
    (folder / "names.json").write_text('{"0": "person", "2": "car"}')
    return str(folder / "clip"), Reading(names=str(folder / "names.json"))


def centres(folder: Path, rows: list[dict[str, Any]]) -> tuple[str, Reading]:
    table = [{"video_id": "clip", "frame_index": r["frame"], "label": r["name"], "conf": r["score"]}
             | dict(zip(("width", "height"), xywh(r["box"])[2:], strict=True))
             | {"x_center": (r["box"][0] + r["box"][2]) / 2, "y_center": (r["box"][1] + r["box"][3]) / 2}
             | ({} if r["track"] is None else {"object_id": r["track"]}) for r in rows]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(table), folder / "centres.parquet")
    return str(folder / "centres.parquet"), Reading()


FORMS = (
    coco_frame_names, coco_folders, coco_pattern, coco_document, ultralytics_json, ultralytics_csv, ultralytics_video,
    yolov5_csv, yolo_txt, mot, centres,
)  # fmt: skip


def read(uri: str, reading: Reading | None = None, *, known: set[str] | None = None) -> tuple[pa.Table, list[str]]:
    videos = Videos(ids=None if known is None else frozenset(known), size_of=lambda _: SIZE)
    source = Source(uri, reading, videos=videos)
    found = list(source.batches())
    return pa.Table.from_batches([batch for batch, _ in found]), [str(row) for _, bad in found for row in bad]


def seen(table: pa.Table) -> pa.Table:
    """The table without looks that saw nothing."""
    return table.filter(table["box"].is_valid())


@pytest.mark.parametrize("tracks", [False, True], ids=["detector", "tracker"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_gives_the_same_detections(tmp_path: Path, form: Any, tracks: bool):
    rows = records(tracks=tracks)
    uri, reading = form(tmp_path, rows)
    pq.write_table(pa.Table.from_pylist(canonical(rows)), tmp_path / "canonical.parquet")
    expected, _ = read(str(tmp_path / "canonical.parquet"))
    found, bad = read(uri, reading)
    assert not bad
    assert (
        seen(found).sort_by([("frame_index", "ascending"), ("score", "descending")]).to_pylist() == expected.to_pylist()
    )
    assert digest_of(seen(found)) == digest_of(expected)


def test_an_identity_changes_the_digest_and_its_absence_does_not(tmp_path: Path):
    for name, tracks in (("with", True), ("without", False)):
        pq.write_table(pa.Table.from_pylist(canonical(records(tracks=tracks))), tmp_path / f"{name}.parquet")
    plain, _ = read(str(tmp_path / "without.parquet"))
    assert digest_of(plain) == digest_of(plain.drop_columns(["track_id", "fps"]))
    assert digest_of(plain) != digest_of(read(str(tmp_path / "with.parquet"))[0])


def test_pictures_without_a_detection_are_looks_that_saw_nothing(tmp_path: Path):
    uri, reading = coco_frame_names(tmp_path, records(tracks=False))
    images = Path(str(reading.coco_images))
    document = json.loads(images.read_text())
    document["images"].append({"id": 1, "file_name": "clip_frame0009.jpg"})
    images.write_text(json.dumps(document))
    found, _ = read(uri, reading)
    assert found.filter(found["box"].is_null())["frame_index"].to_pylist() == [9]
    (tmp_path / "json").mkdir()
    (tmp_path / "json/clip_frame0004.json").write_text("[]")
    assert read(str(tmp_path / "json"))[0].select(["frame_index", "box"]).to_pylist() == [
        {"frame_index": 4, "box": None}
    ]


def test_masks_stay_masks_in_every_notation(tmp_path: Path):
    square = {"x": [8.0, 8.0, 19.0, 19.0], "y": [4.0, 29.0, 29.0, 4.0]}
    ring = [8, 4, 20, 4, 20, 30, 8, 30]
    counts = [8 * 48 + 4, *([26, 22] * 11), 26, 48 * 64 - (19 * 48 + 30)]
    base = {"image_id": "clip_000000", "category_id": 1, "bbox": [8, 4, 12, 26], "score": 0.5}
    segmentations = [{"size": list(SIZE), "counts": counts}, [ring]]
    (tmp_path / "results.json").write_text(json.dumps([{**base, "segmentation": each} for each in segmentations]))
    (tmp_path / "ultra_000000.json").write_text(json.dumps([{**ultralytics(TRACKED[0]), "segments": square}]))
    shares = [
        f"{v / side:.6g}" for x, y in zip(square["x"], square["y"], strict=True) for v, side in ((x, 64), (y, 48))
    ]
    (tmp_path / "seg_1.txt").write_text(
        " ".join(["0", *shares, "0.91", "7"]) + "\n" + "0 0.5 0.5 0.6 0.6 0.6 0.5 0.3 9\n"
    )
    drawn = read(str(tmp_path / "results.json"))[0]["mask"].to_pylist()
    ultra = read(str(tmp_path / "ultra_000000.json"))[0]["mask"].to_pylist()
    yolo = read(str(tmp_path / "seg_1.txt"))[0]
    assert len({each["counts"] for each in (*drawn, *ultra, yolo["mask"][0].as_py())}) == 1
    assert rle.area(drawn[0]["counts"]) == 12 * 26
    assert rle.bbox(drawn[0]["counts"], SIZE) == (8, 4, 20, 30)
    assert (yolo["track_id"][0].as_py(), round(yolo["score"][0].as_py(), 2)) == ("7", 0.91)
    (tmp_path / "again.json").write_text(json.dumps([{**base, "segmentation": drawn[0]}]))
    assert read(str(tmp_path / "again.json"))[0]["mask"].to_pylist() == drawn[:1]


def test_classes_are_renamed_and_merged_and_unknown_ones_are_named(tmp_path: Path):
    uri, reading = coco_frame_names(tmp_path, records(tracks=False))
    mapped = Reading(coco_images=reading.coco_images, map=(("person", "agent"), ("car", "agent")))
    assert set(read(uri, mapped)[0]["category"].to_pylist()) == {"agent"}
    with pytest.raises(UsageError, match="no detection has the class perso; the classes are car, person"):
        Reading(map=(("perso", "x"),)).check_mapped({"car", "person"})


@pytest.mark.parametrize(
    ("name", "video", "frame"),
    [
        ("VIDEO_frame0000.jpg", "VIDEO", 0),
        ("VIDEO/00000.jpg", "VIDEO", 0),
        ("VIDEO_000123.png", "VIDEO", 123),
        ("C:\\data\\VIDEO\\frame_7.png", "VIDEO", 7),
        ("/data/VIDEO/img1/000012.jpg", "VIDEO", 12),
        ("runs/detect/predict/labels/a_b_3.txt", "a_b", 3),
        ("s3://bucket/x/VIDEO-frame-12.jpeg", "VIDEO", 12),
        ("VIDEO_000123", "VIDEO", 123),
    ],
)
def test_names_of_pictures_tell_video_and_frame(name: str, video: str, frame: int):
    assert PictureNames(None).frame(name) == (video, frame)


def test_names_of_videos_find_the_ids_of_a_manifest():
    ids = VideoIds(["a.mp4", "deep/b.mov", "c", "one/d.mp4", "two/d.mp4"])
    assert [ids.of(name) for name in ("a", "b", "c", "x")] == ["a.mp4", "deep/b.mov", "c", "x"]
    with pytest.raises(ManifestError, match=r"'d' fits the videos 'one/d.mp4', 'two/d.mp4'"):
        ids.of("d")


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


HEAD = "video_id,frame_index"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", f"{HEAD},x,y,w,h\na,0,1,2,3,4\n", "x, y, w, h may be a corner or a centre"),
        ("t.csv", f"{HEAD},x1,y1,x2,y2,xmin,ymin,xmax,ymax\na,0,1,2,3,4,1,2,3,4\n", "may both be the box"),
        ("t.csv", f"{HEAD},x1,y1,x2,y2,label,name\na,0,1,2,3,4,car,b\n", "name and label may both be"),
        ("t.csv", f"{HEAD},x1,y1,x2,y2,conf,confidence\na,0,1,2,3,4,1,1\n", "confidence and conf may both be"),
        ("t.csv", f"{HEAD},x1,y1,x2,y2,track_id,object_id\na,0,1,2,3,4,1,2\n", "track_id and object_id may both be"),
        ("t.csv", "image,file,x1,y1,x2,y2\na_1.png,b_1.png,1,2,3,4\n", "image and file may both name the pictures"),
        ("t.csv", "image,x1,y1,x2,y2\nphoto.png,1,2,3,4\n", "'photo.png' is not named VIDEO_frame0000.jpg"),
        ("t.csv", f"{HEAD},x1,y1,x2,y2\na,0,1,2,3,left\n", "row 0, video_id 'a', column y2, value 'left'"),
        ("t.csv", f"{HEAD},box\na,0,left\n", "row 0, column box, value 'left': must be a mapping"),
        ("d.json", '{"results": []}', r"it holds \['results'\], not detections; allowed are a table"),
        ("d.json", "[1, 2", "is not JSON"),
        ("d.json", '{"images": [{"id": 1}], "annotations": []}', r"images\[0\]: 'file_name' is missing"),
        ("labels/a_1.txt", "0 .5 .5 .1 .1 1\n", "may be a confidence or a track id"),
        ("t.csv", "", "it holds no detections, and is not of one picture"),
        ("d.yaml", "names: [a]", "holds no files of detections"),
    ],
)  # fmt: skip
def test_inputs_that_are_unclear_are_refused_by_name(tmp_path: Path, name: str, text: str, message: str):
    uri = write(tmp_path, name, text)
    if name.startswith("labels"):
        assert message in read(uri)[1][0]
        return
    with pytest.raises(ManifestError, match=message):
        read(uri)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "r.json",
            [{"image_id": "a_1", "category_id": 1, "bbox": [1, 2, 3]}],
            "row 0, video_id 'a', column bbox",
        ),
        (
            "r.json",
            [{"image_id": 4, "bbox": [1, 2, 3, 4]}],
            "value 4: a number tells no video and frame; --coco",
        ),
        ("r.json", [{"image_id": "a_1", "bbox": [1, 2, 3, 4], "score": "high"}], "column score, value 'high'"),
        ("r.json", [{"image_id": "a_1", "bbox": [1, 2, 0, 4]}], "x_min must be less than x_max"),
        ("r.json", [{"image_id": "a_1", "segmentation": {"size": [4, 4], "counts": [3]}}], "do not cover its 4 x 4"),
        ("m.txt", "1,2,3\n", "row 0, video_id 'm', column line, value '1,2,3': 3 numbers; needed are frame, id"),
        ("m.txt", "0,1,2,3,4,5\n", "the frame is 0; allowed are whole numbers from 1"),
        ("y/labels/a_0.txt", "car .5 .5 .1 .1\n", "a_0.txt: row 0, video_id 'a', column line"),
        ("y/labels/a_0.txt", "1 64 20 10 10\n", "shares of the frame, between 0 and 1"),
    ],
)
def test_rows_that_cannot_be_read_are_named_and_the_rest_is_kept(tmp_path: Path, name: str, text: Any, message: str):
    uri = write(tmp_path, name, text if isinstance(text, str) else json.dumps(text))
    found, bad = read(str(tmp_path / "y") if name.startswith("y/") else uri)
    assert len(bad) == 1
    assert message in bad[0]
    assert not len(found)


def test_label_files_count_from_one_only_without_leading_zeros(tmp_path: Path):
    write(tmp_path, "v/labels/clip_1.txt", "0 .5 .5 .1 .1\n")
    write(tmp_path, "i/labels/clip_000001.txt", "0 .5 .5 .1 .1\n")
    assert read(str(tmp_path / "v"))[0]["frame_index"].to_pylist() == [0]
    assert read(str(tmp_path / "i"))[0]["frame_index"].to_pylist() == [1]
    assert read(str(tmp_path / "v"), Reading(first_frame=0))[0]["frame_index"].to_pylist() == [1]


def test_an_empty_file_of_a_sequence_is_a_look_that_saw_nothing(tmp_path: Path):
    write(tmp_path, "seq/a.txt", "3,-1,2,3,4,5,1\n")
    write(tmp_path, "seq/b.txt", "")
    found, bad = read(str(tmp_path / "seq"))
    assert [(row["video_id"], row["frame_index"], row["box"] is None) for row in found.to_pylist()] == [
        ("a", 2, False),
        ("b", 0, True),
    ]
    assert not bad


def test_two_files_of_one_sequence_are_refused(tmp_path: Path):
    for name in ("det", "gt"):
        write(tmp_path, f"seq/{name}/{name}.txt", "1,-1,2,3,4,5,1\n")
    with pytest.raises(ManifestError, match="several files are of the video 'seq'"):
        read(str(tmp_path / "seq"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name_pattern": "("}, "no regular expression"),
        ({"name_pattern": r"(?P<video>.+)"}, "named groups video and frame"),
        ({"first_frame": -1}, "--first-frame is -1"),
        ({"map": (("a", "b"), ("a", "c"))}, "--map gives 'a' two categories"),
    ],
)
def test_options_that_cannot_be_used_are_refused(given: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        Reading(**given)


def test_files_in_a_bucket_are_read_alike(tmp_path: Path, s3: Any):
    store = Store(f"{s3.uri}/runs")
    uri, _ = yolo_txt(tmp_path, records(tracks=True))
    for path in Path(uri).rglob("*.*"):
        store.put(path.relative_to(uri).as_posix(), path.read_bytes())
    assert read(f"{s3.uri}/runs")[0].to_pylist() == read(uri)[0].to_pylist()
    with pytest.raises(ManifestError, match=r"none holds no files of detections; allowed are a table"):
        read(f"{s3.uri}/none")
    with pytest.raises(ManifestError, match=r"none\.json: it does not exist"):
        read(f"{s3.uri}/none.json")


def test_what_was_assumed_is_noted(tmp_path: Path):
    def notes(name: str, text: str) -> str:
        source = Source(write(tmp_path, name, text))
        list(source.batches())
        return "; ".join(source.notes)

    assert "all boxes lie between 0 and 1" in notes("t.csv", f"{HEAD},x1,y1,x2,y2\na,0,.1,.2,.3,.4\n")
    assert "give --first-frame 1" in notes("p.csv", "image,x1,y1,x2,y2\na_0001.png,1,2,3,4\n")
    assert "--names FILE gives names" in notes("c.csv", f"{HEAD},x1,y1,x2,y2,class\na,0,1,2,3,4,7\n")
    assert notes("n.csv", f"{HEAD},x1,y1,x2,y2,class\na,0,1,2,3,4,car\n") == ""


ODD = [None, True, -1, 1e300, 10**30, float("nan"), "", "x", "7", [], {}, [1], [[1, 2]], {"a": 1}, "\x00"]


def mutated(value: Any, random: Random) -> Any:
    """The document with one value replaced by an odd one."""
    if isinstance(value, list | dict) and value and random.random() < 0.9:
        key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copied = dict(value) if isinstance(value, dict) else list(value)
        copied[key] = mutated(copied[key], random)
        return copied
    return random.choice(ODD)


@pytest.mark.parametrize("form", [coco_document, coco_frame_names, ultralytics_json, ultralytics_video])
def test_documents_with_odd_values_never_raise_other_errors(tmp_path: Path, form: Any):
    uri, reading = form(tmp_path, records(tracks=True))
    paths = [Path(uri)] if Path(uri).is_file() else sorted(Path(uri).iterdir())
    paths += [Path(reading.coco_images)] if reading.coco_images else []
    whole = [json.loads(path.read_text()) for path in paths]
    random = Random(7)
    for _ in range(100):
        at = random.randrange(len(paths))
        paths[at].write_text(json.dumps(mutated(whole[at], random)))
        with contextlib.suppress(CorpusError):
            read(uri, reading)
        paths[at].write_text(json.dumps(whole[at]))
