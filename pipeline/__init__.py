"""sam2-corpus: label large video corpora with SAM 2, from a prompt manifest to queryable mask tables.

from pipeline import label, open_labels

report = label(manifest, "labels", model="facebook/sam2.1-hiera-tiny")
labels = open_labels("labels")
labels.overlay("clip", 30)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the names are imported at their first use, because torch, Ray and DuckDB take seconds
    from pipeline.api.label import label, plan
    from pipeline.api.labels import open_labels
    from pipeline.labels.key import Parameters
    from pipeline.manifest import read_manifest
    from pipeline.runs.config import RunConfig

__all__ = ["Parameters", "RunConfig", "label", "open_labels", "plan", "read_manifest"]

_MODULES = {
    "Parameters": "pipeline.labels.key",
    "RunConfig": "pipeline.runs.config",
    "label": "pipeline.api.label",
    "open_labels": "pipeline.api.labels",
    "plan": "pipeline.api.label",
    "read_manifest": "pipeline.manifest",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
