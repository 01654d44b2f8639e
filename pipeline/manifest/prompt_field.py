"""The interface of prompt kinds and modifiers, the batch they check, and the marks they draw."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.manifest.conform import Flags, Indices, Notes, conform, flags
from pipeline.manifest.findings import Findings

MAX_FRAME_INDEX = 2**31 - 1

Size = tuple[int, int]
"""Height and width of the displayed frame, in pixels."""


@dataclass(frozen=True, kw_only=True)
class PromptBatch:
    """The prompts of a batch of manifest rows, by field."""

    column: Mapping[str, pa.Array]
    row: Indices
    """For each prompt its row in the batch."""
    kinds: tuple[str, ...]
    """Names of all prompt kinds."""

    def given(self, name: str) -> Flags:
        """Whether each prompt has this field."""
        return flags(self.column[name].is_valid())

    def kinds_besides(self, name: str) -> Flags:
        """Whether each prompt has another kind than this one."""
        others = [self.given(kind) for kind in self.kinds if kind != name]
        return np.asarray(np.logical_or.reduce(others))

    @property
    def correct(self) -> Flags:
        """Whether each prompt corrects a tracked mask."""
        return flags(self.column["correct"].fill_null(False))


@dataclass(frozen=True)
class Dot:
    """A point to draw: on the object, or off it."""

    x: float
    y: float
    positive: bool


@dataclass(frozen=True)
class Rectangle:
    """A box to draw, in pixels."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True)
class Region:
    """A mask to outline: [height, width] and compressed COCO counts."""

    size: tuple[int, int]
    counts: str


Mark = Dot | Rectangle | Region


class PromptField(ABC):
    """One field of a prompt, under the same name in the manifest, in `Prompt` and in the videos table's JSON."""

    name: ClassVar[str]
    type: ClassVar[pa.DataType]
    flat: ClassVar[Mapping[str, pa.DataType]]
    """Columns of the flat prompt table and their types; in CSV a list is JSON text."""

    def parse(self, record: Any) -> Any:
        """The value in `Prompt` of what Arrow and JSON give as plain Python."""
        return record

    def record(self, value: Any) -> Any:
        """The value as plain Python, which `parse` and JSON understand; None where it is absent."""
        return value or None

    def from_flat(self, columns: Mapping[str, pa.Array], notes: Notes) -> pa.Array:
        """The field from its flat columns, at least one of which is there; values that cannot be cast are noted."""
        return conform(columns[self.name], self.type, column=self.name, notes=notes)

    @abstractmethod
    def describe(self, value: Any) -> list[str]:
        """Texts for people; none where the value is absent."""

    @abstractmethod
    def canonical(self, array: pa.Array) -> pa.Array:
        """Canonical JSON of each value, null where absent. Changing it relabels every corpus."""

    @abstractmethod
    def check(self, prompts: PromptBatch, found: Findings) -> None:
        """Report the prompts whose value breaks a rule."""


class PromptKind(PromptField):
    """A way to mark an object on a frame. The engine takes points, a box or a mask; `arrays` gives one of these."""

    noun: ClassVar[str]
    """Singular or plural as it is said in rules: "a box", "points"."""
    alone: ClassVar[bool] = False
    """Excludes every other kind in the same prompt, and cannot correct a tracked mask."""

    in_pixels: ClassVar[bool] = True
    """Holds coordinates in pixels, which may be shares of the frame by mistake: see `normalized`."""

    @abstractmethod
    def misfits(self, value: Any, size: Size, /) -> Iterator[str]:
        """Why the value does not fit a displayed frame of this (height, width); nothing where it fits."""

    @abstractmethod
    def arrays(self, value: Any, size: Size, /) -> Mapping[str, npt.NDArray[Any]]:
        """What the engine takes, as fields of `tracking.FramePrompt`; the same field of two kinds is concatenated."""

    @abstractmethod
    def marks(self, value: Any) -> list[Mark]:
        """Marks that show the prompt in a picture."""

    def normalized(self, array: pa.Array) -> Flags:
        """Whether each value looks like shares of the frame (all between 0 and 1) instead of pixels."""
        return np.zeros(len(array), np.bool_)
