"""The Ray that a run uses: a cluster to join, or a local one of its own."""

import logging
import math
import os
from dataclasses import dataclass
from typing import Any, Literal

import ray

from pipeline.errors import CorpusError

log = logging.getLogger(__name__)

LOCAL_STARTS = 4


class PoolError(CorpusError):
    """Workers cannot be started, so the run cannot go on."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each actor reserves, and how many there may be."""

    actors: int
    cpus: float
    gpus: float
    """GPUs an actor reserves; a fraction shares one."""


def start_local(**options: Any) -> None:
    """Start a Ray of this process's own. One that has not come up within Ray's half minute is tried again.

    Raises:
        PoolError: It does not come up.
    """
    # It tells at every start that a token is in use, on a Ray that nobody else can reach.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    for left in reversed(range(LOCAL_STARTS)):
        try:
            # "local", since without an address Ray would join any cluster that it finds running on this machine.
            ray.init(
                "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                object_store_memory=100_000_000,  # only small messages pass
                **options,
            )
            return
        except Exception as error:  # Ray has no class for it
            if "timed out during startup" not in str(error):
                raise
            if not left:
                raise PoolError(f"Ray does not start on this machine; is it overloaded? ({error})") from error
            log.warning("Ray has not come up yet; trying again")
            ray.shutdown()


def connect(
    address: str | None, *, cpus: float, gpus: float | None, actors: int | None, device: Literal["auto", "cpu", "cuda"]
) -> Resources:
    """Join the Ray cluster at `address` (or RAY_ADDRESS), or start a Ray of this process's own; settle what actors get.

    Actors get one GPU each where `gpus` is not given and there are GPUs, unless the device is the CPU; there is one
    actor for each of the cluster's GPUs, or two without, where `actors` is not given.

    Raises:
        PoolError: A local Ray has fewer GPUs than one actor asks for.
    """
    local = not (address or os.environ.get("RAY_ADDRESS"))
    if not ray.is_initialized():
        if local:
            start_local(num_cpus=max(os.cpu_count() or 1, math.ceil(cpus)))
        else:
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
    there = ray.cluster_resources().get("GPU", 0)
    if gpus is None:
        gpus = 0.0 if device == "cpu" else 1.0 if device == "cuda" or there else 0.0
    if local and gpus > there:
        raise PoolError(f"an actor asks for {gpus:g} GPUs and this machine has {there:g}; try --device cpu")
    return Resources(actors=actors or (max(1, int(there / gpus)) if gpus else 2), cpus=cpus, gpus=gpus)
