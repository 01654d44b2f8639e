"""What a prompt kind is: Arrow type, rules, canonical JSON, text, flat columns, marks, and the check against the video.

To add a kind, write one class here, name it in PROMPT_KINDS, and give Prompt its field. Reader, flat table, digest,
`show`, videos table, previews and workers iterate over the registry.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import RleError
from pipeline.manifest import canonical, flat_points
from pipeline.manifest.bad_rows import clip
from pipeline.manifest.conform import Flags, Indices, Notes, conform, flags, list_parts, nan_to_null, struct
from pipeline.manifest.findings import Findings
from pipeline.manifest.masks import check_masks, flat_masks
from pipeline.manifest.modifiers import MODIFIERS
from pipeline.manifest.prompt_field import Dot, Mark, PromptBatch, PromptKind, Rectangle, Region, Size
from pipeline.masks import rle

SIDES = ("x_min", "y_min", "x_max", "y_max")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt of one object on one frame: one field for each prompt kind."""

    object_id: int
    frame_index: int | None = None
    """Counted in presentation order within start_s..end_s; exactly one of frame_index and time_s is given."""
    time_s: float | None = None
    """The frame on screen at this time, counted from the file's first frame."""
    points: tuple[tuple[float, float, int], ...] = ()
    """x, y in pixels of the displayed frame, and the label: 1 on the object, 0 off it."""
    box: tuple[float, float, float, float] | None = None
    """x_min, y_min, x_max, y_max in pixels."""
    mask: tuple[tuple[int, int], str] | None = None
    """COCO RLE: (height, width) and the compressed counts; excludes the other kinds."""
    category: str | None = None
    correct: bool = False
    """Corrects the mask tracked on this frame, with its memory; other prompts run without memory."""
    until_frame: int | None = None
    """The object has no rows from this frame on, until a later prompt of it; at most one of until_frame and until_s."""
    until_s: float | None = None
    """The same as a time: it ends at the frame on screen at this time, counted from the file's first frame."""


class Points(PromptKind):
    """Points on the object (label 1) and off it (label 0), in pixels of the displayed frame."""

    name = "points"
    noun = "points"
    type = pa.list_(pa.struct([("x", pa.float32()), ("y", pa.float32()), ("label", pa.int8())]))
    flat: ClassVar = {"points": type, **dict.fromkeys(flat_points.LISTS, pa.list_(pa.float64()))}

    def parse(self, record: Any) -> Any:
        return tuple((point["x"], point["y"], point["label"]) for point in record or ())

    def record(self, value: Any) -> Any:
        return [{"x": x, "y": y, "label": label} for x, y, label in value] or None

    def from_flat(self, columns: Mapping[str, pa.Array], notes: Notes) -> pa.Array:
        return conform(flat_points.nested(columns, notes), self.type, column=self.name, notes=notes)

    def describe(self, value: Any) -> list[str]:
        return [f"({x:g}, {y:g}) {'in' if label else 'out'}" for x, y, label in value]

    def canonical(self, array: pa.Array) -> pa.Array:
        """`[[x,y,label],...]`, sorted by x, y, label."""
        offsets, values = list_parts(array)
        x, y, label = values.flatten()
        order = np.lexsort((label.to_numpy(), y.to_numpy(), x.to_numpy(), _owners(offsets)))
        texts = canonical.fixed_list([canonical.numbers(x), canonical.numbers(y), label.cast(pa.string())])
        return canonical.lists(offsets, texts.take(pa.array(order)), null=np.diff(offsets) == 0)

    def check(self, prompts: PromptBatch, found: Findings) -> None:
        offsets, points = list_parts(prompts.column[self.name])
        if len(points) == 0:
            return
        owner = _owners(offsets)
        label = points.field("label").fill_null(-1).to_numpy()

        def report(wrong: Flags, name: str, rule: str) -> None:
            for index in np.flatnonzero(wrong):
                prompt = int(owner[index])
                place, value = f"points[{index - offsets[prompt]}].{name}", points[int(index)][name].as_py()
                found.add_prompt(prompt, place, clip(value), rule)

        for name in ("x", "y"):
            report(flags(points.field(name).is_null()), name, "missing; a point needs x, y and label")
        report((label != 0) & (label != 1), "label", "must be 1 (on the object) or 0 (off it)")
        positive = np.bincount(owner[label == 1], minlength=len(offsets) - 1) > 0
        found.prompts_where(
            prompts.given(self.name) & ~positive & ~prompts.kinds_besides(self.name) & ~prompts.correct,
            self.name,
            lambda i: points[int(offsets[i]) : int(offsets[i + 1])].to_pylist(),
            "only points off the object; add a point on it (label 1) or a box",
        )

    def misfits(self, value: Any, size: Size, /) -> Iterator[str]:
        height, width = size
        for x, y, _ in value:
            if not (0 <= x <= width and 0 <= y <= height):
                yield f"point ({x:g}, {y:g}) lies outside the frame; {_frame(size)}"

    def arrays(self, value: Any, _size: Size, /) -> Mapping[str, npt.NDArray[Any]]:
        return {
            "points": np.array([point[:2] for point in value], np.float32),
            "labels": np.array([point[2] for point in value], np.int32),
        }

    def marks(self, value: Any) -> list[Mark]:
        return [Dot(x, y, label == 1) for x, y, label in value]

    def normalized(self, array: pa.Array) -> Flags:
        offsets, points = list_parts(array)
        inside = _in_unit(points.field("x")) & _in_unit(points.field("y"))
        outside = np.bincount(_owners(offsets)[~inside], minlength=len(array))
        return np.asarray((np.diff(offsets) > 0) & (outside == 0))


