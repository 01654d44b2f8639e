"""Labels from detections through a whole run: tables, corrections, and what is labelled again."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import label
from pipeline.runs.corrections import apply_fixes, read_corrections, read_fixes, remove_corrections
from pipeline.runs.prepare import prepare
from pipeline.storage import Store
from pipeline.storage.ownership import is_ours
from pipeline.tables.forget import forget
from pipeline.tables.query import open_labels
from tests.clips import write_clip
from tests.detection.test_labelling import evidence, found, red

NOW = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)


@pytest.fixture
def corpus(tmp_path, _ray_over):
    """Two clips whose objects come from one table, labelled and published."""
    import ray

    from pipeline.workers.cluster import start_local

    if not ray.is_initialized():
        start_local(num_cpus=2)
    clips = {name: write_clip(tmp_path / f"{name}.mp4", frames=24, seed=n) for n, name in enumerate("vw")}
    pq.write_table(
        pa.table({"video_id": list(clips), "video_uri": list(clips.values())}), tmp_path / "manifest.parquet"
    )
    write_detections(tmp_path)
    assert run(tmp_path) == 0
    return tmp_path


def write_detections(folder, *, w_score=0.9):
    """As a table, and as COCO results with the images that they refer to."""
    rows = [*evidence(), *({**found(t, red(t), "red", w_score), "video_id": "w"} for t in (0, 8, 16))]
    pq.write_table(pa.Table.from_pylist(rows), folder / "detections.parquet")
    names = sorted({f"{each['video_id']}_frame{each['frame_index']:04}.jpg" for each in rows})
    classes = sorted({each["category"] for each in rows})
    images = {"images": [{"id": n, "file_name": name} for n, name in enumerate(names)]}
    images |= {"categories": [{"id": n, "name": name} for n, name in enumerate(classes)]}
    results = []
    for each in rows:
        x, y, right, below = each["box"].values()
        image = names.index(f"{each['video_id']}_frame{each['frame_index']:04}.jpg")
        results.append({"image_id": image, "bbox": [x, y, right - x, below - y], "score": each["score"]})
        results[-1]["category_id"] = classes.index(each["category"])
    (folder / "images.json").write_text(json.dumps(images))
    (folder / "results.json").write_text(json.dumps(results))


def options(folder, *more, coco=False):
    given = ["--manifest", folder / "manifest.parquet", "--detections", folder / "detections.parquet"]
    if coco:
        given[-1:] = [folder / "results.json", "--coco-images", folder / "images.json"]
    given += ["--output", folder / "out", "--model", "embedded", "--actors", "1", *more]
    return [str(each) for each in given]


def run(folder, *more, coco=False):
    return label.main(options(folder, *more, coco=coco))


def plan(folder, *, coco=False):
    return prepare(label.read_options(options(folder, coco=coco))[0]).plan


def masks(folder, video_id, object_id):
    with open_labels(folder / "out") as labels:
        which = f"video_id = '{video_id}' AND object_id = {object_id}"
        return labels.sql(f"SELECT frame_index, counts FROM masks WHERE {which} ORDER BY frame_index").fetchall()


def test_a_run_labels_from_detections_and_corrections_keep_what_was_decided(corpus):
    with open_labels(corpus / "out") as labels:
        found_objects = labels.sql("SELECT video_id, object_id, category FROM masklets ORDER BY ALL").fetchall()
    assert found_objects == [("v", 1, "red"), ("v", 2, "green"), ("w", 1, "red")]
    assert plan(corpus).reasons() == plan(corpus, coco=True).reasons() == {}
    before = masks(corpus, "v", 1)

    with open_labels(corpus / "out") as labels:
        [(prompts,)] = labels.sql("SELECT prompts FROM videos WHERE video_id = 'v'").fetchall()
    wanted = [{k: v for k, v in each.items() if k != "why"} for each in json.loads(prompts)]
    off = {"object_id": 2, "frame_index": 9, "points": [{"x": 70.0, "y": 45.0, "label": 1}], "correct": True}
    (corpus / "fixes.jsonl").write_text(json.dumps({"video_id": "v", "prompts": [*wanted, off]}) + "\n")
    store = Store(corpus / "out")
    applied = apply_fixes(store, read_fixes(str(corpus / "fixes.jsonl")), who="ann@desk", now=NOW)
    assert len(applied.corrections) == 1
    assert plan(corpus).count("pending") == 1
    assert run(corpus) == 0
    assert masks(corpus, "v", 1) == before  # not only alike: the object that was not corrected keeps its masks
    assert plan(corpus).reasons() == {}

    write_detections(corpus, w_score=0.7)  # of the other video: the corrected one is not concerned
    assert plan(corpus).reasons() == {"detections changed": 1}
    remove_corrections(store, read_corrections(store).in_force("v"), who="ann@desk", now=NOW)
    assert plan(corpus).count("pending") == 1  # its labels from detections are committed already
    assert run(corpus, coco=True) == 0
    assert plan(corpus).count("pending") == 0
    [table] = [entry.path for entry in store.list("runs") if entry.path.endswith("/detections.parquet")]
    assert is_ours(table)
    assert set(pq.read_table(corpus / "out" / table)["video_id"].to_pylist()) == {"w"}
    forget(store, ["v", "w"])
    assert pq.read_metadata(corpus / "out" / table).num_rows == 0
    assert masks(corpus, "v", 1) == []
