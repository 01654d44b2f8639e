"""Imports point one way, and each outside world has one door."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

DOORS = {
    "ray": {f"pipeline/{name}.py" for name in ("actor", "cluster", "deaths", "pool", "metrics")},
    "transformers": {"pipeline/model.py", "pipeline/tracking", "pipeline/demo"},
    "fsspec": {"pipeline/store"},
    "s3fs": {"pipeline/store"},
    "deltalake": {"pipeline/publish", "pipeline/query.py"},
    "av": {"pipeline/video", "pipeline/demo"},
}
"""Which rooms of pipeline/ may import what."""

LAYERS = [
    {"errors", "rle", "parquet"},
    {"store", "video", "manifest", "labels", "modelfiles", "model", "tracking"},
    {
        "plan",
        "config",
        "policy",
        "actions",
        "attempts",
        "prompts",
        "passes",
        "checkpoint",
        "lease",
        "shards",
        "quarantine",
        "metrics",
        "logs",
        "cluster",
        "deaths",
        "actor",
        "task",
        "frames",
        "imagefolder",
        "content",
    },
    {"labeler", "pool", "publish", "query"},
    {"prepare", "progress", "record", "stops", "doctor", "forget", "run"},
]
"""The labelling path, lowest first: a room imports its own layer and those below."""


def imports(path):
    """Modules that a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("package", DOORS)
def test_each_outside_world_has_one_door(package):
    inside = [
        path.relative_to(ROOT).as_posix()
        for path in files("pipeline")
        if any(name.split(".")[0] == package for name in imports(path))
    ]
    strangers = [path for path in inside if not any(path.startswith(door) for door in DOORS[package])]
    assert inside, f"nothing imports {package}: is the rule still true?"
    assert not strangers


def test_imports_of_the_labelling_path_point_down():
    level = {room: i for i, rooms in enumerate(LAYERS) for room in rooms}
    wrong = []
    for path in files("pipeline"):
        room = path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py")
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "pipeline" and len(parts) > 1 and level.get(parts[1], 0) > level.get(room, 99):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_the_library_knows_nothing_of_commands():
    assert not [path for path in files("pipeline") if any(name.split(".")[0] == "jobs" for name in imports(path))]


def test_a_driver_starts_without_torch():
    code = "import sys, pipeline.run; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0, "seconds for nothing"


def test_no_parquet_file_is_read_by_threads_that_outlive_the_call():
    calls = [path for path in (*files("pipeline"), *files("jobs")) if "pq.read_table(" in path.read_text()]
    assert calls == [], "pipeline.parquet.read_parquet says why"
