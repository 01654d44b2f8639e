"""Find a SAM2 video model's files and digest its weights: what a driver needs to know of a model, without torch."""

import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import ModelError

logger = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parents[1] / "demo" / "embedded"
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

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""What safetensors calls a type, and what digests call it."""
_READ_BYTES = 2**24

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    name: str
    """What the user asked for."""
    folder: Path
    digest: str
    """sha256 of the weights and of the settings that change masks; the name and the place do not enter."""


def resolve(name: str, *, revision: str | None = None, timeout_s: float = HUB_TIMEOUT_S) -> ResolvedModel:
    """Find a model's files, downloading them when `name` is a hub id, and digest its weights. Loads nothing."""
    folder = _find(name, revision, timeout_s)
    config = _read_config(folder, name)
    return ResolvedModel(name=name, folder=folder, digest=_digest(folder, config, name))


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
            raise ModelError(f"The hub refuses model {at}: {first_line(error)} {_ALLOWED.capitalize()}.") from error
        if folder := cached():
            logger.warning("The hub cannot be reached; using the cached copy of %s at %s.", at, folder)
            return folder
        raise ModelError(
            f"Model {name} is no local folder, and the hub could not be reached within {timeout_s:g} s "
            f"({first_line(error)}); {_ALLOWED}."
        ) from error
    except (HFValidationError, ValueError) as error:
        raise ModelError(f"No model {at}: {first_line(error)} {_ALLOWED.capitalize()}.") from error


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
        raise ModelError(f"Model {name}: {path} is not readable JSON: {first_line(error)}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "sam2_video":
        raise ModelError(f"Model {name} at {folder} has model_type {kind!r}; a SAM2 video model has 'sam2_video'.")
    return dict(config)


def _digest(folder: Path, config: Mapping[str, Any], name: str) -> str:
    """sha256 over the checkpoint's tensors (name, dtype, shape, bytes, in name order) and the settings above."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"Model {name}: no *.safetensors in {folder} (pickled weights are not loaded).")
    digest = hashlib.sha256(json.dumps(_settings(folder, config), sort_keys=True).encode())
    try:
        where = {key: (path, tensor) for path in files for key, tensor in _tensors(path).items()}
        for key in sorted(where):
            path, (dtype, shape, start, size) = where[key]
            digest.update(f"{key} torch.{_DTYPES[dtype]} {shape}".encode())
            with path.open("rb") as file:
                file.seek(start)
                for at in range(0, size, _READ_BYTES):
                    digest.update(file.read(min(_READ_BYTES, size - at)))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ModelError(f"Model {name}: cannot read the weights in {folder}: {first_line(error)}") from error
    return digest.hexdigest()


def _tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """Type, shape, place and size in bytes of each tensor of a safetensors file, from its header.

    Raises:
        ValueError: It is damaged: its tensors do not fill it exactly.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{path.name} is shorter than its header says")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    found = {}
    for key, tensor in header.items():
        start, end = tensor["data_offsets"]
        found[key] = (tensor["dtype"], tuple(tensor["shape"]), 8 + length + start, end - start)
    if 8 + length + sum(size for *_, size in found.values()) != path.stat().st_size:
        raise ValueError(f"{path.name} is not as long as its header says")
    return found


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


def first_line(error: BaseException) -> str:
    """What an error says, without the rest of its story."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
