"""Which models' fast engines were found equal to the reference, in this process and on this machine."""

import hashlib
import inspect
import json
import logging
import os
from pathlib import Path

import torch

from pipeline.tracking.environment import environment
from pipeline.tracking.stepping import LoadedModel

logger = logging.getLogger(__name__)

SLOW_S = 2.0
"""Seconds from which a check is worth a file: only large models on a CPU take as long."""


class Verdicts:
    """Checks that were passed. Each is identified by everything it depends on; what fails is checked again.

    Args:
        folder: where slow checks are kept on this machine, or None for nowhere.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._passed: set[str] = set()

    def passed(self, key: str) -> bool:
        """Whether a check with this key was passed."""
        return key in self._passed or (self._folder is not None and (self._folder / f"{key}.json").is_file())

    def add(self, key: str, *, model: LoadedModel, seconds: float) -> None:
        """Note a check that was passed; one that took `SLOW_S` is kept for other processes, if that is possible."""
        self._passed.add(key)
        if self._folder is None or seconds < SLOW_S:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            about = {"model": model.name, "seconds": round(seconds, 1), **environment(model.device)}
            (self._folder / f"{key}.json").write_text(json.dumps(about, indent=1))
        except OSError as error:
            logger.info("The engine check is repeated in every worker, because %s cannot be written.", error.filename)


def check_key(model: LoadedModel) -> str:
    """Identifies a check: weights, device, the versions of PyTorch and transformers, and the code of both engines."""
    about = [model.digest, model.image_size, environment(model.device), torch.backends.cpu.get_cpu_capability()]
    digest = hashlib.sha256(json.dumps(about).encode())
    modules = {
        inspect.getfile(type(part))
        for part in (*model.model.modules(), model.processor, model.processor.video_processor)
    }
    for path in sorted([Path(name) for name in modules] + [*Path(__file__).parent.rglob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _cache_folder() -> Path | None:
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home directory
        return None
    return home / "sam2-corpus" / "engine-checks"


THIS_MACHINE = Verdicts(_cache_folder())
