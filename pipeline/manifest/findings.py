"""Collection of the rows that break a rule, with the first reason of each."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from pipeline.manifest.bad_rows import BadRow, clip
from pipeline.manifest.conform import Flags, Indices, Notes
from pipeline.storage import redact


class Findings:
    """The bad rows of one batch."""

    def __init__(self, ids: pa.Array, *, first_row: int, offsets: Indices, source_rows: Indices | None = None) -> None:
        self.bad: Flags = np.zeros(len(ids), np.bool_)
        self.rows: list[BadRow] = []
        self._ids = ids
        self._first_row = first_row
        self._offsets = offsets
        self._row_of_prompt = np.repeat(np.arange(len(ids)), np.diff(offsets))
        self._source_rows = source_rows

    def add_row(self, row: int, column: str, value: str, rule: str) -> None:
        if self.bad[row]:
            return
        self.bad[row] = True
        video_id = self._ids[row].as_py()
        self.rows.append(BadRow(self._first_row + row, video_id, column, value, rule))

    def row_notes(self, notes: Notes) -> None:
        for row, note in notes.items():
            self.add_row(row, *note)

    def rows_where(self, wrong: Flags, column: str, values: pa.Array, rule: str) -> None:
        for row in np.flatnonzero(wrong & ~self.bad):
            value = values[row].as_py()
            if column == "video_uri" and value:
                value = redact(value)
            self.add_row(int(row), column, clip(value), rule)

    def prompt_notes(self, notes: Notes) -> None:
        for prompt, note in notes.items():
            self.add_prompt(prompt, *note)

    def prompts_where(self, wrong: Flags, column: str, value: Callable[[int], object], rule: str) -> None:
        """Report prompts; `value(i)` gives what to show of the i-th, and is called only for reported ones."""
        if not wrong.any():
            return
        for prompt in np.flatnonzero(wrong & ~self.bad[self._row_of_prompt]):
            self.add_prompt(int(prompt), column, clip(value(int(prompt))), rule)

    def add_prompt(self, prompt: int, column: str, value: str, rule: str) -> None:
        row = int(self._row_of_prompt[prompt])
        place = f"prompts[{prompt - int(self._offsets[row])}]"
        if column:
            place += f".{column}"
        if self._source_rows is not None:
            place += f" (row {self._source_rows[prompt]} of the prompt table)"
        self.add_row(row, place, value, rule)
