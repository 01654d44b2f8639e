"""The process that `pipeline.video.isolated` starts: one pass over one video, written to standard output."""

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from pipeline.errors import CorpusError
from pipeline.video.grid import FrameGrid
from pipeline.video.info import Frame, VideoLimits
from pipeline.video.reader import VideoReader, open_video


def main(request: dict[str, Any]) -> None:
    # Libraries may print: their output must not mix with the frames.
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
            deadline.stop()
            _send(out, damage=dataclasses.asdict(video.damage), info=dataclasses.asdict(video.info))
    except CorpusError as error:
        _send(out, error=type(error).__name__, message=str(error))


class _Deadline:
    """A kernel timer that ends this process when a frame takes too long, also inside native code."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> "_Deadline":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def watch(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.stop()
            yield frame
            self.__enter__()


def _answer(video: VideoReader, method: str, argument: Any, out: BinaryIO, deadline: _Deadline) -> None:
    if method in ("index_at", "times"):
        _send(out, answer=getattr(video, method)(argument))
    elif method != "open":
        for frame in deadline.watch(_frames(video, method, argument)):
            _send(out, frame.rgb.data, index=frame.index, time_s=frame.time_s, shape=frame.rgb.shape)


def _frames(video: VideoReader, method: str, argument: Any) -> Iterable[Frame]:
    match method:
        case "at":
            return video.at(argument).values()
        case "looks":
            return video.looks(argument)
    grid = argument["grid"] and FrameGrid(**argument["grid"])
    passes = {"forward": video.forward, "backward": video.backward}
    return passes[method](argument["start"], grid=grid)


def _send(out: BinaryIO, data: memoryview | bytes = b"", **header: object) -> None:
    out.write(json.dumps({**header, "bytes": memoryview(data).nbytes}).encode() + b"\n")
    out.write(data)
    out.flush()


if __name__ == "__main__":
    main(json.load(sys.stdin))
