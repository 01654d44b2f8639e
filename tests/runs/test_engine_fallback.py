"""A run on workers whose transformers computes something else than the fast engine."""

import json

import numpy as np
import pytest

from pipeline.errors import CorpusError
from pipeline.manifest import read_manifest
from pipeline.masks import rle
from pipeline.runs.config import RunConfig
from pipeline.runs.run import label_corpus
from pipeline.tables.query import open_labels
from pipeline.tracking.engines import choose_stepper
from pipeline.tracking.model import load
from pipeline.tracking.verdicts import Verdicts
from pipeline.workers.loading import load_labeler
from pipeline.workers.prompts import resolve_prompts
from tests.clips import HEIGHT, WIDTH, point, write_clip, write_manifest
from tests.runs.test_exactness import decode
from tests.tracking.patched import patched, patched_module
from tests.tracking.reference import rows as reference_rows

CHANGE = {"mask_for_mem = torch.sigmoid(pred_masks_high_res)": "mask_for_mem = torch.sigmoid(2 * pred_masks_high_res)"}


def load_on_changed_transformers(settings):
    """A worker's labeler; in its process, transformers encodes memories in another way, and no earlier check counts."""
    from transformers.models.sam2_video import modeling_sam2_video

    choose_stepper.__kwdefaults__["verdicts"] = Verdicts(None)
    modeling_sam2_video.Sam2VideoModel._encode_new_memory = patched_module(CHANGE).Sam2VideoModel._encode_new_memory
    return load_labeler(settings)


@pytest.mark.usefixtures("local_ray")
def test_a_run_on_a_changed_transformers_gives_its_masks_and_says_so(tmp_path):
    path, prompts = tmp_path / "v.mp4", [{"object_id": 1, "frame_index": 0, "points": [point(40, 30)]}]
    write_clip(path, frames=4, seed=4)
    manifest = write_manifest(tmp_path / "m.parquet", [{"video_id": "v", "video_uri": str(path), "prompts": prompts}])
    config = RunConfig(manifest=manifest, output=str(tmp_path / "out"), model="embedded", actors=1)
    report = label_corpus(config, load_labeler=load_on_changed_transformers)
    assert report.exit_code == 0
    (note,) = report.notes
    assert note.startswith(
        "warning of 1 workers: The fast engine does not give transformers' results for model embedded"
    )
    record = json.loads((tmp_path / "out" / "runs" / report.run_id / "progress.json").read_text())
    assert list(record["warnings"].values()) == [1]
    with open_labels(tmp_path / "out") as labels:
        assert labels.sql("SELECT engine FROM videos").fetchall() == [("reference",)]
        found = labels.sql("SELECT frame_index, counts, area FROM masks ORDER BY 1").fetchall()
    model, video = patched(load("embedded", device="cpu"), CHANGE), decode(path)
    given = read_manifest(manifest).video(0).prompts
    objects = resolve_prompts(given, height=HEIGHT, width=WIDTH, index_at=lambda times: [0] * len(times))
    expected = reference_rows(model, video, objects, "forward")
    assert len(found) == 4
    for frame, counts, area in found:
        assert area > 0
        assert np.array_equal(rle.decode(counts, (HEIGHT, WIDTH)), expected[1, frame].mask)

    fails = RunConfig(manifest=manifest, output=str(tmp_path / "other"), model="embedded", actors=1, on_drift="fail")
    with pytest.raises(CorpusError, match=r"workers cannot start: .*memory of tracking differs"):
        label_corpus(fails, load_labeler=load_on_changed_transformers)
