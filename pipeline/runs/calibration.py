"""A calibration: how long one machine takes to label a frame with a model, as `jobs.calibrate` has measured it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import StorageError, UsageError
from pipeline.labels.key import Dtype
from pipeline.runs.config import CPU_LANES, GPU_LANES
from pipeline.storage import Storage, open_source, redact
from pipeline.tracking.modelfiles import ResolvedModel

FORMAT = 1
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The speed of one actor for a number of objects and of lanes, while the machine's other actors did the same."""

    objects: int
    """Objects in every video."""
    lanes: int
    frames_per_s: float
    """Frames of all lanes together."""
    video_s: float
    """Seconds of the actor for each video, in addition to its frames: opening, first frames, writing the part."""
    frames: int
    """Number of frames measured, all actors together."""
    full_memory: bool
    """Whether tracks had all their memories. If not, later frames take longer."""
    starved: float
    """Share of the time that lanes waited for decoded frames."""
    memory_bytes: int
    """Peak memory of the actor."""
    gpu_memory_bytes: int
    """Peak GPU memory of the actor; 0 on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Measured speeds of one machine and one model.

    Labelling a video of F frames with O objects takes one actor `video_s + F / frames_per_s` seconds; both are
    interpolated linearly in O (seconds, not frames per second), and beyond the measured O extrapolated. With one
    measured O, seconds are in the ratio of `1 + O object_cost`.
    """

    model: str
    weights_digest: str
    dtype: Dtype
    object_cost: float
    """Estimated cost of tracking one object on a frame, in units of encoding the frame."""
    machine: Mapping[str, Any]
    """The device, its compute capability, versions, and the number of cores."""
    clip: Mapping[str, Any]
    """What was labelled: source, height, width."""
    actors: int
    """Actors that the machine ran at a time."""
    gpus_per_actor: float
    cpus_per_actor: float
    start_s: float
    """Seconds until an actor has loaded the model."""
    decode_frames_per_core_s: float
    """Frames that one core decodes and resizes in a second."""
    encode_masks_per_core_s: float
    """Masks (one object on one frame) that one core turns into rows in a second."""
    rates: Sequence[Rate]

    @property
    def device(self) -> str:
        return str(self.machine.get("compute_device"))

    def lanes_for(self, lanes: int | None) -> int:
        """The measured number of lanes that is closest to `lanes`, or for None to the default of a run."""
        wanted = lanes or (GPU_LANES if self.gpus_per_actor else CPU_LANES)
        return min(sorted({rate.lanes for rate in self.rates}), key=lambda each: abs(each - wanted))

    def seconds(self, frames: Numbers, objects: Numbers, *, lanes: int | None = None) -> Numbers:
        """Seconds of one actor for videos with these numbers of frames and objects."""
        chosen = sorted((r for r in self.rates if r.lanes == self.lanes_for(lanes)), key=lambda rate: rate.objects)
        at = np.array([rate.objects for rate in chosen], float)
        frame_s = self._by_objects(objects, at, np.array([1 / rate.frames_per_s for rate in chosen]))
        video_s = self._by_objects(objects, at, np.array([rate.video_s for rate in chosen]))
        result: Numbers = np.maximum(frames * frame_s + video_s, 0.0)
        return result

    def _by_objects(self, objects: Numbers, at: Numbers, values: Numbers) -> Numbers:
        result: Numbers
        if len(at) == 1:
            result = values[0] * (1 + objects * self.object_cost) / (1 + at[0] * self.object_cost)
            return result
        piece = np.clip(np.searchsorted(at, objects) - 1, 0, len(at) - 2)
        slope = (values[piece + 1] - values[piece]) / (at[piece + 1] - at[piece])
        result = values[piece] + (objects - at[piece]) * slope
        return result

    def to_json(self) -> bytes:
        return json.dumps({"sam2_corpus_calibration": FORMAT, **asdict(self)}, indent=1).encode()


def read_calibration(uri: str, *, model: ResolvedModel, dtype: Dtype, storage: Storage) -> Calibration:
    """The calibration at a path or URI, for labelling with this model.

    Raises:
        UsageError: It cannot be read, is no calibration, or was measured with another model or dtype.
    """
    name = redact(uri)
    try:
        with open_source(uri, storage=storage)[0] as file:
            found = parse_calibration(file.read(), name)
    except StorageError as error:
        raise UsageError(f"--calibration {name} cannot be read: {error}") from None
    again = f"measure it: python -m jobs.calibrate --model {model.name} --dtype {dtype} --output {name}"
    if found.weights_digest != model.digest:
        raise UsageError(
            f"--calibration {name} was measured with the model {found.model} (weights {found.weights_digest[:12]}), "
            f"and this run uses {model.name} (weights {model.digest[:12]}); {again}"
        )
    if found.dtype != dtype:
        raise UsageError(f"--calibration {name} was measured with --dtype {found.dtype}, not {dtype}; {again}")
    return found


def parse_calibration(data: bytes, name: str) -> Calibration:
    """The calibration in the text of a JSON file.

    Raises:
        UsageError: The text is no calibration; the message names what is missing or wrong.
    """
    wrong = f"{name} is no calibration of this release, which python -m jobs.calibrate writes"
    try:
        values = json.loads(data)
    except ValueError as error:
        raise UsageError(f"{wrong}: it is not JSON ({error})") from None
    if not isinstance(values, dict) or (format_ := values.pop("sam2_corpus_calibration", None)) != FORMAT:
        there = format_ if isinstance(values, dict) else None
        raise UsageError(f"{wrong}: sam2_corpus_calibration is {there!r}; allowed is {FORMAT}")
    rates = values.get("rates")
    if not isinstance(rates, list) or not rates:
        raise UsageError(f"{wrong}: rates is {rates!r}; allowed is a list with at least one rate")
    made = [_record(Rate, rate, f"{wrong}: rates[{n}]") for n, rate in enumerate(rates)]
    for n, rate in enumerate(made):
        for field, holds in (("objects", rate.objects >= 1), ("lanes", rate.lanes >= 1),
                             ("frames_per_s", rate.frames_per_s > 0)):  # fmt: skip
            if not holds:
                raise UsageError(
                    f"{wrong}: rates[{n}].{field} is {getattr(rate, field)!r}; allowed is a number above 0"
                )
    pairs = [(rate.objects, rate.lanes) for rate in made]
    if twice := next((pair for n, pair in enumerate(pairs) if pair in pairs[:n]), None):
        raise UsageError(f"{wrong}: {twice[0]} objects in {twice[1]} lanes are in two rates")
    found = _record(Calibration, {**values, "rates": made}, wrong)
    if found.actors < 1:
        raise UsageError(f"{wrong}: actors is {found.actors!r}; allowed is 1 or more")
    return found


_TYPES: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), bool: (bool,), Dtype: (str,)}


def _record(kind: Any, values: object, where: str) -> Any:
    """A dataclass from a JSON object; unknown fields are those of a later release and are left out."""
    if not isinstance(values, dict):
        raise UsageError(f"{where} is {values!r}; allowed is an object")
    for field in fields(kind):
        if field.name not in values:
            raise UsageError(f"{where}: {field.name} is missing")
        value, types = values[field.name], _TYPES.get(field.type, (dict, list))
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise UsageError(f"{where}: {field.name} is {value!r}; allowed is {' or '.join(t.__name__ for t in types)}")
        if isinstance(value, float) and not np.isfinite(value):
            raise UsageError(f"{where}: {field.name} is {value!r}; allowed is a finite number")
    return kind(**{field.name: values[field.name] for field in fields(kind)})
