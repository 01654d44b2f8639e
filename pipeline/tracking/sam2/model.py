"""Load a SAM2 video model with transformers: safetensors only, no remote code."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

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
    """A loaded SAM2 video model and its processor."""

    model: Sam2VideoModel
    """fp32, in evaluation mode, on `device`."""
    processor: Sam2VideoProcessor
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


def load(resolved: ResolvedModel, device: torch.device) -> Sam2:
    """The model in fp32, for inference.

    Raises:
        ModelError: A file cannot be read, or weights are missing.
    """
    name, folder = resolved.name, resolved.folder
    try:
        with no_progress_bar():
            loaded: Any = Sam2VideoModel.from_pretrained(
                folder,
                dtype=torch.float32,  # a half-precision checkpoint would otherwise load as float16
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
            processor = Sam2VideoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ModelError(f"Cannot load model {name} from {folder}: {first_line(error)}") from error
    model, report = loaded
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise ModelError(
            f"Model {name} at {folder} lacks {len(missing)} weights of a SAM2 video model, the first is {missing[0]}."
        )
    return wrap(model, processor, name=name, digest=resolved.digest, device=device)


def wrap(model: Sam2VideoModel, processor: Sam2VideoProcessor, *, name: str, digest: str, device: torch.device) -> Sam2:
    """A `Sam2` of a model that is already in memory."""
    return Sam2(
        model=cast(Any, model).float().eval().requires_grad_(False).to(device),
        processor=processor,
        name=name,
        digest=digest,
        image_size=int(cast(Any, model).config.image_size),
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
