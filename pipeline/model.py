"""Find and load a SAM2 video model: `embedded`, a local folder, or a hub id. Safetensors only, no remote code."""

import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam2VideoModel, Sam2VideoProcessor
from transformers.utils import logging as transformers_logging

from pipeline.errors import ModelError

logger = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parent / "demo" / "embedded"
HUB_TIMEOUT_S = 15.0
"""How long the hub may take to answer before it counts as unreachable."""

_FILES = ["config.json", "*processor_config.json", "*.safetensors", "*.safetensors.index.json"]
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_ALLOWED = (
    "a model is `embedded`, a folder with config.json and safetensors, or a hub id such as facebook/sam2.1-hiera-tiny"
)

_CONFIG_IN_DIGEST = {
    "": (
        "image_size num_maskmem sigmoid_scale_for_mem_enc sigmoid_bias_for_mem_enc enable_occlusion_spatial_embedding "
        "multimask_output_in_sam multimask_min_pt_num multimask_max_pt_num multimask_output_for_tracking "
        "max_object_pointers_in_encoder max_cond_frame_num enable_temporal_pos_encoding_for_object_pointers "
        "memory_attention_num_attention_heads memory_attention_feed_forward_hidden_act mask_downsampler_stride "
        "mask_downsampler_padding mask_downsampler_hidden_act memory_fuser_padding memory_fuser_hidden_act "
        "memory_attention_rope_feat_sizes rope_parameters"
    ),
    "prompt_encoder_config": "image_size patch_size hidden_act layer_norm_eps",
    "mask_decoder_config": (
        "num_attention_heads dynamic_multimask_via_stability dynamic_multimask_stability_delta "
        "dynamic_multimask_stability_thresh"
    ),
    "vision_config": (
        "fpn_kernel_size fpn_stride fpn_padding fpn_top_down_levels num_feature_levels backbone_feature_sizes"
    ),
    "vision_config.backbone_config": (
        "patch_kernel_size patch_stride patch_padding query_stride window_size_per_stage global_attention_blocks "
        "num_attention_heads_per_stage num_query_pool_stages hidden_act layer_norm_eps"
    ),
}
"""What changes masks and does not show in the weights' names and shapes. A fixed list, so that a new transformers
version with more defaults does not relabel a corpus."""

_PROCESSOR_IN_DIGEST = "size resample do_rescale rescale_factor do_normalize image_mean image_std"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    name: str
    """What the user asked for."""
    folder: Path
    digest: str
    """sha256 of the weights and of the settings that change masks; the name and the place do not enter."""


@dataclass(frozen=True, kw_only=True)
class Sam2:
    model: Sam2VideoModel
    """fp32, in evaluation mode, on `device`."""
    processor: Sam2VideoProcessor
    name: str
    digest: str
    image_size: int
    device: torch.device

    def preprocess(self, rgb: NDArray[np.uint8]) -> torch.Tensor:
        """A displayed frame, uint8 (H, W, 3), to fp32 (3, S, S) on the CPU: bit-identical to the video processor."""
        processor = self.processor.video_processor
        frame = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1).contiguous()[None]
        frame = processor.resize(frame, size=_size(processor.size), resample=processor.resample)
        pixels: torch.Tensor = processor.rescale_and_normalize(
            frame,
            processor.do_rescale,
            processor.rescale_factor,
            processor.do_normalize,
            tuple(processor.image_mean),
            tuple(processor.image_std),
        )
        return pixels[0]


def resolve(name: str, *, revision: str | None = None, timeout_s: float = HUB_TIMEOUT_S) -> ResolvedModel:
    """Find a model's files, downloading them when `name` is a hub id, and digest its weights. Loads nothing."""
    folder = _find(name, revision, timeout_s)
    config = _read_config(folder, name)
    return ResolvedModel(name=name, folder=folder, digest=_digest(folder, config, name))


