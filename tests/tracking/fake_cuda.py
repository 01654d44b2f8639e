"""Counts of the CUDA path at the sizes of real models: fake tensors on "cuda" have shapes and no data.

Launches, bytes up and down, and live memory, counted by a dispatch mode in the thread of the steps.
"""

import contextlib
import dataclasses
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.tracking import Engine
from pipeline.tracking.sam2.step import Sam2Stepper
from tests.tracking import models
from tests.tracking import videos as v
from tests.tracking.pretended_cuda import Event, Stream, current_stream, use_stream

HEIGHT, WIDTH = 1080, 1920
_NO_KERNEL = ("aten.empty", "aten.new_empty", "aten.view_as_complex", "aten.view_as_real", "prim.")


class Counts(TorchDispatchMode):
    """Kernels and copies on the device, per kind, and the peak of live device memory."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.up = self.live = self.peak = 0
        self._held: set[int] = set()

    def clear(self) -> None:
        self.kernels.clear()
        self.up = 0
        self.peak = self.live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [t for t in _pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        for t in given:
            if isinstance(t, FakeTensor) and t.constant is not None:
                t.constant = None
        name = str(func)
        if kwargs.get("pin_memory"):
            kwargs = {k: value for k, value in kwargs.items() if k != "pin_memory"}
        out = func(*args, **kwargs)
        made = [t for t in _pytree.tree_leaves(out) if isinstance(t, torch.Tensor)]
        if not any(t.device.type == "cuda" for t in made):
            return out
        if name.startswith(("aten._to_copy", "aten.copy_")):
            source = given[1] if name.startswith("aten.copy_") else given[0]
            if source.device.type == "cpu":
                self.up += made[0].numel() * made[0].element_size()
        storages = {t.untyped_storage()._cdata for t in given}
        for t in made:
            if t.device.type == "cuda":
                self.hold(t)
        new = func._schema.is_mutable or any(t.untyped_storage()._cdata not in storages for t in made)
        if new and not name.startswith(_NO_KERNEL):
            self.kernels[name] += 1
        return out

    def hold(self, tensor: torch.Tensor) -> None:
        """Count the tensor's memory as live until PyTorch drops it."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._held:
            self._held.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._held.discard(key)
        self.live -= size


class Frames:
    """Frames of 1024 px without data."""

    height, width = HEIGHT, WIDTH

    def __init__(self, size: int) -> None:
        self._size = size

    def _frame(self) -> torch.Tensor:
        return torch.empty(self._size, self._size, 3, dtype=torch.uint8)

    def forward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        return ((t, self._frame()) for t in range(start, 200))

    def backward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        return ((t, self._frame()) for t in range(start, -1, -1))

    def at(self, indices: Sequence[int]) -> Mapping[int, torch.Tensor]:
        return {t: self._frame() for t in indices}


@dataclasses.dataclass(kw_only=True)
class Steady:
    """Per frame, after warming up."""

    launches: float
    up: float
    kernels: Counter[str]
    peak: int


def steady(config: dict[str, Any], *, objects: int, dtype: torch.dtype, warm: int = 25, frames: int = 8) -> Steady:
    """Counts of a model with this configuration on fake CUDA.

    Args:
        config: of the model.
        objects: tracked objects.
        dtype: of the engine.
        warm: frames before those that are counted; memories are full after 7, pointers after 16.
        frames: counted frames: whole batches of the encoder, which takes 8.
    """
    sam2 = models.random_sam2(config)
    mode, counts = FakeTensorMode(allow_non_fake_inputs=True), Counts()

    class FakeStepper(Sam2Stepper):
        @contextlib.contextmanager
        def inference(self) -> Iterator[None]:
            with super().inference(), mode, counts:
                yield

    with _no_device(), mode:
        sam2.model._apply(lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda"))
        for parameter in [*sam2.model.parameters(), *sam2.model.buffers()]:
            counts.hold(parameter)
        on = models.with_stepper(dataclasses.replace(sam2, device=torch.device("cuda")), FakeStepper)
        objects_ = [v.tracked(n, f0=v.prompt("click", height=HEIGHT, width=WIDTH)) for n in range(objects)]
        with counts, Engine(on, dtype=dtype).propagate(Frames(sam2.image_size), objects_) as propagation:
            for _ in range(warm):
                next(propagation)
            counts.clear()
            for _ in range(frames):
                next(propagation)
    total = counts.kernels.total() / frames
    kernels = Counter({name: n / frames for name, n in counts.kernels.items()})
    return Steady(launches=total, up=counts.up / frames, kernels=kernels, peak=counts.peak)


@contextlib.contextmanager
def _no_device() -> Iterator[None]:
    """PyTorch's CUDA interface where there is no device."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: tensor.clone())
        patch.setattr(torch.Tensor, "is_pinned", lambda *_: True)
        patch.setattr(torch.Tensor, "record_stream", lambda *_: None)
        for name, made in (("Event", Event), ("Stream", Stream), ("stream", use_stream)):
            patch.setattr(torch.cuda, name, made)
        patch.setattr(torch.cuda, "current_stream", current_stream)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            yield
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(before)
