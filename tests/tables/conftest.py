"""Fixtures of the table tests."""

from pathlib import Path

import pytest

from pipeline.storage import Store
from pipeline.tables import publish
from tests.tables.upgrades import NEW, OLD, publish_run, run


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A new output, in a local folder and on S3."""
    return Store(tmp_path / "out" if request.param == "local" else f"{request.getfixturevalue('s3').uri}/out")


@pytest.fixture
def local(tmp_path: Path) -> Store:
    """A new output in a local folder."""
    return Store(tmp_path / "out")


@pytest.fixture
def upgraded(local: Store) -> Store:
    """Two videos labelled with one model, published; then labelled with another one, staged, and published by hand."""
    run(local, OLD, model="v1")
    publish(local)
    publish_run(local, run(local, NEW, model="v2", published=False))
    return local
