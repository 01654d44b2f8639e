"""Causes that failed attempts are charged to, from the errors of the labeler, of libraries and of Ray."""

import ray
from ray.exceptions import OutOfMemoryError, RayError

from pipeline.errors import CorpusError
from pipeline.workers.scheduler import NODE_LOST

_OUT_OF_MEMORY = (
    "an't allocate memory",  # PyTorch's CPU allocator
    "annot allocate memory",  # ENOMEM
    "std::bad_alloc",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSOLVER
)
_CUDA = (
    "CUDA error",
    "CUDA driver error",
    "cuDNN error",
    "CUDNN_STATUS_",
    "CUBLAS_STATUS_",
    "cusolver error",
    "nvrtc:",
)
"""How PyTorch reports errors of CUDA and its libraries; torch/csrc has no common class for them."""


def cause_of(error: BaseException) -> str:
    """The cause of an exception raised while labelling a video; does not import torch.

    A CorpusError has its own failure class. Other errors are "oom", "cuda", "storage" for any other OSError (a full or
    lost disk, too many open files: the machine's fault), or "exception".
    """
    text = str(error)
    if isinstance(error, CorpusError):
        return error.failure_class
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom"  # pa.ArrowMemoryError is a MemoryError; torch.OutOfMemoryError is a RuntimeError
    if isinstance(error, RuntimeError | OSError) and any(words in text for words in _OUT_OF_MEMORY):
        return "oom"
    if isinstance(error, RuntimeError) and any(words in text for words in _CUDA):
        return "cuda"
    return "storage" if isinstance(error, OSError) else "exception"


def cause_of_death(error: RayError, *, node_lost: bool) -> tuple[str, str]:
    """The cause of a worker's death and its message: the node was lost, memory ran out, or the process was killed."""
    message = " ".join(str(error).split())
    if node_lost or getattr(error, "preempted", False):
        return NODE_LOST, f"its node was lost: {message}"
    if isinstance(error, OutOfMemoryError) or "OUT_OF_MEMORY" in message or "low on memory" in message:
        return "oom", message
    detail = message.partition("Worker exit detail: ")[2].partition(". Some common causes")[0]
    return "killed", f"its process ended unexpectedly: {detail or message}"


def living_nodes() -> set[str]:
    """Ids of the cluster's nodes that are alive."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def draining_nodes() -> set[str]:
    """Ids of the cluster's nodes that are being drained."""
    return set(ray._private.state.state.get_draining_nodes())
