"""Why a worker died, as far as Ray tells."""

import ray
from ray.exceptions import OutOfMemoryError, RayError

from pipeline.labels.attempts import NODE


def cause_of_death(error: RayError, *, node_lost: bool) -> tuple[str, str]:
    """The cause that an attempt is charged to, and what to say: its node was lost, memory ran out, or it was killed."""
    message = " ".join(str(error).split())
    if node_lost or getattr(error, "preempted", False):
        return NODE, f"its node was lost: {message}"
    if isinstance(error, OutOfMemoryError) or "OUT_OF_MEMORY" in message or "low on memory" in message:
        return "oom", message
    detail = message.partition("Worker exit detail: ")[2].partition(". Some common causes")[0]
    return "killed", f"its process ended unexpectedly: {detail or message}"


def living_nodes() -> set[str]:
    """Ids of the cluster's nodes that Ray takes for alive."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def draining_nodes() -> set[str]:
    """Ids of those that are about to be taken away."""
    return set(ray._private.state.state.get_draining_nodes())
