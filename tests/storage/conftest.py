"""A store of every backend."""

import uuid
from pathlib import Path

import pytest

from pipeline.storage import Store

BACKENDS = ["local", "memory", "s3"]


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return Store(f"{request.getfixturevalue('s3').uri}/out", retry_budget_s=10)
    return Store(tmp_path / "out" if request.param == "local" else f"memory://{uuid.uuid4().hex}/out")
