"""The choice between the fast engine and the reference when a model is loaded."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeVar

import torch

from pipeline.errors import ModelError
from pipeline.tracking import EngineKind, OnDrift
from pipeline.tracking.engine_check import compare_steps, differences
from pipeline.tracking.environment import use_ieee_float32
from pipeline.tracking.reference import ReferenceStepper
from pipeline.tracking.stepping import LoadedModel, Stepper
from pipeline.tracking.verdicts import THIS_MACHINE, Verdicts, check_key

logger = logging.getLogger(__name__)

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The stepper to use, and why it is not the fast one if that was wanted."""

    stepper: Stepper
    warning: str | None = None


def choose_stepper(
    model: LoadedModel,
    *,
    dtype: torch.dtype,
    engine: EngineKind = "fast",
    on_drift: OnDrift = "fallback",
    verdicts: Verdicts = THIS_MACHINE,
) -> Choice:
    """The model's fast stepper if its steps are the reference's on synthetic frames, else the reference.

    Args:
        model: the loaded model.
        dtype: precision of the stepper. The check is always in float32.
        engine: `reference` skips the check.
        on_drift: what happens if the fast stepper cannot be built or differs.
        verdicts: checks that need not be repeated.

    Raises:
        ModelError: The fast stepper differs and `on_drift` is `fail`, transformers' own loop fails as well, or the
            model has a configuration that the fast stepper refuses.
    """
    if model.device.type == "cuda":
        use_ieee_float32()
    reference = ReferenceStepper(model, dtype=dtype)
    if engine == "reference":
        return Choice(stepper=reference)
    fast, drift = _attempt(lambda: model.stepper(dtype=dtype))
    if fast is not None and fast.engine == "reference":
        return Choice(stepper=fast)
    if fast is not None:
        drift = _drift(model, fast if dtype == torch.float32 else None, verdicts)
        if drift is None:
            return Choice(stepper=fast)
    installed = f"transformers {version('transformers')} and torch {torch.__version__}"
    wrong = f"The fast engine does not give transformers' results for model {model.name} with {installed}: {drift}."
    if on_drift == "fail":
        raise ModelError(f"{wrong} Use tested versions (constraints.txt), --on-drift fallback or --engine reference.")
    _require_working(model, reference, wrong)
    warning = f"{wrong} This worker uses the reference engine, which is slower and right; see --on-drift in the README."
    logger.warning(warning)
    return Choice(stepper=reference, warning=warning)


def _drift(model: LoadedModel, fast: Stepper | None, verdicts: Verdicts) -> str | None:
    """What differs, or None. `fast` is the stepper in float32 if there is one already."""
    key = check_key(model)
    if verdicts.passed(key):
        return None
    started = time.perf_counter()
    reference = ReferenceStepper(model, dtype=torch.float32)

    def compare() -> str | None:
        stepper = fast or model.stepper(dtype=torch.float32)
        found = differences(stepper, reference, size=model.image_size)
        return "; ".join(map(str, found[:3])) + (f" and {len(found) - 3} more" if len(found) > 3 else "") or None

    found, error = _attempt(compare)
    seconds = time.perf_counter() - started
    if not (found or error):
        logger.info("The fast engine's steps equal transformers' (checked in %.1f s).", seconds)
        verdicts.add(key, model=model, seconds=seconds)
    return found or error


def _require_working(model: LoadedModel, reference: Stepper, wrong: str) -> None:
    """Run the reference alone.

    Raises:
        ModelError: It fails, so that no engine is left.
    """
    _, error = _attempt(lambda: list(compare_steps(reference, reference, size=model.image_size)))
    if error:
        raise ModelError(f"{wrong} The reference engine fails, too ({error}). Use tested versions (constraints.txt).")


def _attempt(call: Callable[[], Made]) -> tuple[Made | None, str | None]:
    """The call's result, or the error that a changed transformers causes in it, as text."""
    try:
        return call(), None
    except (ModelError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a missing attribute, another shape: transformers may change in any way
        return None, f"{type(error).__name__}: {error}"
