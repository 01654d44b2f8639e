"""The demo's corpus holds what it promises, and making it twice changes nothing."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.demo import corpus
from pipeline.demo.renderer import EVAL_SEEDS, render
from pipeline.manifest import read_manifest
from pipeline.masks import rle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("corpus")
    corpus.make_corpus(made)
    return made


def prompts(folder: Path) -> list[dict]:
    rows = pq.read_table(folder / "manifest.parquet").to_pylist()
    return [prompt | {"video_id": row["video_id"]} for row in rows for prompt in row["prompts"]]


def test_making_it_again_touches_no_file(folder):
    def state():
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}

    before = state()
    corpus.make_corpus(folder)
    assert state() == before
    assert len([path for path in before if path.suffix == ".mp4"]) >= 8


def test_the_same_frames_give_the_same_bytes(tmp_path):
    frames = render(EVAL_SEEDS, frames=12, height=64, width=96, split="eval").frames
    for name in "ab":
        corpus.write_video(tmp_path / f"{name}.mp4", frames, Fraction(24))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_the_manifest_is_valid(folder):
    manifest = read_manifest(str(folder / "manifest.parquet"))
    assert len(manifest) >= 8


def test_every_kind_of_prompt_is_there(folder):
    given = prompts(folder)
    kinds = {tuple(name for name in ("points", "box", "mask") if prompt[name]) for prompt in given}
    assert kinds == {("points",), ("box",), ("points", "box"), ("mask",)}
    assert {point["label"] for prompt in given for point in prompt["points"] or ()} == {0, 1}
    assert any(prompt["time_s"] is not None for prompt in given)
    assert all(prompt["category"] for prompt in given)
    by_object: dict[tuple[str, int], list[bool]] = {}
    for prompt in given:
        later = bool(prompt["frame_index"] or (prompt["time_s"] or 0) > 0.5)
        by_object.setdefault((prompt["video_id"], prompt["object_id"]), []).append(later)
    assert [False, True] in by_object.values()  # a refinement
    assert [True] in by_object.values()  # an object prompted late
    videos = [video for video, _ in by_object]
    assert max(videos.count(video) for video in videos) >= 3


def test_videos_match_the_truth(folder):
    truth = pq.read_table(folder / "truth.parquet").to_pylist()
    for row in pq.read_table(folder / "manifest.parquet").to_pylist():
        with av.open(row["video_uri"]) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        video = next(video for video in corpus._VIDEOS if video.name == row["video_id"])
        size = {"frames": video.frames, "height": video.height, "width": video.width}
        middle = video.frames // 2
        clip = render(EVAL_SEEDS + video.seed, split="eval", times=[middle], **size)
        assert len(frames) == row["num_frames"] == video.frames
        assert np.abs(frames[middle].astype(int) - clip.frames[0]).mean() < 8
        own = [r for r in truth if r["video_id"] == row["video_id"] and r["frame_index"] == middle]
        assert len(own) == len(clip.objects)
        for r in own:
            mask = rle.decode(r["counts"], [r["height"], r["width"]])
            assert (mask == clip.mask(r["object_id"])[0]).all()
            assert r["area"] == mask.sum()


def test_held_out_clips_are_prompted_once_an_object_in_three_ways(tmp_path):
    manifests = corpus.held_out_corpus(tmp_path, clips=2, frames=3)
    assert list(manifests) == ["click", "box", "mask"]
    for kind, path in manifests.items():
        rows = pq.read_table(path).to_pylist()
        assert rows
        for row in rows:
            assert Path(row["video_uri"]).exists()
            column = {"click": "points", "box": "box", "mask": "mask"}[kind]
            assert all(prompt["frame_index"] == 0 and prompt[column] for prompt in row["prompts"])
