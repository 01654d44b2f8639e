"""What a prompt says besides its kind: that it corrects a tracked mask, and where its object ends."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest import canonical
from pipeline.manifest.conform import Flags, flags
from pipeline.manifest.findings import Findings
from pipeline.manifest.prompt_field import MAX_FRAME_INDEX, PromptBatch, PromptField


class Correct(PromptField):
    """Modifier: the prompt corrects the mask tracked on its frame."""

    name = "correct"
    type = pa.bool_()
    flat: ClassVar = {"correct": pa.bool_()}

    def parse(self, record: Any) -> Any:
        return bool(record)

    def describe(self, value: Any) -> list[str]:
        return ["corrects"] if value else []

    def canonical(self, array: pa.Array) -> pa.Array:
        """`true`, or absent."""
        return pc.if_else(array.fill_null(False), "true", pa.scalar(None, pa.string()))

    def check(self, prompts: PromptBatch, found: Findings) -> None:
        correct, objects = prompts.correct, prompts.column["object_id"].fill_null(0).to_numpy()
        _, own = np.unique(np.stack([prompts.row, objects]), axis=1, return_inverse=True)
        starts = np.zeros(own.max(initial=-1) + 1, np.bool_)
        starts[own[~correct]] = True
        found.prompts_where(
            correct & ~starts[own],
            self.name,
            lambda _: True,
            "nothing to correct: the object needs a prompt without correct (false or missing) to start from",
        )


class UntilFrame(PromptField):
    """Modifier: the object ends. It has no rows from this frame on, until a later prompt of it."""

    name = "until_frame"
    type = pa.int64()
    flat: ClassVar = {"until_frame": pa.int64()}

    def describe(self, value: Any) -> list[str]:
        return [] if value is None else [f"until frame {value}"]

    def canonical(self, array: pa.Array) -> pa.Array:
        """The number, or absent."""
        return array.cast(pa.string())

    def check(self, prompts: PromptBatch, found: Findings) -> None:
        until = prompts.column[self.name]
        _check_after(self.name, until, prompts.column["frame_index"], "frame_index", found)
        found.prompts_where(
            _is(pc.or_(pc.less(until, 1), pc.greater(until, MAX_FRAME_INDEX))),
            self.name,
            lambda i: until[i].as_py(),
            f"an object ends at a frame from 1 to {MAX_FRAME_INDEX}",
        )
        found.prompts_where(
            prompts.given(self.name) & prompts.given("until_s"),
            "until_frame, until_s",
            lambda i: (until[i].as_py(), prompts.column["until_s"][i].as_py()),
            "both are given; at most one of them is allowed",
        )


class UntilS(PromptField):
    """Modifier: the object ends at the frame on screen at this time, in seconds from the file's first frame."""

    name = "until_s"
    type = pa.float64()
    flat: ClassVar = {"until_s": pa.float64()}

    def record(self, value: Any) -> Any:
        return value

    def describe(self, value: Any) -> list[str]:
        return [] if value is None else [f"until {value:g} s"]

    def canonical(self, array: pa.Array) -> pa.Array:
        """The number, or absent."""
        return canonical.numbers(array)

    def check(self, prompts: PromptBatch, found: Findings) -> None:
        until = prompts.column[self.name]
        _check_after(self.name, until, prompts.column["time_s"], "time_s", found)
        found.prompts_where(
            _is(pc.less_equal(until, 0)),
            self.name,
            lambda i: until[i].as_py(),
            "an object ends after the file's first frame, at more than 0 s",
        )


MODIFIERS: tuple[PromptField, ...] = (Correct(), UntilFrame(), UntilS())


def _check_after(name: str, until: pa.Array, when: pa.Array, when_name: str, found: Findings) -> None:
    """Report ends that are not after their own prompt; where the units differ, the video is needed to compare them."""
    found.prompts_where(
        _is(pc.less_equal(until, when)),
        name,
        lambda i: until[i].as_py(),
        f"not after the prompt itself; it must be greater than {when_name}",
    )


def _is(array: pa.Array) -> Flags:
    return flags(array.fill_null(False))
