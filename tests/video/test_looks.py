from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.video import open_video
from pipeline.video.looks import NO_INDEX, on_screen

RATE = 10


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """35 frames at 10 a second with a key frame every 8, frame i of grey value 7 * i."""
    path = tmp_path_factory.mktemp("looks") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": "8", "bf": "2", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(35):
            picture = np.full((48, 64, 3), 7 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("isolate", [False, True])
def test_looks_are_the_frames_on_screen_at_regular_times(clip: Path, isolate: bool) -> None:
    with clip.open("rb") as file, open_video(file, name="clip", isolate=isolate) as reader:
        looks = list(reader.looks(1.0))
        every = {frame.index: frame for frame in reader.forward()}
    assert [frame.index for frame in looks] == [0, 10, 20, 30]
    for frame in looks:
        assert frame.time_s == every[frame.index].time_s
        np.testing.assert_array_equal(frame.rgb, every[frame.index].rgb)


@pytest.mark.parametrize("isolate", [False, True])
def test_key_frames_are_those_of_a_full_pass(clip: Path, isolate: bool) -> None:
    with clip.open("rb") as file, open_video(file, name="clip", isolate=isolate) as reader:
        looks = list(reader.looks(None))
        every = {round(frame.time_s, 6): frame for frame in reader.forward()}
    assert [round(frame.time_s * RATE) for frame in looks] == [0, 8, 16, 24, 32]
    assert {frame.index for frame in looks} == {NO_INDEX}
    for frame in looks:
        np.testing.assert_array_equal(frame.rgb, every[round(frame.time_s, 6)].rgb)


def test_looks_begin_with_the_segment(clip: Path) -> None:
    with clip.open("rb") as file, open_video(file, name="clip", start_s=0.95, end_s=2.55) as reader:
        assert [round(frame.time_s * RATE) for frame in reader.looks(0.5)] == [10, 15, 20, 25]
        assert [round(frame.time_s * RATE) for frame in reader.looks(None)] == [16, 24]


def test_looks_at_images_decode_no_other_image(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(12):
        Image.fromarray(np.full((8, 8, 3), 20 * index, np.uint8)).save(folder / f"{index:02}.png")
    for index in (3, 5, 7):
        (folder / f"{index:02}.png").write_bytes(b"damaged")
    with open_video(folder, name="images", fps=4) as reader:
        assert [(frame.index, int(frame.rgb[0, 0, 0])) for frame in reader.looks(1.0)] == [(0, 0), (4, 80), (8, 160)]
        assert not reader.damage.any


@pytest.mark.parametrize(
    ("times", "step", "chosen"),
    [
        ([0.0], 1.0, [0]),
        ([0.0, 0.5, 1.0, 1.5], 1.0, [0, 2]),
        ([0.0, 0.9, 1.1, 1.9, 2.1], 1.0, [0, 1, 3]),
        ([0.0, 5.0, 5.1, 5.2], 1.0, [0, 1]),
        ([3.3, 4.2996, 5.3004], 1.0, [0, 1, 2]),  # timestamps rounded to the millisecond
        ([0.0, 0.4, 0.8, 1.2], 0.1, [0, 1, 2, 3]),
        ([0.0, 0.6, 1.2], 0.9, [0, 1]),
        ([0.0, 0.4, 0.8], 0.9, [0, 2]),  # the last frame is on screen until 1.2
    ],
)
def test_the_frame_on_screen_is_the_last_not_later(times: list[float], step: float, chosen: list[int]) -> None:
    frames = ((index, None) for index in range(len(times)))
    assert [index for index, _ in on_screen(frames, times.__getitem__, step, 6e-4)] == chosen
