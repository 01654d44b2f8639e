"""Fixtures of the table tests."""

from pathlib import Path

import pytest

from pipeline.storage import Store


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A new output, in a local folder and on S3."""
    return Store(tmp_path / "out" if request.param == "local" else f"{request.getfixturevalue('s3').uri}/out")


@pytest.fixture
def local(tmp_path: Path) -> Store:
    """A new output in a local folder."""
    return Store(tmp_path / "out")
