"""What a plan takes for labelled, while others publish."""

import time

import pyarrow as pa
import pytest

from pipeline.errors import UsageError
from pipeline.runs.config import RunConfig
from pipeline.runs.prepare import prepare
from pipeline.storage import Store
from pipeline.storage.paths import PARTS
from pipeline.tables import expire_parts, publish
from tests.clips import green, write_clip, write_manifest
from tests.tables.corpora import commit, want


class Published(Store):
    """Its parts are published, and expire, while they are listed: just before, or just after."""

    when = "before"

    def map_shards(self, prefix, read):
        if prefix == PARTS and self.when == "before":
            publish_and_expire(self.uri)
        yield from super().map_shards(prefix, read)
        if prefix == PARTS and self.when == "after":
            publish_and_expire(self.uri)


def publish_and_expire(uri):
    store = Store(uri)
    publish(store)
    expire_parts(store, older_than_s=0, now=time.time() + 10)
    assert list(store.list(PARTS)) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_video_published_while_the_run_is_planned_is_labelled(tmp_path, monkeypatch, when):
    rows = [{"video_id": "v", "video_uri": write_clip(tmp_path / "v.mp4", frames=3), "prompts": [green(1)]}]
    manifest = write_manifest(tmp_path / "manifest.parquet", rows)
    config = RunConfig(manifest=manifest, output=str(tmp_path / "out"), model="embedded")
    key = prepare(config).plan.table["label_key"][0].as_py()
    store = Store(config.output)
    commit(store, "v", key)
    want(store, "1", {"v": key})
    monkeypatch.setattr(Published, "when", when)
    monkeypatch.setattr("pipeline.runs.prepare.Store", Published)
    assert prepare(config).plan.table["state"].to_pylist() == ["labelled"]


def test_a_table_in_place_of_a_path_is_refused_by_its_type():
    with pytest.raises(UsageError, match=r"manifest has the type Table; allowed: a path or URI as str; give label_cor"):
        RunConfig(manifest=pa.table({}), output="out", model="embedded")
