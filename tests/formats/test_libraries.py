"""Formats that other libraries write. FiftyOne's needs a database, so a stand-in takes its place here."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.formats.library import write_with_library
from pipeline.formats.registry import LIBRARY_FORMATS
from pipeline.formats.selection import Selection
from pipeline.formats.split import Splits


def write(name: str, selection: Selection, to: str, *, splits: Splits) -> int:
    return write_with_library(LIBRARY_FORMATS[name], selection, to, splits=splits)


class Record(dict):
    """A sample, frame, detection or list of them: fields by name."""

    def __init__(self, **fields) -> None:
        super().__init__(fields)
        self.frames: dict[int, Record] = {}


class Dataset:
    made: dict[str, "Dataset"] = {}  # noqa: RUF012 - as fiftyone keeps them

    def __init__(self, name: str, *, persistent: bool) -> None:
        assert persistent
        self.samples: list[Record] = []
        self.made[name] = self

    def __len__(self) -> int:
        return len(self.samples)

    def has_sample_field(self, name: str) -> bool:
        return any(name in sample for sample in self.samples)

    def values(self, name: str) -> list[object]:
        return [sample[name] for sample in self.samples]

    def add_sample(self, sample: Record) -> None:
        self.samples.append(sample)


@pytest.fixture
def fiftyone(monkeypatch: pytest.MonkeyPatch) -> type[Dataset]:
    module = types.ModuleType("fiftyone")
    module.__dict__.update(dict.fromkeys(("Sample", "Frame", "Detection", "Detections"), Record), Dataset=Dataset)
    module.__dict__.update(dataset_exists=Dataset.made.__contains__, load_dataset=Dataset.made.__getitem__)
    monkeypatch.setitem(sys.modules, "fiftyone", module)
    Dataset.made.clear()
    return Dataset


def test_fiftyone(labels, fiftyone) -> None:
    splits = Splits.parse(["val=0.4"])
    assert write("fiftyone", labels.select(), "corpus", splits=splits) == labels.masks.num_rows
    samples = fiftyone.made["corpus"].samples
    assert [sample["video_id"] for sample in samples] == sorted(set(labels.masks.column("video_id").to_pylist()))
    assert all(sample["tags"] == [splits.of(sample["video_id"])] for sample in samples)
    sample = next(sample for sample in samples if sample["video_id"] == "clip 1")
    assert sorted(sample.frames) == list(range(1, 10))
    shown = {one["index"]: one for one in sample.frames[1]["objects"]["detections"]}
    row = next(row for row in labels.masks.to_pylist() if (row["video_id"], row["object_id"]) == ("clip 1", 1))
    assert shown[1]["label"] == "dog"
    assert shown[1]["mask"].sum() == row["area"]
    box = [
        row["x_min"] / 128,
        row["y_min"] / 72,
        (row["x_max"] - row["x_min"]) / 128,
        (row["y_max"] - row["y_min"]) / 72,
    ]
    assert shown[1]["bounding_box"] == pytest.approx(box)
    assert {one["index"] for one in sample.frames[4]["objects"]["detections"]} == {0, 1}


def test_fiftyone_continues_a_dataset(labels, fiftyone) -> None:
    write_with_library(
        LIBRARY_FORMATS["fiftyone"], labels.select(where="video_id < 'clip6'"), "corpus", splits=Splits()
    )
    before = len(fiftyone.made["corpus"].samples)
    write("fiftyone", labels.select(), "corpus", splits=Splits())
    assert 0 < before < len(fiftyone.made["corpus"].samples) == 8


def test_lance(labels, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    target = str(tmp_path / "masks.lance")
    assert write("lance", labels.select(), target, splits=Splits.parse(["val=0.4"])) == labels.masks.num_rows
    table = lance.dataset(target).to_table()
    assert set(np.unique(table.column("split"))) == {"train", "val"}
    assert sorted(table.column("counts").to_pylist()) == sorted(labels.masks.column("counts").to_pylist())


def test_a_missing_library_is_named(labels, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, package in (("lance", "pylance"), ("fiftyone", "fiftyone")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UsageError, match=f"needs {package}: pip install {package}"):
            write(name, labels.select(), "somewhere", splits=Splits())
