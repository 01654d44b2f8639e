"""Load a video model of any family that the engine runs."""

import re

import torch

from pipeline.errors import ModelError
from pipeline.tracking.families import FAMILIES
from pipeline.tracking.modelfiles import HUB_TIMEOUT_S, resolve
from pipeline.tracking.stepping import LoadedModel


def load(
    name: str, *, revision: str | None = None, device: str = "auto", timeout_s: float = HUB_TIMEOUT_S
) -> LoadedModel:
    """The model in fp32, for inference. `device` is `auto` (CUDA if PyTorch sees a device), `cpu` or `cuda`.

    Raises:
        ModelError: The model or the device cannot be found, or the model's weights are incomplete.
    """
    place = device_of(device)
    resolved = resolve(name, revision=revision, timeout_s=timeout_s)
    return FAMILIES[resolved.model_type].load(resolved, place)


def device_of(name: str) -> torch.device:
    """The device of a name: `auto` (CUDA if PyTorch sees a device), `cpu`, `cuda` or `cuda:N`.

    Raises:
        ModelError: There is no such device.
    """
    if name not in ("auto", "cpu", "cuda") and not re.fullmatch(r"cuda:\d+", name):
        raise ModelError(f"Invalid device ({name}). Supported values are auto, cpu, cuda.")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not torch.cuda.is_available():
        raise ModelError(f"Device {name} was requested, but PyTorch sees no CUDA device; use cpu or auto.")
    return torch.device(name)
