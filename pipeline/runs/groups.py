"""Groups of workers of one run: workers on nodes of different kinds, such as small and large GPUs."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from pipeline.errors import UsageError

GIB = 1 << 30
BASE_BYTES = 4 * GIB
"""Predicted memory of a worker without objects: the model, and the frames that it encodes."""
BYTES_PER_OBJECT = 32 << 20
"""Predicted memory of an object of a video of 1080p in float32, by the sizes of its tensors: seven memories of 64 x 64
x 64 values (7 MiB), its mask at the size of the video before and after postprocessing (16 MiB), the rest decoding."""


@dataclass(frozen=True, kw_only=True)
class WorkerGroup:
    """Workers of one kind, which run on nodes with a label.

    Raises:
        UsageError: A value is not allowed.
    """

    name: str
    label: str | None = None
    """KEY=VALUE of Ray's node labels; None for any node."""
    gpus: float | None = None
    """GPUs reserved per worker (default: 1, on CPUs 0)."""
    actors: int | None = None
    """Number of workers (default: one per GPU of the nodes with the label)."""
    lanes: int | None = None
    """Videos that one worker labels at a time (default: that of the run)."""
    memory: float | None = None
    """GiB of memory of the worker's device."""

    def __post_init__(self) -> None:
        self._require("name", re.fullmatch(r"[a-z][a-z0-9-]{0,31}", self.name), "lower-case letters, digits and -")
        key, _, value = (self.label or "").partition("=")
        self._require("label", self.label is None or (key and value), "KEY=VALUE, a label of Ray's nodes")
        self._require("gpus", self.gpus is None or 0 <= self.gpus <= 1, "0 to 1")
        self._require("actors", self.actors is None or self.actors >= 1, "1 or more")
        self._require("lanes", self.lanes is None or 1 <= self.lanes <= 256, "1 to 256")
        self._require("memory", self.memory is None or self.memory > 0, "GiB above 0")

    def _require(self, name: str, holds: object, allowed: str) -> None:
        if not holds:
            raise UsageError(f"{name} of worker group {self.name!r} is {getattr(self, name)!r}; allowed: {allowed}")

    @classmethod
    def parse(cls, text: str) -> "WorkerGroup":
        """A group from text such as `name=large,gpus=1,label=ray.io/accelerator-type=H200,memory=141`.

        Raises:
            UsageError: A name is unknown or given twice, a value is no number, or the name of the group is missing.
        """
        given: dict[str, str] = {}
        for item in text.split(","):
            name, _, value = item.strip().partition("=")
            if name not in _TYPES or name in given or not value:
                raise UsageError(
                    f"worker group {text!r} is not understood at {item.strip()!r}; write NAME=VALUE,NAME=VALUE with "
                    f"the names {', '.join(_TYPES)}, each at most once"
                )
            given[name] = value
        if "name" not in given:
            raise UsageError(f"worker group {text!r} has no name; begin it with name=...")
        try:
            values = {name: _TYPES[name](value) for name, value in given.items()}
        except ValueError as error:
            raise UsageError(f"worker group {text!r} has a value that is no number: {error}") from None
        return cls(**values)


_TYPES = {"name": str, "label": str, "gpus": float, "actors": int, "lanes": int, "memory": float}
assert list(_TYPES) == [field.name for field in fields(WorkerGroup)]


def check_groups(groups: Sequence[WorkerGroup]) -> None:
    """
    Raises:
        UsageError: Two groups have one name, or only some say how much memory they have.
    """
    names = [group.name for group in groups]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two worker groups are named {name!r}; give each its own name")
    without = [group.name for group in groups if group.memory is None]
    if without and len(without) < len(groups):
        raise UsageError(
            f"worker group {without[0]!r} has no memory=GIB, but others have; give it to all groups, or to none"
        )


def sorted_groups(groups: Iterable[WorkerGroup]) -> tuple[WorkerGroup, ...]:
    """The groups, smallest first: by their memory, or in the order given where they do not say it."""
    return tuple(sorted(groups, key=lambda group: group.memory or 0.0))


def smallest_groups(groups: Sequence[WorkerGroup], objects: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """For every video the place of the smallest group whose memory it fits; None without groups, or their memory.

    A video that fits no group gets the largest one.

    Args:
        groups: smallest first.
        objects: number of objects of every video.
    """
    if not groups or groups[0].memory is None:
        return None
    held = np.array([(group.memory or 0.0) * GIB for group in groups])
    predicted = BASE_BYTES + objects * BYTES_PER_OBJECT
    return np.minimum(np.searchsorted(held, predicted), len(groups) - 1)


def describe_groups(groups: Sequence[WorkerGroup], objects: npt.NDArray[np.int64]) -> Iterator[str]:
    """A line for each group that some videos do not fit.

    Args:
        groups: smallest first.
        objects: number of objects of every pending video.
    """
    smallest = smallest_groups(groups, objects)
    if smallest is None:
        return
    for place, group in enumerate(groups):
        if too_large := int(np.count_nonzero(smallest > place)):
            yield (
                f"worker group {group.name} gets {len(objects) - too_large} of {len(objects)} pending videos: the "
                f"others need more than {group.memory:g} GiB by their number of objects"
            )
