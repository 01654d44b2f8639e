"""The ranges of dependencies whose internals this project uses."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def declared(name: str) -> Requirement:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (found,) = (r for r in map(Requirement, project["dependencies"]) if r.name == name)
    return found


def pinned(name: str) -> str:
    (line,) = (x for x in (ROOT / "constraints.txt").read_text().splitlines() if x.startswith(f"{name}=="))
    return line.partition("==")[2]


@pytest.mark.parametrize(
    ("name", "untested"), [("ray", ("2.58.1", "2.61.0", "3.0.0")), ("transformers", ("5.18.0", "5.19.0", "6.0.0"))]
)
def test_a_range_has_the_pin_and_no_version_known_to_fail(name: str, untested: tuple[str, ...]) -> None:
    assert declared(name).specifier.contains(pinned(name))
    assert not [version for version in untested if declared(name).specifier.contains(version)]
