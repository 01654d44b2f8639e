"""The Ray of a run: a cluster that it joins, or a local one that it starts."""

import logging
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray

from pipeline.workers.address import PoolError, check_cluster, is_local

log = logging.getLogger(__name__)

LOCAL_STARTS = 4
"""Attempts to start a local Ray; one fails if Ray has not started within its half minute."""

ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
"""Environment variables of workers' processes; glibc reads this one before any code runs. See also `keep_freed_memory`.

Different threads decode, track and encode, and each video has its own. With one arena per thread, memory freed by one
thread is not reused by the next: it is returned to the kernel and faulted in again, up to 3,000 pages per frame.
"""

CPU_ACTORS = 2
"""Actors where there are no GPUs and no number is given."""

PRELOADED = ["pipeline.workers.labeler", "transformers.modeling_utils"]
"""What the processes of a local Ray import as soon as they start, while the driver waits for Ray."""

_NAMESPACE = "sam2-corpus"
"""Namespace of the driver in a local Ray that `start_local` started."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each actor reserves, and the number of actors."""

    actors: int
    cpus: float
    gpus: float
    """GPUs an actor reserves; a fraction shares one."""
    label: str | None = None
    """KEY=VALUE of the nodes where actors run; None for any node."""

    def options(self) -> dict[str, Any]:
        """Ray's options of such an actor."""
        key, _, value = (self.label or "").partition("=")
        options: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        if key:
            options["label_selector"] = {key: value}
        if ray.get_runtime_context().namespace != _NAMESPACE:  # with an environment, Ray uses no process that waits
            options["runtime_env"] = {"env_vars": ENVIRONMENT}
        return options


def start_local(*, preload: bool = False, **options: Any) -> None:
    """Start a local Ray that ends with this process. A start that times out is repeated.

    Args:
        preload: import what a labeler needs in every process that Ray starts: one per CPU.
        options: further ones of ray.init.

    Raises:
        PoolError: Ray does not start.
    """
    _give_token()
    # Ray warns at every start that a token is in use, although no other machine can reach this Ray.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    if preload:
        options["_system_config"] = {"preload_python_modules": PRELOADED}
    for left in reversed(range(LOCAL_STARTS)):
        try:
            # "local", because without an address Ray joins any cluster that it finds running on this machine.
            with workers_environment():
                ray.init(
                    "local",
                    namespace=_NAMESPACE,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    object_store_memory=100_000_000,  # only small messages pass
                    **options,
                )
            return
        except Exception as error:  # Ray has no class for it
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise PoolError(f"Ray does not start on this machine: {_first_line(error)}") from error
            if not left:
                raise PoolError(f"Ray does not start on this machine; is it overloaded? ({error})") from error
            log.warning("Ray has not started within its time limit; starting it again")


def leave() -> None:
    """Leave the cluster, or end the local Ray, as Ray does at exit but half a second earlier: there it sleeps first."""
    ray.shutdown()


def connect(
    address: str | None,
    *,
    cpus: float,
    gpus: float | None,
    actors: int | None,
    device: Literal["auto", "cpu", "cuda"],
    label: str | None = None,
) -> Resources:
    """Join the Ray cluster at `address` (or RAY_ADDRESS), or start a local Ray; returns what actors reserve.

    Args:
        address: HOST:PORT of the head node, auto for the cluster that runs on this machine, or None.
        cpus: CPUs per actor.
        gpus: GPUs per actor; None for 1 if there are GPUs and the device is not the CPU, else 0.
        actors: number of actors; None for one per GPU of the cluster, or two without GPUs.
        device: where the model runs.
        label: KEY=VALUE of the nodes where actors run, whose GPUs count; None for any node.

    Raises:
        PoolError: Ray cannot be joined or started, a local Ray has fewer GPUs than one actor needs, or no node has the
            label and the number of actors is not given.
    """
    local = is_local(address)
    if not ray.is_initialized():
        if local:
            on_cpu = gpus in (None, 0) and (device == "cpu" or not any(Path("/dev").glob("nvidia[0-9]*")))
            here = os.cpu_count() or 1
            wanted = (
                min(here, (actors or CPU_ACTORS) * cpus) if on_cpu else here
            )  # each process of a CPU's Ray preloads
            start_local(num_cpus=math.ceil(max(wanted, cpus)), preload=on_cpu)
        else:
            _join(address)
    available = ray.cluster_resources().get("GPU", 0) if label is None else _gpus_with(label, local, actors)
    if gpus is None:
        gpus = 0.0 if device == "cpu" else 1.0 if device == "cuda" or available else 0.0
    if local and gpus > available:
        raise PoolError(f"an actor needs {gpus:g} GPUs and this machine has {available:g}; try --device cpu")
    return Resources(
        actors=actors or (max(1, int(available / gpus)) if gpus else CPU_ACTORS), cpus=cpus, gpus=gpus, label=label
    )


def _gpus_with(label: str, local: bool, actors: int | None) -> float:
    """GPUs of the nodes with this label."""
    key, _, value = label.partition("=")
    nodes = [node for node in ray.nodes() if node["Alive"] and node.get("Labels", {}).get(key) == value]
    if not nodes and (local or actors is None):
        raise PoolError(
            f"no node of this Ray has the label {label}; start a node with ray start --labels={label}, or give the "
            "worker group actors=N to wait for N workers on such nodes"
            if not local
            else f"a local Ray has no nodes with the label {label}; worker groups with labels need --address"
        )
    if not nodes:
        log.warning("no node has the label %s now; workers that need it start when one joins", label)
    return float(sum(node["Resources"].get("GPU", 0) for node in nodes))


def _join(address: str | None) -> None:
    check_cluster(address)
    try:
        ray.init(address or "auto", log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # Ray raises RuntimeError, ValueError and ConnectionError here
        where = address or os.environ.get("RAY_ADDRESS")
        raise PoolError(f"cannot join the Ray cluster at {where}: {_first_line(error)}") from error


@contextmanager
def workers_environment() -> Iterator[None]:
    """Within it, processes that are started have ENVIRONMENT."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _give_token() -> None:
    """Set a token for a local Ray, because Ray would write one to the home directory, which may not exist.

    A token or a mode that is set in the environment is kept.
    """
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