class Box(PromptKind):
    """A box around the object, in pixels of the displayed frame."""

    name = "box"
    noun = "a box"
    type = pa.struct([(side, pa.float32()) for side in SIDES])
    flat = dict.fromkeys(SIDES, pa.float64())

    def parse(self, record: Any) -> Any:
        return record and tuple(record[side] for side in SIDES)

    def record(self, value: Any) -> Any:
        return value and dict(zip(SIDES, value, strict=True))

    def from_flat(self, columns: Mapping[str, pa.Array], notes: Notes) -> pa.Array:
        sides = struct({side: nan_to_null(columns[side]) for side in SIDES if side in columns})
        return conform(sides, self.type, column=self.name, notes=notes)

    def describe(self, value: Any) -> list[str]:
        return [f"box ({_sides(value)})"] if value else []

    def canonical(self, array: pa.Array) -> pa.Array:
        """`[x_min,y_min,x_max,y_max]`."""
        return canonical.fixed_list([canonical.numbers(side) for side in array.flatten()])

    def check(self, prompts: PromptBatch, found: Findings) -> None:
        box, given = prompts.column[self.name], prompts.given(self.name)
        if not given.any():
            return
        sides = dict(zip(SIDES, box.flatten(), strict=True))
        for name, side in sides.items():
            found.prompts_where(
                given & flags(side.is_null()),
                f"box.{name}",
                lambda _: None,
                "missing; a box needs x_min, y_min, x_max and y_max",
            )
        for axis in "xy":
            found.prompts_where(
                flags(pc.greater_equal(sides[f"{axis}_min"], sides[f"{axis}_max"]).fill_null(False)),
                "box",
                lambda i: box[i].as_py(),
                f"inside out or empty; {axis}_min must be less than {axis}_max",
            )

    def misfits(self, value: Any, size: Size, /) -> Iterator[str]:
        x_min, y_min, x_max, y_max = value
        height, width = size
        if x_max <= 0 or y_max <= 0 or x_min >= width or y_min >= height:
            yield f"box ({_sides(value)}) lies outside the frame; {_frame(size)}"

    def arrays(self, value: Any, _size: Size, /) -> Mapping[str, npt.NDArray[Any]]:
        return {"box": np.array(value, np.float32)}

    def marks(self, value: Any) -> list[Mark]:
        return [Rectangle(*value)]

    def normalized(self, array: pa.Array) -> Flags:
        sides = [_in_unit(side) for side in array.flatten()]
        return np.asarray(flags(array.is_valid()) & np.logical_and.reduce(sides))


