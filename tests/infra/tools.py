"""Programs that the tests of infra/ use, and how a test goes without them."""

import os
import shutil
from pathlib import Path

import pytest

INFRA = Path(__file__).parents[2] / "infra"


def program(name: str, package: str) -> str:
    """Path of a program; skips the test, with the package that has it, where it is absent."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"no {name} here; it is in {package}")
    return found


def folder_of(variable: str, what: str) -> Path:
    """A folder that an environment variable names; skips the test where it is not set."""
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"set {variable} to {what}")
    return Path(value)
