"""A transformers that differs in a few lines from the installed one, as another release might."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.models.sam2_video import modeling_sam2_video

from pipeline.tracking.sam2.model import Sam2, wrap


def patched_module(changes: Mapping[str, str], name: str = "modeling_patched") -> Any:
    """transformers' module of the SAM2 video model with these texts replaced; each must be in it."""
    text = Path(modeling_sam2_video.__file__).read_text()
    for old, new in changes.items():
        assert old in text, f"transformers has no {old!r}"
        text = text.replace(old, new)
    full_name = f"{modeling_sam2_video.__package__}.{name}"
    spec = importlib.util.spec_from_loader(full_name, loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = modeling_sam2_video.__file__
    module.__package__ = modeling_sam2_video.__package__
    sys.modules[full_name] = module
    exec(compile(text, full_name, "exec"), module.__dict__)
    return module


def patched(sam2: Sam2, changes: Mapping[str, str]) -> Sam2:
    """The model with the weights of `sam2`, on a patched transformers."""
    theirs: Any = sam2.model
    model = patched_module(changes).Sam2VideoModel(theirs.config)
    model.load_state_dict(theirs.state_dict(), strict=False)
    return wrap(Sam2, model, sam2.processor, name=sam2.name, digest=sam2.digest, device=sam2.device)
