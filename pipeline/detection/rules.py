"""The rules of single detections, checked on whole batches: those of prompts' boxes and masks, and of their own."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest.conform import Flags, Notes, flags
from pipeline.manifest.findings import Findings
from pipeline.manifest.kinds import Box, Mask
from pipeline.manifest.prompt_field import MAX_FRAME_INDEX, PromptBatch


class RowFindings(Findings):
    """Rows that break a rule, where every row has one detection."""

    def __init__(self, ids: pa.Array, *, first_row: int) -> None:
        super().__init__(ids, first_row=first_row, offsets=np.arange(len(ids) + 1))

    def add_prompt(self, prompt: int, column: str, value: str, rule: str) -> None:
        self.add_row(prompt, column, value, rule)


def check_rows(batch: pa.RecordBatch, notes: Notes, *, first_row: int) -> RowFindings:
    """The rows that break a rule, each with the first one that it breaks; `notes` are of values that cannot be cast."""
    found = RowFindings(batch["video_id"], first_row=first_row)
    found.row_notes(notes)
    ids, frame, time = batch["video_id"], batch["frame_index"], batch["time_s"]
    found.rows_where(flags(ids.is_null()), "video_id", ids, "missing; every detection needs its video's id")
    absent = flags(pc.and_(frame.is_null(), time.is_null()))
    found.rows_where(absent, "frame_index, time_s", frame, "missing; a detection needs one of them")
    beyond = _true(pc.or_kleene(pc.less(frame, 0), pc.greater(frame, MAX_FRAME_INDEX)))
    found.rows_where(beyond, "frame_index", frame, f"frames count from 0 to {MAX_FRAME_INDEX}")
    found.rows_where(_true(pc.less(time, 0)), "time_s", time, "negative; seconds from the file's first frame")
    kinds = PromptBatch(column={"box": batch["box"], "mask": batch["mask"]}, row=np.arange(len(batch)), kinds=())
    for kind in (Box(), Mask()):
        kind.check(kinds, found)
    return found


def _true(array: pa.Array) -> Flags:
    return flags(array.fill_null(False))
