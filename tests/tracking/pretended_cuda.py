"""Tensors that say they lie on a GPU and compute on the CPU: CUDA's branches and autocast rules, with real numbers.

Operations that mix devices are refused. Host waits, copies and bytes are logged. Streams are checked: an operation must
be ordered after what made its inputs, by a wait on an event or stream, and memory that another stream uses must be
recorded there. A copy to the host that does not block arrives when its event is waited for, and is garbage before.
"""

import collections
import contextlib
import copy
import dataclasses
import itertools
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.tracking.sam2.model import Sam2
from pipeline.tracking.sam2.step import Sam2Stepper

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
_EMPTY = ("aten.empty", "aten.new_empty")


class Stream:
    """A queue of work in order; `seen` is the work of every stream that is known to be finished before its next."""

    _ids = itertools.count()

    def __init__(self, *_: Any, **__: Any) -> None:
        self.id = next(Stream._ids)
        self.seen: collections.Counter[int] = collections.Counter()
        self.copies: list[Callable[[], object]] = []

    @property
    def device(self) -> torch.device:
        return CUDA

    def launch(self) -> tuple[int, int]:
        self.seen[self.id] += 1
        return self.id, self.seen[self.id]

    def wait_event(self, event: "Event") -> None:
        self.seen |= event.seen

    def wait_stream(self, other: "Stream") -> None:
        self.seen |= other.seen


class Event:
    def __init__(self, **_: Any) -> None:
        self.seen: collections.Counter[int] = collections.Counter()
        self.copies: list[Callable[[], object]] = []

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or current_stream()
        self.seen = collections.Counter(stream.seen)
        self.copies = list(stream.copies)

    def wait(self, stream: Stream | None = None) -> None:
        (stream or current_stream()).wait_event(self)

    def query(self) -> bool:
        return True

    def elapsed_time(self, _: "Event") -> float:
        return 1.0

    def synchronize(self) -> None:
        Log.wait("event.synchronize")
        for arrive in self.copies:
            arrive()


class Log:
    """What happened since `clear`."""

    waits: ClassVar[list[tuple[str, str]]] = []
    up = down = launches = 0
    unsafe: ClassVar[list[str]] = []

    @classmethod
    def clear(cls) -> None:
        cls.waits, cls.unsafe = [], []
        cls.up = cls.down = cls.launches = 0

    @classmethod
    def wait(cls, what: str) -> None:
        cls.waits.append((what, _site()))


def _site() -> str:
    for f in reversed(traceback.extract_stack()):
        if "/pipeline/" in f.filename or "transformers/models" in f.filename:
            return f"{f.filename.split('/pipeline/')[-1].split('/models/')[-1]}:{f.lineno}"
    return "?"


_default = Stream()
_local = threading.local()
_pinned: dict[int, torch.Tensor] = {}


def current_stream(*_: Any) -> Stream:
    return getattr(_local, "stream", _default)


@contextlib.contextmanager
def use_stream(stream: Stream) -> Iterator[None]:
    before, _local.stream = current_stream(), stream
    try:
        yield
    finally:
        _local.stream = before


@dataclasses.dataclass
class Memory:
    """Of a tensor and its views: the stream it was allocated on, where it was used, and the last write."""

    home: Stream
    written: tuple[int, int]
    recorded: set[int] = dataclasses.field(default_factory=set)

    def use(self, stream: Stream, what: str) -> None:
        made_by, at = self.written
        if stream.seen[made_by] < at:
            raise RuntimeError(f"{what} on stream {stream.id} does not wait for stream {made_by}, at {_site()}")
        if stream is not self.home and stream.id not in self.recorded:
            Log.unsafe.append(f"{what} at {_site()}")


class Pretended(torch.Tensor):
    inner: torch.Tensor
    memory: Memory

    @staticmethod
    def __new__(cls, inner: torch.Tensor, memory: Memory | None = None) -> "Pretended":
        with torch._C._DisableTorchDispatch():
            meta = torch.empty_strided(inner.shape, inner.stride(), dtype=inner.dtype, device="meta")
        made = torch.Tensor._make_subclass(cls, meta, False, dispatch_device=True, device_for_backend_keys=CUDA)
        made.inner = inner
        made.memory = memory or Memory(current_stream(), current_stream().launch())
        return made

    def __init__(self, *_: Any) -> None:
        pass

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({tuple(self.shape)}, {self.dtype})"

    @property
    def device(self) -> torch.device:
        return CUDA

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def record_stream(self, stream: Stream) -> None:
        self.memory.recorded.add(stream.id)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return CUDA if func is torch.ops.prim.device.default else _run(func, args, kwargs or {})


