"""Fixtures shared by all tests."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

pytest_plugins = ["tests.fixtures_s3"]

SHARED = Path(os.environ.get("SAM2_CORPUS_TEST_FILES", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real test videos (`videos/`, `hard/`), which is not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder of test videos at {SHARED}; set SAM2_CORPUS_TEST_FILES")
    return SHARED
