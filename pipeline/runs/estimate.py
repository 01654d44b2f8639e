"""What the pending videos of a plan take: relative costs, and with a calibration hours and money."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from pipeline.runs.calibration import Calibration
from pipeline.runs.config import RunConfig
from pipeline.runs.plan import Costs, Numbers, Plan


def relative_costs(frames: Numbers, objects: npt.NDArray[np.int64], *, object_cost: float) -> Numbers:
    """Costs in units of a frame without objects; `object_cost` is that of each object on a frame."""
    costs: Numbers = frames * (1 + objects * object_cost)
    return costs


def costs_of(calibration: Calibration | None, *, object_cost: float, lanes: int | None) -> Costs:
    """Seconds of an actor by a calibration; without one, costs relative to each other."""
    if calibration is None:
        return partial(relative_costs, object_cost=object_cost)
    return partial(calibration.seconds, lanes=lanes)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Time and money for the pending videos of a plan, without the start of Ray and of the actors and publication."""

    seconds: float
    """Wall time."""
    actors: int
    actor_hours: float
    gpu_hours: float
    """0 if actors have no GPU."""
    start_s: float
    """Time in which an actor loads the model, once."""
    device: str
    lanes: int
    """Those of the rates that were used."""

    def price(self, per_hour: float) -> float:
        """Cost at a price per GPU and hour, or per actor and hour if actors have no GPU."""
        return per_hour * (self.gpu_hours or self.actor_hours)


def estimate(plan: Plan, calibration: Calibration, config: RunConfig) -> Estimate:
    """The estimate for a plan whose costs are the calibration's seconds.

    The work is divided evenly among the actors, but a run is at least as long as its longest video.
    """
    costs = plan.table["cost"].to_numpy()[plan.tracked] * (2 if config.check_drift else 1)
    actors = config.actors or calibration.actors
    gpus = calibration.gpus_per_actor
    if gpus and config.gpus_per_actor is not None:
        gpus = config.gpus_per_actor
    hours = float(costs.sum()) / 3600
    return Estimate(
        seconds=max(3600 * hours / actors, float(costs.max(initial=0.0))),
        actors=actors,
        actor_hours=hours,
        gpu_hours=hours * gpus,
        start_s=calibration.start_s,
        device=calibration.device,
        lanes=calibration.lanes_for(config.lanes),
    )
