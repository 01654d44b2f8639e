"""What the engine requires of a checkpoint's settings, and the error that names a setting it cannot serve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ModelError

Setting = Callable[[str], Any]
"""The value of a setting by its path in the configuration, nested sections joined by a dot."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    setting: str
    """Path of the setting."""
    allowed: str
    """The values that are served, in words."""
    holds: Callable[[Any, Setting], bool]
    """Whether a value is served. The second argument gives the values of other settings."""
    reference: bool = False
    """Whether transformers' own model serves the other values."""


def at_least(minimum: int, setting: str, *, reference: bool = False) -> Requirement:
    return Requirement(
        setting=setting, allowed=f"{minimum} or more", holds=lambda value, _: value >= minimum, reference=reference
    )


def exactly(value: Any, setting: str, *, reference: bool = False) -> Requirement:
    return Requirement(
        setting=setting, allowed=f"{value!r}", holds=lambda found, _: _plain(found) == value, reference=reference
    )


def same_as(other: str, setting: str) -> Requirement:
    return Requirement(
        setting=setting, allowed=f"the value of {other}", holds=lambda found, of: _plain(found) == _plain(of(other))
    )


def check(config: Any, requirements: Sequence[Requirement], *, name: str, file: str = "config.json") -> None:
    """Check a configuration object of transformers, defaults included.

    Raises:
        ModelError: A setting has a value that the engine does not serve. It names the first one.
    """

    def of(path: str) -> Any:
        value = config
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else getattr(value, step, None)
        return value

    for required in requirements:
        value = of(required.setting)
        if _holds(required, value, of):
            continue
        other_engine = " --engine reference serves other values." if required.reference else ""
        raise ModelError(
            f"Model {name}: {required.setting} is {_plain(value)!r} in {file}; "
            f"the engine serves {required.allowed}.{other_engine}"
        )


def _holds(required: Requirement, value: Any, of: Setting) -> bool:
    try:
        return bool(required.holds(value, of))
    except (TypeError, ValueError, ArithmeticError, LookupError):  # a value of another type
        return False


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
