"""A video decoded in child processes, where a crash, hang or leak of native code fails that video alone."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from pipeline.errors import AfterEndError, CorpusError, PromptError, StorageError, VideoError
from pipeline.video.failures import CrashError, HangError
from pipeline.video.grid import FrameGrid
from pipeline.video.info import Damage, Frame, OnDamaged, Segment, VideoInfo, VideoLimits
from pipeline.video.input_file import InputFile

CHILD = (sys.executable, "-m", "pipeline.video.child")
_RAISED: tuple[type[CorpusError], ...] = (
    *(AfterEndError, PromptError, StorageError, VideoError),
    *VideoError.__subclasses__(),
)
_ERRORS = {error.__name__: error for error in _RAISED}
_ROOT = str(Path(__file__).parents[2])


class IsolatedVideo:
    """A video whose passes each run in a separate child process. The input must be a file on this machine."""

    def __init__(
        self,
        file: InputFile,
        *,
        segment: Segment,
        fps: float | None,
        limits: VideoLimits,
        on_damaged: OnDamaged,
        command: Sequence[str] = CHILD,
    ) -> None:
        self.name = file.name
        self._file, self._limits, self._command = file, limits, command
        self._open = {
            "name": file.name,
            "start_s": segment.start_s,
            "end_s": segment.end_s,
            "fps": fps,
            "limits": dataclasses.asdict(limits),
            "on_damaged": on_damaged,
        }
        self.damage = Damage()
        self._info: VideoInfo | None = None
        self._answer("open")

    @property
    def info(self) -> VideoInfo:
        assert self._info is not None
        return self._info

    def forward(self, start: int = 0, *, grid: FrameGrid | None = None) -> Iterator[Frame]:
        return self._frames("forward", {"start": start, "grid": grid and grid.to_dict()})

    def backward(self, start: int, *, grid: FrameGrid | None = None) -> Iterator[Frame]:
        return self._frames("backward", {"start": start, "grid": grid and grid.to_dict()})

    def times(self, count: int) -> list[float]:
        return [float(time) for time in self._answer("times", count)]

    def at(self, indices: Iterable[int]) -> dict[int, Frame]:
        return {frame.index: frame for frame in self._frames("at", sorted(set(indices)))}

    def looks(self, step_s: float | None) -> Iterator[Frame]:
        return self._frames("looks", step_s)

    def index_at(self, times_s: Sequence[float]) -> list[int]:
        return [int(index) for index in self._answer("index_at", list(times_s))]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self, method: str, argument: object = None) -> list[Any]:
        with closing(self._messages(method, argument)) as messages:
            return [value for header, _ in messages for value in header["answer"]]

    def _frames(self, method: str, argument: object) -> Iterator[Frame]:
        with closing(self._messages(method, argument)) as messages:
            for header, data in messages:
                rgb = np.frombuffer(data, dtype=np.uint8).reshape(header["shape"])
                yield Frame(header["index"], header["time_s"], rgb)

    def _messages(self, method: str, argument: object) -> Generator[tuple[dict[str, Any], bytearray], None, None]:
        """Messages of the child: a line of JSON, then as many bytes as it states; the last one reports damage."""
        request = json.dumps(
            {"open": self._open, "file": self._file.descriptor, "method": method, "argument": argument}
        )
        assert self._file.descriptor is not None
        with subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[self._file.descriptor],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([_ROOT, os.environ.get("PYTHONPATH", "")])},
        ) as child:
            pipe = cast(io.BufferedReader, child.stdout)
            last = "before the first frame"
            try:
                with suppress(BrokenPipeError), cast(io.BufferedWriter, child.stdin) as stdin:
                    stdin.write(request.encode())  # it lists frames or times, which may be too long for an argument
                while True:
                    line = pipe.readline()
                    header: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"bytes": 1}
                    data = bytearray(header["bytes"])
                    if pipe.readinto(data) < len(data):
                        raise self._exit_error(child.wait(), last)
                    if "error" in header:
                        raise _ERRORS.get(header["error"], VideoError)(header["message"])
                    if "damage" in header:
                        self._keep(header)
                        return
                    yield header, data
                    last = f"after frame {header.get('index')}"
            finally:
                child.kill()

    def _keep(self, header: dict[str, Any]) -> None:
        facts, damage = header["info"], Damage(**header["damage"])
        if (damage.complete, damage.decoded_frames) >= (self.damage.complete, self.damage.decoded_frames):
            self.damage = damage
            self._info = VideoInfo(**{**facts, "sar": facts["sar"] and tuple(facts["sar"])})

    def _exit_error(self, code: int, last: str) -> VideoError:
        if code == -signal.SIGALRM:
            return HangError(f"{self.name}: no frame within {self._limits.stall_s:g} s, {last}; its process was killed")
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return CrashError(f"{self.name}: the decoding process died of {how} {last}")
