"""The process that `pipeline.video.isolated` starts: one pass over one video, told to standard output."""

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from pipeline.errors import CorpusError
from pipeline.video.info import Frame, VideoLimits
from pipeline.video.reader import VideoReader, open_video


def main(request: dict[str, Any]) -> None:
    # What libraries print must not get between the frames.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        limits = VideoLimits(**request["open"].pop("limits"))
        with (
            os.fdopen(request["file"], "rb") as file,
            _Deadline(limits.stall_s) as deadline,
            open_video(file, limits=limits, **request["open"]) as video,
        ):
            _answer(video, request["method"], request["argument"], out, deadline)
            deadline.rest()
            _say(out, damage=dataclasses.asdict(video.damage), info=dataclasses.asdict(video.info))
    except CorpusError as error:
        _say(out, error=type(error).__name__, message=str(error))


class _Deadline:
    """The kernel ends this process when decoding goes on for too long: native code that hangs hears nothing else."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> "_Deadline":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()

    def rest(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def watch(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.rest()
            yield frame
            self.__enter__()


def _answer(video: VideoReader, method: str, argument: Any, out: BinaryIO, deadline: _Deadline) -> None:
    if method == "index_at":
        _say(out, answer=video.index_at(argument))
    elif method != "open":
        frames = video.at(argument).values() if method == "at" else getattr(video, method)(argument)
        for frame in deadline.watch(frames):
            _say(out, frame.rgb.data, index=frame.index, time_s=frame.time_s, shape=frame.rgb.shape)


def _say(out: BinaryIO, data: memoryview | bytes = b"", **header: object) -> None:
    out.write(json.dumps({**header, "bytes": memoryview(data).nbytes}).encode() + b"\n")
    out.write(data)
    out.flush()


if __name__ == "__main__":
    main(json.load(sys.stdin))
