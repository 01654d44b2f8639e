"""Clips are encoded once per session."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.video.clips import CLIPS, Clip


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | Clip], Path]:
    """The path of a clip, by its name in CLIPS or made to order."""
    folder = tmp_path_factory.mktemp("clips")
    known = {each.name: each for each in CLIPS}

    def path(wanted: str | Clip) -> Path:
        made = known[wanted] if isinstance(wanted, str) else wanted
        target = folder / made.name
        return target if target.exists() else made.write(folder)

    return path
