"""A single clip and its prompts as a manifest, for labelling without one."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from pipeline.errors import CorpusError, UsageError
from pipeline.manifest import Manifest, Prompt, read_manifest
from pipeline.manifest.kinds import to_record
from pipeline.manifest.probe import probe_video
from pipeline.manifest.schema import SCHEMA
from pipeline.storage import Storage
from pipeline.video.content import open_uri

CLIP_MODEL = "facebook/sam2.1-hiera-tiny"
"""The model of a single clip where none is given."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video and what was pointed at in it. Texts are those of the command line."""

    uri: str
    points: Sequence[Sequence[str]] = ()
    """Points of one object each: `X,Y` on it, `X,Y,0` off it."""
    boxes: Sequence[str] = ()
    """One object each: `X_MIN,Y_MIN,X_MAX,Y_MAX`."""
    at: str = "0"
    """The prompted frame: its index, or its time as `1.5s`."""

    @property
    def name(self) -> str:
        """The video's id and the start of its files' names: the file's name without suffix."""
        return PurePosixPath(self.uri.rstrip("/")).stem or "clip"

    def manifest(self, *, storage: Storage | None = None) -> Manifest:
        """One row with this video and its prompts; objects are numbered from 1, points first.

        Raises:
            UsageError: There is no prompt, one cannot be read or does not fit the video, or the video cannot be opened.
        """
        prompts = list(self._prompts())
        if not prompts:
            raise UsageError(f"no object to track in {self.uri}: give --point X,Y or --box X_MIN,Y_MIN,X_MAX,Y_MAX")
        try:
            with open_uri(self.uri, storage=storage) as (reader, _):
                frames = reader.info.container_frames
        except CorpusError as error:
            raise UsageError(str(error)) from None
        records = [to_record(prompt) for prompt in prompts]
        row = {"video_id": self.name, "video_uri": self.uri, "prompts": records, "num_frames": frames or None}
        manifest = read_manifest(pa.Table.from_pylist([row], schema=pa.schema([SCHEMA.field(name) for name in row])))
        if problems := probe_video(manifest.video(0), storage=storage):
            first = problems[0]
            where = "" if first.object_id is None else f", object {first.object_id}, {first.frame}"
            raise UsageError(f"{self.uri}{where}: {first.reason}")
        return manifest

    def _prompts(self) -> Iterator[Prompt]:
        frame_index, time_s = _frame(self.at)
        object_id = 0
        for texts in self.points:
            object_id += 1
            points = tuple(_point(text) for text in texts)
            yield Prompt(object_id=object_id, frame_index=frame_index, time_s=time_s, points=points)
        for text in self.boxes:
            object_id += 1
            x_min, y_min, x_max, y_max = _numbers("--box", text, ("X_MIN,Y_MIN,X_MAX,Y_MAX",))
            yield Prompt(object_id=object_id, frame_index=frame_index, time_s=time_s, box=(x_min, y_min, x_max, y_max))


def _frame(text: str) -> tuple[int | None, float | None]:
    """Frame index or time of `--at`."""
    if re.fullmatch(r"\d+", text):
        return int(text), None
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)s", text):
        return None, float(found[1])
    raise UsageError(f"--at is {text!r}; allowed: the index of a frame, such as 30, or a time, such as 1.5s")


def _point(text: str) -> tuple[float, float, int]:
    x, y, *label = _numbers("--point", text, ("X,Y", "X,Y,LABEL with label 1 on the object or 0 off it"))
    if label not in ([], [0.0], [1.0]):
        raise UsageError(f"--point is {text!r}; its label is 1 (on the object) or 0 (off it)")
    return x, y, int(label[0]) if label else 1


def _numbers(option: str, text: str, forms: Sequence[str]) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in [form.partition(" ")[0].count(",") + 1 for form in forms]:
        raise UsageError(f"{option} is {text!r}; allowed: {', or '.join(forms)}, in pixels of the displayed frame")
    return numbers
