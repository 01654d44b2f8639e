"""jobs.duplicates: pairs of videos that look alike, by their key frames."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import duplicates
from pipeline.demo.corpus import write_video
from tests.clips import red, write_manifest

pytest.importorskip("imagehash")


def picture(seed: int) -> np.ndarray:
    """Smooth shapes in grey, (96, 128, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8), np.uint8)
    grey = np.asarray(Image.fromarray(coarse).resize((128, 96), Image.Resampling.BICUBIC))
    return np.repeat(grey[..., None], 3, axis=2)


def clip(path: Path, seeds: list[int], *, size: tuple[int, int] | None = None) -> str:
    """Twelve frames of each picture."""
    pictures = [picture(seed) for seed in seeds]
    if size:
        pictures = [np.asarray(Image.fromarray(each).resize(size)) for each in pictures]
    write_video(path, np.stack([each for each in pictures for _ in range(12)]), Fraction(12))
    return str(path)


def test_a_smaller_copy_is_listed_and_other_videos_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uris = {
        "first": clip(tmp_path / "first.mp4", [1, 2, 3]),
        "small": clip(tmp_path / "small.mp4", [1, 2, 3], size=(96, 72)),
        "other": clip(tmp_path / "other.mp4", [7, 8, 9]),
        "missing": str(tmp_path / "missing.mp4"),
    }
    rows = [{"video_id": name, "video_uri": uri, "prompts": [red()]} for name, uri in uris.items()]
    blank = tmp_path / "blank.mp4"
    write_video(blank, np.full((4, 96, 128, 3), 128, np.uint8), Fraction(12))
    rows += [{"video_id": f"blank{n}", "video_uri": str(blank), "prompts": [red()]} for n in range(2)]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    assert duplicates.main([manifest, "--output", str(tmp_path / "pairs.csv")]) == 3
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("first\tsmall\t")
    assert "1 pair of 5 compared videos found that look alike" in said.out
    assert "not compared: 'missing': " in said.err
    assert "not compared: 'blank0': its key frames are blank" in said.err
    assert (tmp_path / "pairs.csv").read_text().splitlines()[1].startswith("first,small,")


def test_wrong_options_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, said in (("--distance=65", "0 to 64"), ("--share=0", "above 0, up to 1"), ("--frames=0", "1 or more")):
        assert duplicates.main([str(tmp_path / "m.parquet"), option]) == 2
        assert f"{option.partition('=')[0]} is {option.partition('=')[2]}" in capsys.readouterr().err.replace(
            ".0;", ";"
        )
        assert said
