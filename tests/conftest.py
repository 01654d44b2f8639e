"""Fixtures shared by all tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # a local Ray listens on loopback only
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")  # on a small machine it would kill workers

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures_s3"]

settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

SHARED = Path(os.environ.get("SAM2_CORPUS_TEST_FILES", Path(__file__).parents[2] / "shared"))


NO_SHARED = "no folder of real test videos"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real test videos (`videos/`, `hard/`), which is not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(NO_SHARED)
    return SHARED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line how many tests were skipped because the folder of real test videos is missing."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NO_SHARED in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} tests skipped: {NO_SHARED} at {SHARED} (set SAM2_CORPUS_TEST_FILES); "
            "the others test the same on rendered clips"
        )


@pytest.fixture(scope="session")
def _ray_over() -> Iterator[None]:
    yield
    ray = sys.modules.get("ray")
    if ray:
        ray.shutdown()


@pytest.fixture
def local_ray(_ray_over: None) -> None:
    """A running local Ray: one for all tests, because starting it takes seconds, unless a test has ended it."""
    import ray

    from pipeline.workers.cluster import start_local

    if not ray.is_initialized():
        start_local(num_cpus=2)
