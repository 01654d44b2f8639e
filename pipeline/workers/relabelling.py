"""A relabel that begins at a kept state of the earlier labels, because changed prompts leave the frames before it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PromptError
from pipeline.labels.changes import first_changed_frame
from pipeline.labels.key import label_key
from pipeline.labels.part import header_of
from pipeline.manifest import PROMPT, Prompt, digest_records, prompts_from_json
from pipeline.manifest.fps import rate_of
from pipeline.manifest.kinds import to_prompt
from pipeline.storage import Store
from pipeline.video import FrameGrid, VideoReader
from pipeline.workers.checkpoint import UNUSABLE, Saved
from pipeline.workers.earlier import Earlier, fetch_part, read_rows
from pipeline.workers.states import StatesIndex, read_index, read_state
from pipeline.workers.task import LabelerSettings, Task

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class EarlierLabels:
    """The published labels of a video that is labelled again."""

    store: Store
    task: Task
    settings: LabelerSettings
    reader: VideoReader
    environment: Mapping[str, str | None]
    """Device and software of this worker: a state continues bit by bit only where it was computed."""

    def load(self, resume: Callable[[bytes], T]) -> Saved[T] | None:
        """The rows before the last usable state and the tracker that continues there; None to label all frames.

        Never raises for labels or states that cannot be used: they are logged.

        Args:
            resume: makes a tracker from a state, or raises ValueError where the state is unusable.
        """
        key, video_id = self.task.earlier_key, self.task.video.video_id
        if key is None or self.task.detections_digest is not None:
            return None
        try:
            found = self._load(key, resume)
        except UNUSABLE as error:
            log.warning("%r is labelled in full: cannot use the states of its earlier labels: %s", video_id, error)
            return None
        if isinstance(found, str):
            log.info("%r is labelled in full: %s", video_id, found)
            return None
        assert found.earlier is not None
        log.info("%r: rows before frame %d are those of its earlier labels", video_id, found.earlier.before)
        return found

    def _load(self, key: str, resume: Callable[[bytes], T]) -> Saved[T] | str:
        """What to continue from, or why there is nothing."""
        video_id = self.task.video.video_id
        if (index := read_index(self.store, video_id, key)) is None:
            return "no states of its earlier labels are kept"
        if self._key_of(index) != key:
            return "more than its prompts has changed"
        if dict(index.environment) != dict(self.environment):
            return "the states of its earlier labels are of another device, engine or version of its software"
        with ExitStack() as files:
            part = files.enter_context(fetch_part(self.store, video_id, key, index.part_sha256))
            found = self._from_state(part, index, key, resume)
            if isinstance(found, Saved):
                files.pop_all()
            return found

    def _from_state(self, part: BinaryIO, index: StatesIndex, key: str, resume: Callable[[bytes], T]) -> Saved[T] | str:
        first = self._first_changed(part, index)
        if first is None:
            return "its changed prompts may change every frame"
        usable = [state for state in index.states if state.before < first]
        if not usable:
            return f"its prompts change frame {first}, and no state before it is kept"
        for state in reversed(usable):
            try:
                tracker = resume(read_state(self.store, state))
            except UNUSABLE as error:
                log.warning("cannot use the state %s: %s", state.path, error)
                continue
            return Saved(
                rows=[],
                earlier=Earlier(label_key=key, part_sha256=index.part_sha256, before=state.before),
                earlier_rows=read_rows(part, before=state.before),
                states=[each for each in usable if each.frames <= state.frames],
                tracker=tracker,
                frames=state.frames,
            )
        raise ValueError("none of the states before the change can be read")

    def _key_of(self, index: StatesIndex) -> str:
        """The label key of these prompts with all other inputs of the task."""
        video, settings = self.task.video, self.settings
        return label_key(
            version=self.task.version,
            start_s=video.start_s,
            end_s=video.end_s,
            fps=rate_of(video),
            label_rate=self.task.label_rate,
            weights=settings.weights_digest,
            parameters=(self.task.parameters or settings.parameters).to_json(),
            prompts=str(index.inputs["prompts"]),
            detections=index.inputs["detections"],
            association=index.inputs["association"],
        )

    def _first_changed(self, part: BinaryIO, index: StatesIndex) -> int | None:
        with pq.ParquetFile(part) as parquet:
            text = header_of(parquet.metadata).video["prompts"][0].as_py()
        part.seek(0)
        records = pa.array(prompts_from_json(text), PROMPT).to_pylist()
        if index.inputs["detections"] is None and digest_records([records]) != [index.inputs["prompts"]]:
            raise ValueError("the prompts in the earlier labels are not those of their label key")
        parameters = self.task.parameters or self.settings.parameters
        old: Sequence[Prompt] = [to_prompt(record) for record in records]
        try:
            return first_changed_frame(
                old, self.task.video.prompts, parameters, index_at=self.reader.index_at, on_grid=self._on_grid()
            )
        except PromptError as error:
            raise ValueError(f"the earlier prompts do not fit the video: {error}") from error

    def _on_grid(self) -> Callable[[int], bool]:
        if self.task.label_rate is None:
            return lambda _: True
        grid = FrameGrid.of(self.task.label_rate)
        return lambda frame: grid.has(frame, self.reader.times(frame + 1).__getitem__)
