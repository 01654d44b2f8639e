"""Duplicates: the labels of one video committed under the id and key of another, without tracking."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.labels import read_part
from pipeline.manifest import Video, read_manifest
from pipeline.storage import ChangedError, MissingError, Store, part_path
from pipeline.workers.copying import copy_labels
from pipeline.workers.labeler import Labeler
from tests.clips import red, write_clip, write_manifest
from tests.labelling import settings, task_of


def video(folder: Path, video_id: str, uri: str, category: str) -> Video:
    rows = [{"video_id": video_id, "video_uri": uri, "prompts": [red(category=category)]}]
    return read_manifest(write_manifest(folder / "manifest.parquet", rows)).video(0)


def test_a_duplicate_is_committed_under_its_own_name(tmp_path: Path) -> None:
    clip, same = (write_clip(tmp_path / name, frames=4) for name in ("a.mp4", "b.mp4"))
    store, given = Store(tmp_path / "out"), settings(tmp_path / "out")
    labeler = Labeler(given)
    labeler.label(task_of(video(tmp_path, "first", clip, "red"), label_key="k1"))
    task = replace(task_of(video(tmp_path, "copy", same, "car"), label_key="k2"), copy_of=("first", "k1"))
    outcome = labeler.label(task)
    assert (outcome.video_id, outcome.frames, outcome.was_there) == ("copy", 0, False)
    first, copy = (read_part(store.read(part_path(*names))) for names in (("first", "k1"), ("copy", "k2")))
    assert copy.masks.drop_columns(["video_id", "label_key"]) == first.masks.drop_columns(["video_id", "label_key"])
    for table in (copy.masks, copy.masklets, copy.video):
        assert set(table["video_id"].to_pylist()) == {"copy"}
        assert set(table["label_key"].to_pylist()) == {"k2"}
    assert copy.masklets["category"].to_pylist() == ["car"]
    row = copy.video.to_pylist()[0]
    assert (row["uri"], row["duplicate_of"], row["frames"], row["model_s"]) == (same, "first", 4, 0.0)
    assert '"car"' in row["prompts"]
    assert labeler.label(task).was_there
    assert first.video["duplicate_of"].null_count == 1

    # Nothing is copied of a part that is gone or damaged, or for a source that has changed.
    gone = replace(task, label_key="k3", copy_of=("first", "other"))
    assert copy_labels(store, gone, given) is None
    store.put(part_path("first", "other"), b"PAR1 damaged")
    assert copy_labels(store, gone, given) is None
    with pytest.raises(ChangedError, match=r"b\.mp4 was replaced since it was planned"):
        copy_labels(store, replace(task, label_key="k3", version="1-2"), given)
    Path(same).unlink()
    with pytest.raises(MissingError, match=r"b\.mp4: it is missing"):
        copy_labels(store, replace(task, label_key="k3"), given)
    assert not store.exists(part_path("copy", "k3"))
