"""Find a model's files and digest its weights: what a driver needs to know of a model. Does not import torch."""

import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import ModelError
from pipeline.tracking.families import FAMILIES

logger = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parents[1] / "demo" / "embedded"
HUB_TIMEOUT_S = 15.0
"""The hub counts as unreachable if it does not answer within this time."""

FILES = ("config.json", "*processor_config.json", "*.safetensors", "*.safetensors.index.json")
"""Patterns of the files of a checkpoint that are downloaded."""
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_ALLOWED = (
    "a model is `embedded`, a folder with config.json and safetensors, or a hub id such as facebook/sam2.1-hiera-tiny"
)

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""The names of tensor types in safetensors files and in digests."""
_READ_BYTES = 2**24

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    name: str
    """The name that the user gave."""
    model_type: str
    """A key of `FAMILIES`."""
    folder: Path
    digest: str
    """sha256 of the weights and of the settings that change masks. It does not depend on the name or the folder."""
    object_cost: float = 0.0
    """Estimated cost of tracking one object on a frame, in units of a frame's fixed cost; 0 for a detector."""
    memory_bytes: int = 0
    """Bytes of the memory of one object on one frame; 0 for a detector."""


def resolve(name: str, *, revision: str | None = None, timeout_s: float = HUB_TIMEOUT_S) -> ResolvedModel:
    """Find a model's files, downloading them when `name` is a hub id, and digest its weights. Loads nothing."""
    folder = find_folder(name, revision=revision, timeout_s=timeout_s)
    config = read_config(folder, name)
    kind = config.get("model_type")
    if kind not in FAMILIES:
        allowed = ", ".join(f"{key!r} ({family.title})" for key, family in FAMILIES.items())
        raise ModelError(f"Model {name} at {folder} has model_type {kind!r}. Supported values are {allowed}.")
    family = FAMILIES[kind]
    digest = digest_weights(folder, _settings(folder, config), name, tensor_name=family.tracker_tensor)
    tracker = family.tracker_config(config)
    return ResolvedModel(
        name=name,
        model_type=kind,
        folder=folder,
        digest=digest,
        object_cost=family.object_cost(tracker),
        memory_bytes=family.memory_bytes(tracker),
    )


def find_folder(
    name: str,
    *,
    revision: str | None = None,
    timeout_s: float = HUB_TIMEOUT_S,
    files: Sequence[str] = FILES,
) -> Path:
    """The folder of a checkpoint; files that match `files` are downloaded where `name` is a hub id.

    Raises:
        ModelError: There is no such folder or hub id, or the hub cannot be reached.
    """
    if name == "embedded":
        return EMBEDDED
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(name):
        raise ModelError(f"No model folder at {name}; {_ALLOWED}.")
    return _download(name, revision, timeout_s, list(files))


def _download(name: str, revision: str | None, timeout_s: float, files: list[str]) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs every retry, also after our deadline

    def cached() -> Path | None:
        try:
            return Path(snapshot_download(name, revision=revision, allow_patterns=files, local_files_only=True))
        except (OSError, ValueError):
            return None

    at = f"{name}@{revision}" if revision else name
    try:
        # The hub's client retries an unreachable hub for minutes, so one small file is requested with a deadline first.
        _within(timeout_s, lambda: hf_hub_download(name, "config.json", revision=revision, etag_timeout=timeout_s))
        return Path(snapshot_download(name, revision=revision, allow_patterns=files, etag_timeout=timeout_s))
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
    """The call's result, or TimeoutError; a call that takes longer goes on in a daemon thread."""
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


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The settings in config.json; {} where it holds no object.

    Raises:
        ModelError: It is missing or damaged.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise ModelError(f"Model {name}: no config.json in {folder}; {_ALLOWED}.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"Model {name}: {path} is not readable JSON: {first_line(error)}") from error
    return dict(config) if isinstance(config, dict) else {}


def digest_weights(
    folder: Path, settings: Mapping[str, Any], name: str, *, tensor_name: Callable[[str], str | None] = str
) -> str:
    """sha256 over the settings and the model's tensors: name, dtype, shape and bytes, in the order of names.

    `tensor_name` is the model's name of a tensor of the checkpoint; None for one that the model does not have.

    Raises:
        ModelError: There are no safetensors, or they are damaged.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"Model {name}: no *.safetensors in {folder} (pickled weights are not loaded).")
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    try:
        where = {
            key: (path, tensor)
            for path in files
            for stored, tensor in _tensors(path).items()
            if (key := tensor_name(stored)) is not None
        }
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
    """Type, shape, offset and size in bytes of each tensor of a safetensors file, from its header.

    Raises:
        ValueError: The file is damaged: its tensors do not fill it exactly.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{path.name} is shorter than its header states")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    found = {}
    for key, tensor in header.items():
        start, end = tensor["data_offsets"]
        found[key] = (tensor["dtype"], tuple(tensor["shape"]), 8 + length + start, end - start)
    if 8 + length + sum(size for *_, size in found.values()) != path.stat().st_size:
        raise ValueError(f"{path.name} does not have the length that its header states")
    return found


def _settings(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    family = FAMILIES[config["model_type"]]
    settings: dict[str, Any] = {"family": family.name_in_digest} if family.name_in_digest else {}
    tracker = family.tracker_config(config)
    for part, keys in family.config_in_digest.items():
        values: Any = tracker
        for step in filter(None, part.split(".")):
            values = values.get(step) or {}
        settings[part] = {key: values[key] for key in keys.split() if key in values}
    processor: Any = {}
    for file, inner in (("processor_config.json", "video_processor"), ("video_preprocessor_config.json", None)):
        if (folder / file).is_file():
            read = json.loads((folder / file).read_text())
            processor = read.get(inner, {}) if inner else read
            break
    settings["processor"] = {key: processor[key] for key in family.processor_in_digest.split() if key in processor}
    return settings


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