class Mask(PromptKind):
    """A mask of the displayed frame as COCO RLE; it needs no other prompt on its frame."""

    name = "mask"
    noun = "a mask"
    alone = True
    in_pixels = False
    type = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
    flat: ClassVar = {"mask_height": pa.int64(), "mask_width": pa.int64(), "mask_counts": pa.string()}

    def parse(self, record: Any) -> Any:
        return record and ((record["size"][0], record["size"][1]), record["counts"])

    def record(self, value: Any) -> Any:
        return value and {"size": list(value[0]), "counts": value[1]}

    def from_flat(self, columns: Mapping[str, pa.Array], notes: Notes) -> pa.Array:
        masks = flat_masks(columns, notes)
        return conform(masks, self.type, column=self.name, notes=notes)

    def describe(self, value: Any) -> list[str]:
        return [f"mask {value[0][1]} x {value[0][0]}"] if value else []

    def canonical(self, array: pa.Array) -> pa.Array:
        """`{"counts":"...","size":[height,width]}`."""
        size, counts = array.flatten()
        offsets, sides = list_parts(size)
        sizes = canonical.lists(offsets, sides.cast(pa.string()), null=flags(size.is_null()))
        return canonical.record({"counts": canonical.quoted(counts), "size": sizes})

    def check(self, prompts: PromptBatch, found: Findings) -> None:
        check_masks(prompts.column[self.name], found)

    def misfits(self, value: Any, size: Size, /) -> Iterator[str]:
        own_size, counts = value
        if tuple(own_size) != size:
            yield f"the mask's size [height, width] is {list(own_size)}; {_frame(size)}"
            return
        try:
            if not rle.decode(counts, size).any():
                yield "the mask is empty; it must mark at least one pixel"
        except RleError as error:
            yield str(error)

    def arrays(self, value: Any, _size: Size, /) -> Mapping[str, npt.NDArray[Any]]:
        return {"mask": rle.decode(value[1], value[0])}

    def marks(self, value: Any) -> list[Mark]:
        return [Region(*value)]


PROMPT_KINDS: tuple[PromptKind, ...] = (Points(), Box(), Mask())


def to_prompt(record: Mapping[str, Any]) -> Prompt:
    """A prompt from its record in the manifest or in the videos table; absent fields may be missing."""
    given: dict[str, Any] = {name: record.get(name) for name in ("object_id", "frame_index", "time_s", "category")}
    given |= {field.name: field.parse(record.get(field.name)) for field in (*PROMPT_KINDS, *MODIFIERS)}
    return Prompt(**given)


def to_record(prompt: Prompt) -> dict[str, Any]:
    """The prompt as a record of the manifest's `prompts` column, without what is absent."""
    record = {name: getattr(prompt, name) for name in ("object_id", "frame_index", "time_s", "category")}
    record |= {field.name: field.record(getattr(prompt, field.name)) for field in (*PROMPT_KINDS, *MODIFIERS)}
    return {name: value for name, value in record.items() if value is not None}


def kinds_of(prompt: Prompt) -> Iterator[tuple[PromptKind, Any]]:
    """The kinds that a prompt gives, each with its value."""
    for kind in PROMPT_KINDS:
        if value := getattr(prompt, kind.name):
            yield kind, value


def marks_of(record: Mapping[str, Any]) -> list[Mark]:
    """What shows a prompt of the videos table in a picture."""
    return [mark for kind, value in kinds_of(to_prompt(record)) for mark in kind.marks(value)]


def _owners(offsets: Indices) -> Indices:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _sides(box: Any) -> str:
    return ", ".join(f"{side:g}" for side in box)


def _frame(size: Size) -> str:
    return f"the frame is {size[1]} x {size[0]} pixels (width x height)"


def _in_unit(array: pa.Array) -> Flags:
    return flags(pc.and_(pc.greater_equal(array, 0), pc.less_equal(array, 1)).fill_null(False))
