"""The device and the software that compute masks: their precision, and what a videos row records of them."""

from importlib.metadata import version
from pathlib import Path

import torch


def use_ieee_float32() -> None:
    """Compute float32 convolutions and products on CUDA in IEEE single precision, in the whole process.

    PyTorch's default for convolutions is TF32, with 10 instead of 23 bits of mantissa, which changes object logits by
    0.025. bfloat16 products are not affected.
    """
    if hasattr(torch.backends.cudnn, "conv"):
        torch.backends.cudnn.conv.fp32_precision = "ieee"
        torch.backends.cuda.matmul.fp32_precision = "ieee"
    else:  # before torch 2.9
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def environment(device: torch.device) -> dict[str, str | None]:
    """Columns of the videos table. Masks of the same label key may differ by a few pixels between their values."""
    on_gpu = device.type == "cuda"
    return {
        "compute_device": torch.cuda.get_device_name(device) if on_gpu else _cpu_name(),
        "compute_capability": "{}.{}".format(*torch.cuda.get_device_capability(device)) if on_gpu else None,
        "torch_version": torch.__version__,
        "transformers_version": version("transformers"),
        "cuda_version": torch.version.cuda if on_gpu else None,
    }


def _cpu_name() -> str:
    """The CPU's model name, or "cpu" where the system does not tell it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "cpu"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "cpu")
