"""Every frame accounted for: real files against their manifest, encoded ones against plain PyAV."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.video import VideoLimits, open_video
from tests.video.clips import CLIPS, Clip, backward, checksum, decoded, forward
from tests.video.table import REASONS, rows

UNTIMED = ("raw.h264", "b-frames.avi")
"""Without presentation times of their own: PyAV's are missing or wrong."""


@pytest.fixture(scope="module")
def table(shared):
    return rows(shared, sampled=True)


def test_real_files_are_as_their_manifest_says_or_there_is_a_reason(table):
    assert [row for row in table if not row.equal and row.reason is None] == []


def test_no_reason_outlives_its_difference(table):
    assert set(REASONS) == {(row.file, row.fact) for row in table if not row.equal}


@pytest.mark.parametrize("name", [each.name for each in CLIPS])
def test_frames_and_times_are_plain_pyavs(clip: Callable[[str], Path], name: str):
    expected = decoded(clip(name))
    with open_video(clip(name), name=name) as video:
        got = forward(video)
    assert [index for index, *_ in got] == list(range(len(expected)))
    assert [stamp for *_, stamp in got] == [stamp for _, stamp in expected]
    if name not in UNTIMED:
        assert [time_s for _, time_s, *_ in got] == [time_s for time_s, _ in expected]
        assert video.damage.repaired_times == 0
    assert not video.damage.any


@pytest.mark.parametrize("name", [each.name for each in CLIPS])
def test_backward_random_and_by_time_are_forward(clip: Callable[[str], Path], name: str):
    with open_video(clip(name), name=name, limits=VideoLimits(backward_bytes=100_000)) as video:
        frames = forward(video)
        last = len(frames) - 1
        assert backward(video, last) == frames[::-1]
        some = sorted({0, last, last // 2, last // 3})
        assert {index: checksum(frame.rgb) for index, frame in video.at(some).items()} == {
            index: frames[index][3] for index in some
        }
        assert forward(video, last // 2) == frames[last // 2 :]
        assert video.index_at([time_s for _, time_s, *_ in frames]) == list(range(len(frames)))


@pytest.mark.parametrize("name", [each.name for each in CLIPS])
def test_without_a_forward_pass_all_is_the_same(clip: Callable[[str], Path], name: str):
    with open_video(clip(name), name=name) as video:
        frames = forward(video)
    middle = len(frames) // 2
    with open_video(clip(name), name=name) as video:
        assert backward(video, middle) == frames[middle::-1]
    with open_video(clip(name), name=name) as video:
        assert video.index_at([frames[middle][1]]) == [middle]
        assert checksum(video.at([middle])[middle].rgb) == frames[middle][3]
        assert forward(video, middle) == frames[middle:]
        assert forward(video) == frames


@pytest.mark.parametrize("name", ["bedroom.mp4", pytest.param("juggle.mp4", marks=pytest.mark.slow)])
def test_real_video_backward_is_forward(shared: Path, name: str):
    with open_video(shared / "videos" / name, name=name, limits=VideoLimits(backward_bytes=100 << 20)) as video:
        frames = forward(video)
        assert backward(video, len(frames) - 1) == frames[::-1]


def test_hard_files_backward_are_forward(shared: Path):
    checked = 0
    for path in sorted((shared / "hard").iterdir()):
        if path.suffix == ".csv" or path.name.startswith(("audio_only", "header_only", "long_")):
            continue
        with open_video(path, name=path.name, limits=VideoLimits(backward_bytes=100 << 20)) as video:
            frames = forward(video)
            assert backward(video, len(frames) - 1) == frames[::-1], path.name
            checked += 1
    assert checked >= 11


@pytest.mark.slow
def test_the_long_file_backward_is_forward(shared: Path):
    path = shared / "hard" / "long_21766_frames_av1.mp4"
    with open_video(path, name=path.name) as video:
        frames = forward(video)
        assert len(frames) == 21766
        assert backward(video, 21765) == frames[::-1]


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((1, 0, 0, 0, 1, 0, 0, 0, 1), lambda image: image),
        ((0, 1, 0, -1, 0, 0, 0, 0, 1), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), lambda image: np.rot90(image, 2)),
        ((0, -1, 0, 1, 0, 0, 0, 0, 1), lambda image: np.rot90(image)),
        ((-1, 0, 0, 0, 1, 0, 0, 0, 1), np.fliplr),
        ((1, 0, 0, 0, -1, 0, 0, 0, 1), np.flipud),
        ((0, 1, 0, 1, 0, 0, 0, 0, 1), lambda image: image.transpose(1, 0, 2)),
        ((0, -1, 0, -1, 0, 0, 0, 0, 1), lambda image: np.rot90(image, 2).transpose(1, 0, 2)),
    ],
)
def test_all_eight_orientations(clip: Callable[[Clip], Path], matrix: tuple[int, ...], turn):
    upright = clip(Clip(name="upright.mp4", frames=2))
    turned = clip(Clip(name=f"turned{''.join(map(str, matrix))}.mp4", frames=2, matrix=matrix))
    with open_video(upright, name="upright") as one, open_video(turned, name="turned") as other:
        for plain, frame in zip(one.forward(), other.forward(), strict=True):
            assert np.array_equal(frame.rgb, turn(plain.rgb))
            assert (other.info.width, other.info.height) == (frame.rgb.shape[1], frame.rgb.shape[0])
            mirrored = np.fliplr(plain.rgb) if other.info.reflected else plain.rgb
            assert np.array_equal(frame.rgb, np.rot90(mirrored, -other.info.rotation // 90))
            assert frame.rgb.flags.c_contiguous
            assert frame.rgb.flags.writeable


def test_facts_that_only_some_files_have(clip: Callable[[str], Path]):
    def info(name: str):
        with open_video(clip(name), name=name) as video:
            list(video.forward())
            return video.info

    assert info("full-range.mp4").color_range == "full"
    assert info("gray.mkv").pix_fmt == "gray"
    assert info("odd-size.mkv").width == 95
    assert info("240-a-second.mp4").fps == pytest.approx(240)
    assert info("variable.mkv").variable_rate is True
    assert info("vp9.webm").variable_rate is False  # timestamps are rounded to 1 ms
    assert info("late-start.mkv").first_timestamp_s == 5.0
    assert info("fragmented.mp4").container_frames is None
    assert info("one-frame.mp4").fps == 25
