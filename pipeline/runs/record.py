"""Records of a run in OUTPUT/runs/ at its start: name, wanted labels, configuration and versions."""

import json
import platform
import time
from importlib.metadata import version
from typing import Any

from pipeline.runs.prepare import Prepared
from pipeline.storage.parquet import to_parquet
from pipeline.storage.paths import run_path, wanted_path

PACKAGES = ("sam2-corpus", "torch", "transformers", "ray", "av", "pyarrow")


def record_run(prepared: Prepared, run_id: str) -> None:
    """Write the labels that a run wants, which publication uses, and its configuration and versions."""
    plan, store = prepared.plan, prepared.store
    wanted = plan.table.select(["video_id", "label_key"]).filter(plan.table["label_key"].is_valid())
    store.put(wanted_path(run_id), to_parquet(wanted))
    record: dict[str, Any] = {
        "run_id": run_id,
        "configuration": prepared.config.to_dict(),
        "weights_digest": prepared.model.digest,
        "videos": plan.table.num_rows,
        "pending": len(plan.order),
        "reasons": plan.reasons(),
        "returns": prepared.returns,
        "notes": prepared.notes,
        "bad_rows": len(prepared.manifest.bad_rows),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }
    store.put(run_path(run_id), json.dumps(record, indent=1).encode())
