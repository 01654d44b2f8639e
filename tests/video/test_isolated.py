"""Decoding in a process of its own: the same frames, and its crash or hang is the video's failure alone."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.errors import PromptError, VideoError
from pipeline.video import VideoLimits, open_video
from tests.video.clips import Clip, backward, forward

GOOD = Clip(name="isolated.mp4", frames=40)

BROKEN = """
import json, os, signal, sys, time
from pipeline.video import child, container
plain = container.VideoDecoder._decode
count = 0
def broken(self, packet):
    global count
    count += 1
    if count > 20:
        {what}
    return plain(self, packet)
container.VideoDecoder._decode = broken
child.main(json.load(sys.stdin))
"""


def test_the_same_frames_facts_and_failures(clip: Callable[[Clip], Path], shared: Path):
    for path in (clip(GOOD), shared / "hard" / "rot90.mov", shared / "hard" / "animated.gif"):
        with open_video(path, name=path.name) as plain, open_video(path, name=path.name, isolate=True) as video:
            frames = forward(plain)
            assert forward(video) == frames
            assert next(iter(video.forward())).rgb.flags.writeable
            assert backward(video, 2) == frames[2::-1]
            assert list(video.at([1, 0])) == [0, 1]
            assert video.index_at([frames[1][1]]) == [1]
            assert (video.info, video.damage) == (plain.info, plain.damage)
            with pytest.raises(PromptError, match="frame 99 is beyond the end"):
                video.at([99])
    for name in ("audio_only.mp4", "header_only_derived.mp4"):
        with pytest.raises(VideoError) as caught:
            open_video(shared / "hard" / name, name=name, isolate=True)
        assert caught.value.failure_class == "no_video_stream"


def test_rotated_clips_and_animations_are_the_same_in_a_separate_process(clip: Callable[[str | Clip], Path]):
    turned = Clip(name="turned.mov", frames=6, matrix=(0, 1, 0, -1, 0, 0, 0, 0, 1))
    for each in (turned, "animated.gif", "variable.mkv"):
        path = clip(each)
        with open_video(path, name="plain") as plain, open_video(path, name="plain", isolate=True) as video:
            frames = forward(plain)
            assert forward(video) == frames
            assert backward(video, 2) == frames[2::-1]
            assert (video.info, video.damage) == (plain.info, plain.damage)


def test_many_frames_can_be_requested_at_once(clip: Callable[[Clip], Path]):
    """More than the 128 KiB that Linux allows one argument of a process."""
    with open_video(clip(GOOD), name="isolated", isolate=True) as video:
        assert video.index_at([frame / 25 for frame in range(40)] * 1000) == list(range(40)) * 1000


def test_a_remote_segment(clip: Callable[[Clip], Path]):
    import io

    data = io.BytesIO(clip(GOOD).read_bytes())
    with open_video(data, name="bytes", isolate=True, start_s=0.4, end_s=0.8) as video:
        assert [index for index, *_ in forward(video)] == list(range(10))


@pytest.mark.parametrize(
    ("what", "failure_class", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crash", r"the decoding process died of SIGSEGV after frame \d+"),
        ("os._exit(3)", "crash", r"died of exit status 3 after frame \d+"),
        ("time.sleep(600)", "hang", r"no frame within 5 s, after frame \d+; its process was killed"),
        (  # native code that never returns to Python
            "import ctypes; ctypes.PyDLL(None).usleep(600_000_000)",
            "hang",
            r"no frame within 5 s, after frame \d+; its process was killed",
        ),
    ],
)
def test_a_crash_or_hang_is_blamed_on_its_video(
    clip: Callable[[Clip], Path], monkeypatch, what: str, failure_class: str, message: str
):
    with open_video(clip(GOOD), name="suspect", isolate=True) as video:
        monkeypatch.setattr(video, "_command", (sys.executable, "-c", BROKEN.format(what=what)))
        if failure_class == "hang":  # opening had the time it needed
            monkeypatch.setattr(video, "_limits", limits := VideoLimits(stall_s=5.0))
            monkeypatch.setitem(video._open, "limits", asdict(limits))
        seen: list[int] = []
        with pytest.raises(VideoError, match=f"suspect: .*{message}") as caught:
            seen.extend(frame.index for frame in video.forward())
        assert seen == list(range(len(seen)))
        assert len(seen) > 5, "frames before the crash were handed out"
        assert caught.value.failure_class == failure_class
