"""What a worker's process imports: the labeler and its libraries, not the driver and its tables."""

import json
import subprocess
import sys

DRIVER_ROOMS = ("runs", "tables", "formats", "views")
DRIVER_ONLY = {"duckdb", "deltalake", "jinja2", *(f"pipeline.{room}" for room in DRIVER_ROOMS)}

WORKER = """
import json, sys
from pipeline.workers.actor import Actor
from pipeline.workers.loading import load_labeler
from pipeline.workers.task import Task
before = list(sys.modules)
import pipeline.workers.labeler
print(json.dumps([before, list(sys.modules)]))
"""


def test_a_worker_imports_neither_driver_nor_tables_and_torch_only_with_the_labeler():
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=True)
    at_start, with_labeler = (set(names) for names in json.loads(done.stdout.splitlines()[-1]))
    assert not at_start & ({"torch", "transformers"} | DRIVER_ONLY)
    assert not with_labeler & DRIVER_ONLY
    assert "torch" in with_labeler
