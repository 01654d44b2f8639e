"""start_s and end_s: a part of a file, with the file's times and indices of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.errors import PromptError
from pipeline.video import open_video, prefetch
from pipeline.video.container import VideoDecoder
from tests.video.clips import CLIPS, Clip, backward, forward, summary

LONG = Clip(name="long.mp4", frames=500, gop=50)


@pytest.mark.parametrize("name", [each.name for each in CLIPS if each.frames > 4])
def test_adjacent_segments_share_the_file_out(clip: Callable[[str], Path], name: str):
    with open_video(clip(name), name=name) as video:
        frames = forward(video)
    cuts = [None, frames[len(frames) // 3][1], frames[2 * len(frames) // 3][1], None]
    joined = []
    for start_s, end_s in pairwise(cuts):
        with open_video(clip(name), name=name, start_s=start_s, end_s=end_s) as video:
            part = forward(video)
            assert [index for index, *_ in part] == list(range(len(part)))
            assert backward(video, len(part) - 1) == part[::-1]
            assert video.damage.complete
            assert not video.damage.any
            joined += part
    assert [rest for _, *rest in joined] == [rest for _, *rest in frames]


def test_a_segment_is_decoded_from_the_nearest_key_frame(clip: Callable[[Clip], Path], monkeypatch):
    count = 0
    plain = VideoDecoder._decode

    def counting(self, packet):
        nonlocal count
        count += 1
        return plain(self, packet)

    monkeypatch.setattr(VideoDecoder, "_decode", counting)
    with open_video(clip(LONG), name="long", start_s=14.4, end_s=15.2) as video:
        part = forward(video)
        assert [round(time_s * 25) for _, time_s, *_ in part] == list(range(360, 380))
        assert count < 5 + 35 + 20 + 5  # the probe; from the key frame at 350 to the end; what reordering needs
        assert video.index_at([14.4, 14.45, 15.0]) == [0, 1, 15]


def test_times_are_rounded_by_a_millisecond_at_most(clip: Callable[[str], Path]):
    with open_video(clip("vp9.webm"), name="vp9", start_s=0.1204, end_s=0.2396) as video:
        assert [time_s for _, time_s, *_ in forward(video)] == [0.12, 0.16, 0.2]


def test_the_frame_on_screen(clip: Callable[[str], Path]):
    with open_video(clip("variable.mkv"), name="variable") as video:
        assert video.index_at([0, 0.0385, 0.0395, 0.1, 0.9, 8.9, 9.5]) == [0, 0, 1, 2, 3, 10, 11]
        with pytest.raises(PromptError, match=r"variable: no frame is on screen at 99 s; allowed are 0 to 9 s"):
            video.index_at([99])
    with open_video(clip("variable.mkv"), name="variable", start_s=1.0) as video:
        assert video.index_at([1.6]) == [4]
        with pytest.raises(PromptError, match=r"at 0\.5 s"):
            video.index_at([0.5])


def test_beyond_the_end(clip: Callable[[str], Path]):
    message = r"gray: frame 10 is beyond the end; the video has frames 0 to 9"
    with open_video(clip("gray.mkv"), name="gray") as video:
        with pytest.raises(PromptError, match=message):
            video.at([3, 10])
        with pytest.raises(PromptError, match=message):
            next(iter(video.backward(10)))
        with pytest.raises(PromptError, match=message):
            next(iter(video.forward(10)))


def test_threads_may_share_a_video(clip: Callable[[Clip], Path]):
    with open_video(clip(LONG), name="long") as video:
        frames = forward(video)
    with open_video(clip(LONG), name="long") as video, ThreadPoolExecutor(3) as threads:
        ahead = prefetch(video.forward(), summary, depth=4)
        back = threads.submit(backward, video, 400)
        some = threads.submit(lambda: [summary(video.at([index])[index]) for index in range(499, 0, -37)])
        again = threads.submit(forward, video, 250)
        assert list(ahead) == frames
        assert back.result() == frames[400::-1]
        assert some.result() == [frames[index] for index in range(499, 0, -37)]
        assert again.result() == frames[250:]


def test_passes_may_be_interleaved_and_abandoned(clip: Callable[[Clip], Path]):
    with open_video(clip(LONG), name="long") as video:
        frames = forward(video)
    with open_video(clip(LONG), name="long") as video:
        one, other = iter(video.forward()), iter(video.backward(70))
        for index in range(60):
            assert next(one).time_s == frames[index][1]
            assert next(other).time_s == frames[70 - index][1]
            if index % 20 == 0:
                assert video.at([index * 3])[index * 3].index == index * 3
        del one
        assert forward(video) == frames
