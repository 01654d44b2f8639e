"""Checks the prompts of a manifest against their opened videos."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from pipeline.errors import CorpusError, PromptError
from pipeline.manifest.bad_rows import clip
from pipeline.manifest.ends import appearances, end_of
from pipeline.manifest.fps import check_rate, rate_of
from pipeline.manifest.kinds import Prompt, kinds_of
from pipeline.manifest.schema import Manifest, Video
from pipeline.storage import Storage
from pipeline.video import VideoReader
from pipeline.video.content import open_uri


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a prompt does not fit its video, or a video cannot be opened."""

    row: int
    """Row number in the manifest file, from 0."""
    video_id: str
    object_id: int | None = None
    frame: str | None = None
    """As the prompt gives it: `frame 3` or `0.5 s`."""
    reason: str

    def __str__(self) -> str:
        where = "" if self.object_id is None else f", object {self.object_id}, {self.frame}"
        return f"row {self.row}, video_id {clip(self.video_id)}{where}: {self.reason}"


def probe_videos(manifest: Manifest, *, storage: Storage | None = None, threads: int = 16) -> Iterator[Problem]:
    """All problems of all videos, in the manifest's order; several videos are opened at the same time."""
    rows = iter(range(len(manifest)))
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(rows, 8 * threads)):
            for problems in pool.map(lambda video: probe_video(video, storage=storage), manifest.videos(some)):
                yield from problems


def probe_video(video: Video, *, storage: Storage | None = None) -> list[Problem]:
    """Each prompt that lies outside the video's frames or its frame, and whether the video can be opened at all.

    Decodes up to the last prompted frame.
    """
    found: list[Problem] = []
    try:
        with open_uri(
            video.video_uri, storage=storage, start_s=video.start_s, end_s=video.end_s, fps=rate_of(video)
        ) as (reader, _):
            check_rate(video, reader)
            found += [
                Problem(row=video.row, video_id=video.video_id, object_id=prompt.object_id, frame=when, reason=reason)
                for prompt, when, reason in misfits(video.prompts, reader)
            ]
    except CorpusError as error:
        found.append(Problem(row=video.row, video_id=video.video_id, reason=str(error)))
    return found


def misfits(prompts: Iterable[Prompt], reader: VideoReader) -> Iterator[tuple[Prompt, str, str]]:
    """The prompts that do not fit an open video, each with when it is (`frame 3` or `0.5 s`) and why."""
    seen: dict[int, dict[int, Prompt]] = {}
    ends: dict[int, list[int]] = {}
    frame_of = FrameFinder(reader)
    for prompt in prompts:
        when = f"frame {prompt.frame_index}" if prompt.time_s is None else f"{prompt.time_s:g} s"
        try:
            frame = frame_of(prompt)
            if frame in seen.setdefault(prompt.object_id, {}):
                yield prompt, when, f"a second prompt of this object on frame {frame}"
            seen[prompt.object_id].setdefault(frame, prompt)
            if (end := end_of(prompt, frame, reader.index_at)) is not None:
                ends.setdefault(prompt.object_id, []).append(end)
        except PromptError as error:
            yield prompt, when, str(error)
        for kind, value in kinds_of(prompt):
            for misfit in kind.misfits(value, (reader.info.height, reader.info.width)):
                yield prompt, when, misfit
    for object_id, cuts in ends.items():
        corrections = {frame: prompt for frame, prompt in seen[object_id].items() if prompt.correct}
        try:
            appearances(seen[object_id].keys() - corrections.keys(), corrections.keys(), cuts)
        except PromptError as error:
            last = corrections[max(corrections)]
            yield last, f"frame {max(corrections)}", str(error)


class FrameFinder:
    """The frame of a prompt; decodes it once to know that it is there. PromptError where it is not."""

    def __init__(self, reader: VideoReader) -> None:
        self._reader = reader
        self._last = 0
        """Frames up to this one are known to exist: opening has decoded the first."""

    def __call__(self, prompt: Prompt) -> int:
        if prompt.time_s is not None:
            return self._reader.index_at([prompt.time_s])[0]
        assert prompt.frame_index is not None
        if prompt.frame_index > self._last:
            self._reader.at([prompt.frame_index])
            self._last = prompt.frame_index
        return prompt.frame_index