def load(name: str, *, revision: str | None = None, device: str = "auto", timeout_s: float = HUB_TIMEOUT_S) -> Sam2:
    """Load a model in fp32 for inference. `device` is `auto` (CUDA where there is one), `cpu` or `cuda`."""
    place = _device(device)
    resolved = resolve(name, revision=revision, timeout_s=timeout_s)
    try:
        with _quiet():
            loaded: Any = Sam2VideoModel.from_pretrained(
                resolved.folder,
                dtype=torch.float32,  # a half-precision checkpoint would otherwise load as float16
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
            processor = Sam2VideoProcessor.from_pretrained(resolved.folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ModelError(f"Cannot load model {name} from {resolved.folder}: {_first_line(error)}") from error
    model, report = loaded
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise ModelError(
            f"Model {name} at {resolved.folder} lacks {len(missing)} weights of a SAM2 video model, "
            f"the first is {missing[0]}."
        )
    return wrap(model, processor, name=name, digest=resolved.digest, device=place)


def wrap(model: Sam2VideoModel, processor: Sam2VideoProcessor, *, name: str, digest: str, device: torch.device) -> Sam2:
    """A Sam2 around a model that is already in memory."""
    return Sam2(
        model=cast(Any, model).float().eval().requires_grad_(False).to(device),
        processor=processor,
        name=name,
        digest=digest,
        image_size=int(cast(Any, model).config.image_size),
        device=device,
    )


def _find(name: str, revision: str | None, timeout_s: float) -> Path:
    if name == "embedded":
        return EMBEDDED
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(name):
        raise ModelError(f"No model folder at {name}; {_ALLOWED}.")
    return _download(name, revision, timeout_s)


def _download(name: str, revision: str | None, timeout_s: float) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry, also after our deadline

    def cached() -> Path | None:
        try:
            return Path(snapshot_download(name, revision=revision, allow_patterns=_FILES, local_files_only=True))
        except (OSError, ValueError):
            return None

    at = f"{name}@{revision}" if revision else name
    try:
        # The hub's client retries an unreachable hub for minutes: ask for one small file with a deadline first.
        _within(timeout_s, lambda: hf_hub_download(name, "config.json", revision=revision, etag_timeout=timeout_s))
        return Path(snapshot_download(name, revision=revision, allow_patterns=_FILES, etag_timeout=timeout_s))
    except (TimeoutError, LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            raise ModelError(f"The hub refuses model {at}: {_first_line(error)} {_ALLOWED.capitalize()}.") from error
        if folder := cached():
            logger.warning("The hub cannot be reached; using the cached copy of %s at %s.", at, folder)
            return folder
        raise ModelError(
            f"Model {name} is no local folder, and the hub could not be reached within {timeout_s:g} s "
            f"({_first_line(error)}); {_ALLOWED}."
        ) from error
    except (HFValidationError, ValueError) as error:
        raise ModelError(f"No model {at}: {_first_line(error)} {_ALLOWED.capitalize()}.") from error


def _within(seconds: float, call: Callable[[], T]) -> T:
    """The call's result, or TimeoutError; an overdue call is left behind in a daemon thread."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # handed to the waiting thread
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True, name="hub-request")
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise TimeoutError(f"no answer after {seconds:g} s")
    return outcome[0]


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise ModelError(f"Model {name}: no config.json in {folder}; {_ALLOWED}.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"Model {name}: {path} is not readable JSON: {_first_line(error)}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "sam2_video":
        raise ModelError(f"Model {name} at {folder} has model_type {kind!r}; a SAM2 video model has 'sam2_video'.")
    return dict(config)


def _digest(folder: Path, config: Mapping[str, Any], name: str) -> str:
    """sha256 over the checkpoint's tensors (name, dtype, shape, bytes, in name order) and the settings above."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"Model {name}: no *.safetensors in {folder} (pickled weights are not loaded).")
    digest = hashlib.sha256(json.dumps(_settings(folder, config), sort_keys=True).encode())
    try:
        where: dict[str, Path] = {}
        for path in files:
            with safe_open(path, framework="pt") as weights:
                where |= dict.fromkeys(weights.keys(), path)
        for key in sorted(where):
            with safe_open(where[key], framework="pt") as weights:
                tensor = weights.get_tensor(key).contiguous()
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"Model {name}: cannot read the weights in {folder}: {_first_line(error)}") from error
    return digest.hexdigest()


def _settings(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for part, keys in _CONFIG_IN_DIGEST.items():
        values: Any = config
        for step in filter(None, part.split(".")):
            values = values.get(step) or {}
        settings[part] = {key: values[key] for key in keys.split() if key in values}
    processor: Any = {}
    for file, inner in (("processor_config.json", "video_processor"), ("video_preprocessor_config.json", None)):
        if (folder / file).is_file():
            read = json.loads((folder / file).read_text())
            processor = read.get(inner, {}) if inner else read
            break
    settings["processor"] = {key: processor[key] for key in _PROCESSOR_IN_DIGEST.split() if key in processor}
    return settings


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda") and not re.fullmatch(r"cuda:\d+", name):
        raise ModelError(f"Invalid device ({name}). Supported values are auto, cpu, cuda.")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not torch.cuda.is_available():
        raise ModelError(f"Device {name} was asked for, but PyTorch sees no CUDA device; use cpu or auto.")
    return torch.device(name)


def _size(size: Any) -> Any:
    from transformers.image_utils import SizeDict

    return SizeDict(height=size["height"], width=size["width"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar on stderr."""
    switch: Any = transformers_logging
    was_on = switch.is_progress_bar_enabled()
    switch.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            switch.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
