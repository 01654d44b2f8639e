"""A correction of a labelled corpus tracks the frames that it changes: real Ray, workers killed in the middle."""

import json
import shutil
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.labels.key import Parameters
from pipeline.runs.config import RunConfig
from pipeline.runs.corrections import apply_fixes, read_fixes
from pipeline.runs.prepare import prepare
from pipeline.runs.run import label_corpus
from pipeline.runs.summary import plan_lines
from pipeline.storage import Store, video_dir
from pipeline.tables.doctor import examine
from pipeline.tables.forget import forget
from pipeline.tables.query import open_labels
from pipeline.workers.task import LabelerSettings
from tests.clips import green, point, red, write_clip, write_manifest

FRAMES = 60
FIX = {"object_id": 1, "frame_index": 37, "points": [point(50, 19, 0)], "correct": True}


def load_dying(starts: Path, settings: LabelerSettings) -> Any:
    """A worker's labeler, whose first process is killed on its seventh frame; notes the first frame of each process."""
    from pipeline.workers.labeler import Labeler
    from tests.workers.simulated import die

    frames: list[int] = []

    def strike(frame: int) -> None:
        frames.append(frame)
        if len(frames) == 1:
            (starts / str(frame)).touch()
        if len(frames) == 7 and len(list(starts.iterdir())) == 1:
            die("kill")

    return Labeler(settings, on_frame=strike)


def config(folder: Path, output: str, **given: Any) -> RunConfig:
    usual = {"model": "embedded", "actors": 1, "checkpoint_every_s": 1e-6}
    return RunConfig(manifest=str(folder / "manifest.parquet"), output=str(folder / output), **usual | given)


def tables(output: Path) -> list[Any]:
    with open_labels(output) as labels:
        return [labels.sql(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in ("masks", "masklets")]


@pytest.mark.usefixtures("local_ray")
def test_a_correction_tracks_what_it_changes_and_equals_a_full_relabel_across_kills(tmp_path: Path) -> None:
    prompts = [red(), green(4)]
    rows = [
        {"video_id": name, "video_uri": write_clip(tmp_path / f"{name}.mp4", frames=FRAMES, seed=seed),
         "prompts": prompts, "num_frames": FRAMES} for seed, name in enumerate(("cat", "dog"))
    ]  # fmt: skip
    write_manifest(tmp_path / "manifest.parquet", rows)
    kept = config(tmp_path, "out", keep_states=16)
    (said,) = (line for line in plan_lines(prepare(kept)) if "--keep-states" in line)
    assert (
        said
        == "--keep-states 16: about 92.3 kB a state and object with one prompt, up to 2.8 MB for the pending videos"
    )
    assert label_corpus(kept).labelled == 2
    (tmp_path / "fixes.jsonl").write_text(json.dumps({"video_id": "cat", "prompts": [*prompts, FIX]}))
    store = Store(tmp_path / "out")
    now = datetime(2026, 11, 30, tzinfo=UTC)
    assert len(apply_fixes(store, read_fixes(str(tmp_path / "fixes.jsonl")), who="ann", now=now).corrections) == 1
    shutil.copytree(tmp_path / "out", tmp_path / "full")
    shutil.rmtree(tmp_path / "full" / "states")

    lines = {name: "\n".join(plan_lines(prepare(config(tmp_path, name)))) for name in ("out", "full")}
    assert "1 labelled video has changed prompts: masks change on about 23 of 60 frames; " in lines["out"]
    assert "are tracked, 1 video from a kept state" in lines["out"]
    assert "60 are tracked, because no states are kept (see --keep-states)" in lines["full"]

    starts = tmp_path / "starts"
    starts.mkdir()
    report = label_corpus(kept, load_labeler=partial(load_dying, starts))
    assert (report.labelled, sum(report.deaths.values())) == (1, 1)
    first, *later = sorted(int(path.name) for path in starts.iterdir())
    with open_labels(tmp_path / "out") as labels:
        found = dict(labels.sql("SELECT video_id, relabelled_from FROM videos").fetchall())
    assert found["dog"] is None
    assert 20 < found["cat"] < 37
    assert first == found["cat"], "the first worker continued from a state"
    assert len(later) == 1, "the second worker continued from the checkpoint of the first"
    report = label_corpus(config(tmp_path, "full"))
    assert report.frames == FRAMES
    assert tables(tmp_path / "out") == tables(tmp_path / "full")

    assert examine(store) == []
    forget(store, ["cat"])
    assert not store.is_folder(f"states/{video_dir('cat')}")
    assert store.is_folder(f"states/{video_dir('dog')}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"keep_states": 1}, "allowed: 2 to 1000"),
        ({"keep_states": 8, "parameters": Parameters(direction="both")}, "none beside --direction backward or both"),
        ({"keep_states": 8, "parameters": Parameters(retire_after_s=5.0)}, "or --retire-after"),
    ],
)
def test_states_that_no_correction_could_use_are_refused(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--keep-states is .*{said}"):
        config(tmp_path, "out", **given)