class Device(TorchDispatchMode):
    """Makes tensors with device="cuda", and pinned ones, in the thread that enters it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return CUDA if isinstance(args[0], Pretended) else func(*args)
        if kwargs.get("pin_memory") and not _is_cuda(kwargs.get("device")):
            made = func(*args, **{k: v for k, v in kwargs.items() if k != "pin_memory"})
            _pinned[made.untyped_storage().data_ptr()] = made
            return made
        pretended = any(isinstance(a, Pretended) for a in _pytree.tree_leaves((args, kwargs)))
        if _is_cuda(kwargs.get("device")) or pretended:
            return _run(func, args, kwargs)
        return func(*args, **kwargs)


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    name, packet = str(func), func._overloadpacket
    tensors = [a for a in _pytree.tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
    mine = [a for a in tensors if isinstance(a, Pretended)]
    stream = current_stream()
    if not func.is_view:
        for a in mine:
            a.memory.use(stream, name)
    if packet is aten._to_copy:
        return _moved(args[0], kwargs)
    if packet is aten.copy_:
        return _copied(args[0], args[1], bool(args[2] if len(args) > 2 else kwargs.get("non_blocking", False)))
    if packet in (aten._local_scalar_dense, aten.equal, aten.nonzero):
        Log.wait(name)
    if (
        mine
        and packet not in (aten.index, aten.index_put_)
        and any(not isinstance(a, Pretended) and a.dim() > 0 for a in tensors)
    ):
        raise RuntimeError(f"{name}: tensors on cuda and cpu, at {_site()}")
    if packet is aten._fused_sdp_choice:
        return 0  # the plain kernel
    kwargs = {k: v for k, v in kwargs.items() if k != "pin_memory"}
    on_gpu = bool(mine)
    if kwargs.get("device") is not None:
        on_gpu = _is_cuda(kwargs["device"])
        kwargs["device"] = torch.device("cpu")
    inner = _pytree.tree_map(lambda a: a.inner if isinstance(a, Pretended) else a, (args, kwargs))
    out = func(*inner[0], **inner[1])
    if not on_gpu or packet in (aten._local_scalar_dense, aten.equal):
        return out
    if not func.is_view and not name.startswith(_EMPTY):
        Log.launches += 1
    own = {id(a.inner): a for a in mine}

    def wrapped(o: Any) -> Any:
        if not isinstance(o, torch.Tensor):
            return o
        if id(o) in own:
            own[id(o)].memory.written = stream.launch()
            return own[id(o)]
        return Pretended(o, mine[0].memory if func.is_view else None)

    return _pytree.tree_map(wrapped, out)


def _moved(source: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
    device, non_blocking = kwargs.get("device"), kwargs.get("non_blocking", False)
    own = {k: v for k, v in kwargs.items() if k not in ("device", "pin_memory", "non_blocking")}
    inner = source.inner if isinstance(source, Pretended) else source
    out = aten._to_copy(inner, **own)
    to_gpu = _is_cuda(device) if device is not None else isinstance(source, Pretended)
    Log.launches += 1
    size = out.numel() * out.element_size()
    if isinstance(source, Pretended) and not to_gpu:
        Log.down += size
        Log.wait("copy to the host")
    if to_gpu and not isinstance(source, Pretended):
        Log.up += size
        if not (non_blocking and _is_pinned(source)):
            Log.wait("copy of pageable memory")
    return Pretended(out) if to_gpu else out


def _copied(target: torch.Tensor, source: torch.Tensor, non_blocking: bool) -> torch.Tensor:
    Log.launches += 1
    stream = current_stream()
    size = target.numel() * target.element_size()
    if isinstance(target, Pretended):
        inner = source.inner if isinstance(source, Pretended) else source
        target.inner.copy_(inner)
        target.memory.written = stream.launch()
        if not isinstance(source, Pretended) and source.dim() > 0:
            Log.up += size
            if not (non_blocking and _is_pinned(source)):
                Log.wait("copy of pageable memory")
        return target
    assert isinstance(source, Pretended)
    Log.down += size
    if non_blocking and _is_pinned(target):
        kept = source.inner.clone()
        target.fill_(1) if target.dtype == torch.bool else target.fill_(85)
        stream.copies.append(lambda: target.copy_(kept))
    else:
        Log.wait("copy to the host")
        target.copy_(source.inner)
    return target


def _is_pinned(tensor: torch.Tensor) -> bool:
    return tensor.untyped_storage().data_ptr() in _pinned


def _pin(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
    made = tensor.clone()
    _pinned[made.untyped_storage().data_ptr()] = made
    return made


@contextlib.contextmanager
def pretended_cuda() -> Iterator[None]:
    """PyTorch with a GPU that is pretended, in this thread; steps enter `Device` themselves (`on_cuda`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "inference_mode", torch.no_grad)  # its tensors cannot be wrapped
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        for name, made in (("Event", Event), ("Stream", Stream), ("stream", use_stream)):
            patch.setattr(torch.cuda, name, made)
        patch.setattr(torch.cuda, "current_stream", current_stream)
        patch.setattr(torch.Tensor, "pin_memory", _pin)
        patch.setattr(torch.Tensor, "is_pinned", _is_pinned)
        torch._C._ensureCUDADeviceGuardSet()
        precisions = [torch.backends.cudnn.conv, torch.backends.cuda.matmul]
        before = [each.fp32_precision for each in precisions]
        Log.clear()
        try:
            with Device():
                yield
        finally:
            _pinned.clear()
            for each, precision in zip(precisions, before, strict=True):
                each.fp32_precision = precision


class _PretendedStepper(Sam2Stepper):
    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        with super().inference(), Device():
            yield


class _OnCuda(Sam2):
    def stepper(self, *, dtype: torch.dtype) -> Sam2Stepper:
        return _PretendedStepper(self, dtype=dtype)


def on_cuda(sam2: Sam2) -> Sam2:
    """The model as if it were on a GPU. Use it inside `pretended_cuda`."""
    model = copy.deepcopy(sam2.model)
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = Pretended(tensor.detach().clone())
    return _OnCuda(**(vars(sam2) | {"model": model, "device": CUDA}))
