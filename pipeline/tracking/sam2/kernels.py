"""Attention to memories on a GPU, where values are narrower than keys, and the choice of the fastest kernel for it.

Flash kernels want values as wide as keys, so that PyTorch may choose a slower kernel for SAM2's keys of 256 and values
of 64 channels. Which form is fastest depends on the device and the shape; it is measured once per process and shape.
"""

import logging
import math
import threading
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F

from pipeline.errors import ModelError

logger = logging.getLogger(__name__)

Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""softmax(q k) v of (B, H, N, D), (B, H, M, D) and (B, H, M, E), with queries already scaled."""

_PARTS = 4
"""Parts of the keys that `split` attends to side by side."""
_REPEATS = 3
_MEASURED_FROM = 1 << 24
"""Queries x keys of a head from which kernels are compared. At 1024 px it is 2^24 to 2^27."""
SETTING = "SAM2_CORPUS_ATTENTION"
"""The environment variable that forces a kernel in a worker, for debugging."""


def plain(q_bhnd: torch.Tensor, k_bhmd: torch.Tensor, v_bhme: torch.Tensor) -> torch.Tensor:
    """PyTorch's choice for the given widths. It always works."""
    return F.scaled_dot_product_attention(q_bhnd, k_bhmd, v_bhme, scale=1.0)


def padded(q_bhnd: torch.Tensor, k_bhmd: torch.Tensor, v_bhme: torch.Tensor) -> torch.Tensor:
    """Values padded with zeros to the keys' width: more work, in a kernel that may be faster."""
    width = v_bhme.shape[-1]
    wide = F.pad(v_bhme, (0, k_bhmd.shape[-1] - width))
    return F.scaled_dot_product_attention(q_bhnd, k_bhmd, wide, scale=1.0)[..., :width]


def split(q_bhnd: torch.Tensor, k_bhmd: torch.Tensor, v_bhme: torch.Tensor) -> torch.Tensor:
    """Keys in parts that run as a batch, merged by their logsumexp: one object alone then fills a large GPU.

    Each part's result is a softmax over its own keys. Weighted by softmax(logsumexp) over the parts it is the whole.

    Raises:
        RuntimeError: The keys do not divide into parts, or there is no kernel that gives its logsumexp.
    """
    batch, keys = k_bhmd.shape[0], k_bhmd.shape[2]
    if keys % _PARTS:
        raise RuntimeError(f"{keys} keys do not divide into {_PARTS} parts")

    def in_parts(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (_PARTS, -1)).transpose(1, 2).flatten(0, 1)

    q = q_bhnd[:, None].expand(-1, _PARTS, -1, -1, -1).flatten(0, 1)
    out, logsumexp = _with_logsumexp(q, in_parts(k_bhmd), in_parts(v_bhme))
    queries = q_bhnd.shape[2]
    weight = logsumexp[..., :queries].unflatten(0, (batch, _PARTS)).softmax(1)[..., None]
    return (out.unflatten(0, (batch, _PARTS)) * weight).sum(1).to(q_bhnd.dtype)


def _with_logsumexp(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention and (B, H, N) the logarithm of the sum of its exponentials."""
    if q.device.type == "cuda":
        out, logsumexp, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True, scale=1.0)
        return out, logsumexp
    scores = q @ k.transpose(-1, -2)
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


KERNELS: Mapping[str, Kernel] = {"plain": plain, "padded": padded, "split": split}


class KernelChoice:
    """Attends with the fastest kernel for each device, dtype and shape.

    Shapes count as one if they have the same number of tracks and, within a factor of two, the same number of keys. The
    first call of a shape runs every kernel and waits for the device; a kernel that fails is left out. `plain` is used
    for small shapes, and whenever another kernel fails.
    """

    def __init__(
        self,
        measure: Callable[[Callable[[], torch.Tensor]], float] | None = None,
        kernels: Mapping[str, Kernel] = KERNELS,
        measured_from: int = _MEASURED_FROM,
    ) -> None:
        """`measure` gives the seconds of a call, by default from CUDA events."""
        self.forced: str | None = None
        """The name of the kernel to use for every shape; None to measure."""
        self.chosen: dict[tuple[object, ...], str] = {}
        self._measure = measure or device_seconds
        self._kernels = kernels
        self._measured_from = measured_from
        self._lock = threading.Lock()

    def force(self, name: str | None) -> None:
        """Use this kernel for every shape, or measure with None.

        Raises:
            ModelError: There is no such kernel.
        """
        if name is not None and name not in self._kernels:
            raise ModelError(f"Invalid {SETTING} ({name}). Supported values are {', '.join(self._kernels)}.")
        self.forced = name

    def __call__(self, q_bhnd: torch.Tensor, k_bhmd: torch.Tensor, v_bhme: torch.Tensor) -> torch.Tensor:
        name = self.forced or self._choose(q_bhnd, k_bhmd, v_bhme)
        if name != "plain":
            try:
                return self._kernels[name](q_bhnd, k_bhmd, v_bhme)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                if self.forced:
                    raise
                logger.warning("The attention kernel %s failed (%s); using plain.", name, error)
                self.chosen[_shape(q_bhnd, k_bhmd, v_bhme)] = "plain"
        return self._kernels["plain"](q_bhnd, k_bhmd, v_bhme)

    def _choose(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> str:
        if q.shape[2] * k.shape[2] < self._measured_from:
            return "plain"
        shape = _shape(q, k, v)
        with self._lock:
            if shape not in self.chosen:
                self.chosen[shape] = self._fastest(q, k, v)
            return self.chosen[shape]

    def _fastest(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> str:
        seconds = {}
        for name, kernel in self._kernels.items():
            try:
                kernel(q, k, v)  # plans and memory
                seconds[name] = min(self._measure(partial(kernel, q, k, v)) for _ in range(_REPEATS))
            except RuntimeError as error:  # out of memory is one
                logger.info("The attention kernel %s is left out: %s", name, error)
        best = min(seconds, key=seconds.__getitem__, default="plain")
        times = ", ".join(f"{name} {1000 * each:.2f} ms" for name, each in seconds.items())
        logger.info("Attention %s to %s: %s (%s)", tuple(q.shape), tuple(k.shape), best, times)
        return best


def _shape(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[object, ...]:
    return q.device, q.dtype, *q.shape, int(math.log2(k.shape[2])), v.shape[-1]


def device_seconds(call: Callable[[], torch.Tensor]) -> float:
    """Seconds of a call on the current CUDA device."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


attend_memories = KernelChoice()
"""This process's choice."""
