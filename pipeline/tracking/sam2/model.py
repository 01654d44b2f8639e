"""Load a video model of SAM2's kind with transformers: safetensors only, no remote code."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam2VideoModel, Sam2VideoProcessor
from transformers.utils import logging as transformers_logging

from pipeline.errors import ModelError
from pipeline.tracking.modelfiles import ResolvedModel, first_line
from pipeline.tracking.sam2.step import Sam2Stepper
from pipeline.tracking.transfer import host_buffer


@dataclass(frozen=True, kw_only=True)
class Sam2:
    """A loaded SAM2 video model and its processor. Another family's model is a subclass with a stepper of its own."""

    model: Any
    """transformers' model: fp32, in evaluation mode, on `device`."""
    processor: Any
    """transformers' processor."""
    name: str
    digest: str
    image_size: int
    device: torch.device

    def stepper(self, *, dtype: torch.dtype) -> Sam2Stepper:
        """The model's step, computing in `dtype`."""
        return Sam2Stepper(self, dtype=dtype)

    def resize(self, rgb: NDArray[np.uint8]) -> torch.Tensor:
        """A displayed frame, uint8 (H, W, 3), to uint8 (S, S, 3) on the host, as the video processor resizes it.

        The channels stay innermost: the same bits as with the processor's own layout, in a third to a ninth of the time
        (1080p to 1024 px: 3.6 instead of 18 ms).
        """
        processor = self.processor.video_processor
        frame_hwc = torch.from_numpy(np.ascontiguousarray(rgb))
        resized = processor.resize(
            frame_hwc.permute(2, 0, 1)[None], size=_size(processor.size), resample=processor.resample
        )[0].permute(1, 2, 0)
        if self.device.type == "cpu":
            return resized
        return host_buffer(resized.shape, torch.uint8, self.device).copy_(resized)

    def pixel_values(self) -> torch.Tensor:
        """(3, 256) fp32: the model's input for each byte of each channel, as the video processor computes it.

        The processor rescales and normalises every pixel by itself, so that this table gives the same bits.
        """
        processor = self.processor.video_processor
        every_byte = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256).contiguous()
        values: torch.Tensor = processor.rescale_and_normalize(
            every_byte,
            processor.do_rescale,
            processor.rescale_factor,
            processor.do_normalize,
            tuple(processor.image_mean),
            tuple(processor.image_std),
        )
        return values[0, :, 0].float()


Loaded = TypeVar("Loaded", bound=Sam2)


def load(resolved: ResolvedModel, device: torch.device) -> Sam2:
    """The model in fp32, for inference.

    Raises:
        ModelError: A file cannot be read, or weights are missing.
    """
    model = read_model(resolved, Sam2VideoModel, "SAM2 video model")
    processor = read_processor(resolved, Sam2VideoProcessor)
    return wrap(Sam2, model, processor, name=resolved.name, digest=resolved.digest, device=device)


def read_model(resolved: ResolvedModel, kind: Any, title: str, *, config: Any = None) -> Any:
    """transformers' model of class `kind` in fp32, from the folder's safetensors.

    `config` replaces the folder's config.json.

    Raises:
        ModelError: A file cannot be read, or weights are missing.
    """
    with _load_errors(resolved), no_progress_bar():
        model, report = kind.from_pretrained(
            resolved.folder,
            config=config,
            dtype=torch.float32,  # a half-precision checkpoint would otherwise load as float16
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise ModelError(
            f"Model {resolved.name} at {resolved.folder} lacks {len(missing)} weights of a {title}, "
            f"the first is {missing[0]}."
        )
    return model


def read_processor(resolved: ResolvedModel, kind: Any) -> Any:
    """transformers' processor of class `kind` from the folder.

    Raises:
        ModelError: A file cannot be read.
    """
    with _load_errors(resolved):
        return kind.from_pretrained(resolved.folder, local_files_only=True)


@contextmanager
def _load_errors(resolved: ResolvedModel) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
        raise ModelError(f"Cannot load model {resolved.name} from {resolved.folder}: {first_line(error)}") from error


def wrap(kind: type[Loaded], model: Any, processor: Any, *, name: str, digest: str, device: torch.device) -> Loaded:
    """A `Sam2`, or another `kind`, of a model that is already in memory."""
    return kind(
        model=model.float().eval().requires_grad_(False).to(device),
        processor=processor,
        name=name,
        digest=digest,
        image_size=int(model.config.image_size),
        device=device,
    )


def _size(size: Any) -> Any:
    from transformers.image_utils import SizeDict

    return SizeDict(height=size["height"], width=size["width"])


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Keep transformers' progress bar off stderr."""
    switch: Any = transformers_logging
    was_on = switch.is_progress_bar_enabled()
    switch.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            switch.enable_progress_bar()
