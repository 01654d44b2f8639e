"""Images come in the order of the numbers in their names; litter of operating systems is no image."""

import hashlib
import random
from pathlib import Path, PurePosixPath

import pytest

from pipeline.video import open_video
from pipeline.video.content import content_version
from pipeline.video.image_order import in_order
from tests.video.pictures import number_of, write_folder, write_zip

ORDERS = {
    "counted": ["1.png", "2.png", "10.png", "100.png"],
    "padded": ["00001.png", "00002.png", "00010.png"],
    "times": ["0.0.png", "0.05.png", "0.1.png", "0.15.png", "0.2.png", "1.0.png", "10.5.png"],
    "quarters": ["0.25.png", "0.5.png", "0.75.png", "1.png", "1.25.png"],
    "tiny": ["1e-05.png", "0.1.png", "0.25.png"],
    "times with words": ["cam1_0.05s.png", "cam1_0.1s.png", "cam1_0.25s.png"],
    "negative": ["-10.png", "-3.png", "-1.png", "0.png", "2.png", "10.png"],
    "negative times": ["t_-0.5.png", "t_-0.05.png", "t_0.0.png", "t_0.25.png"],
    "dashes that separate": ["frame-1.png", "frame-2.png", "frame-10.png"],
    "nothing before the dash": ["-1.png", "-2.png", "-10.png"],
    "takes of a shot": ["shot1.1.png", "shot1.9.png", "shot1.10.png", "shot1.11.png"],
    "three levels": ["1.2.9.png", "1.2.10.png", "1.10.1.png"],
    "dates": ["2023-01-05.png", "2023-01-06.png", "2023-02-01.png"],
    "names": ["a.png", "b1.png", "b2.png"],
    "more digits than Python reads": ["1.png", f"{'9' * 5000}.png"],
}


@pytest.mark.parametrize("names", ORDERS.values(), ids=ORDERS.keys())
def test_names_come_in_the_order_of_their_numbers(names: list[str]):
    paths = [PurePosixPath(name) for name in names]
    for seed in range(5):
        assert in_order(random.Random(seed).sample(paths, len(paths))) == paths


@pytest.mark.parametrize("names", [ORDERS["times"], ORDERS["negative"]])
def test_folders_and_zips_show_decimals_and_signs_in_order(tmp_path: Path, names: list[str]):
    for source in (write_folder(tmp_path / "folder", names), write_zip(tmp_path / "packed.zip", names)):
        with open_video(source, name="ordered") as video:
            assert [number_of(frame.rgb) for frame in video.forward()] == list(range(len(names)))


LITTER = ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._1.png", "@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg")


def test_litter_is_no_picture(tmp_path: Path):
    packed = write_zip(tmp_path / "packed.zip", ["0.png", "1.png", *LITTER])
    folder = write_folder(tmp_path / "folder", ["0.png", "1.png", *(name for name in LITTER if "/" not in name)])
    for source in (packed, folder):
        with open_video(source, name="littered") as video:
            assert [number_of(frame.rgb) for frame in video.forward()] == [0, 1]


def test_a_folder_keeps_its_version_unless_its_order_was_wrong(tmp_path: Path):
    def version(folder: Path) -> str:
        """As versions 0.1 computed it."""
        state = sorted((path.name, path.stat().st_size, path.stat().st_mtime) for path in folder.iterdir())
        return f"{sum(size for _, size, _ in state)}-{hashlib.sha256(repr(state).encode()).hexdigest()}"

    for kind, names in ORDERS.items():
        if kind == "more digits than Python reads":
            continue
        folder = write_folder(tmp_path / kind, [*names, "notes.txt"])
        found = content_version(str(folder))
        assert found is not None
        changed = kind in ("times", "quarters", "tiny", "times with words", "negative", "negative times")
        assert (found.token() != version(folder)) == changed, kind
