"""Check that the Ray cluster at an address can be joined, within seconds and without side effects.

`ray.init` waits for minutes and prints C++ log lines if no server listens at the address or a token is missing.
"""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import CorpusError

CONNECT_TIMEOUT_S = 5.0


class PoolError(CorpusError):
    """Workers cannot be started, so the run cannot continue."""


def is_local(address: str | None) -> bool:
    """Whether a run at this address, or that of RAY_ADDRESS, starts its own Ray."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") == "local"


def check_cluster(address: str | None) -> None:
    """Check that Ray can be joined at the address or at RAY_ADDRESS, or started on this machine if there is neither.

    Raises:
        PoolError: It cannot; the message says what to do.
    """
    if is_local(address):
        _check_temp_dir()
        return
    named = address if address and address != "auto" else os.environ.get("RAY_ADDRESS") or "auto"
    host, port = _host_and_port(named if named != "auto" else _running_cluster())
    where = f"the Ray cluster at {host}:{port}"
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise PoolError(
            f"cannot reach {where}: {error.strerror or error}; check --address or RAY_ADDRESS, and the head node"
        ) from None
    _check_answer(f"{host}:{port}", where)


def _host_and_port(address: str) -> tuple[str, int]:
    if "://" in address:
        raise PoolError(
            f"the Ray address is {address!r}; allowed is HOST:PORT of the head node (port 6379 by default), auto or "
            "local. To run on a cluster from outside of it, use jobs.submit"
        )
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise PoolError(f"the Ray address is {address!r}; allowed is HOST:PORT, auto or local")
    return host, port


def _running_cluster() -> str:
    """Address of the cluster that runs on this machine."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address("auto")
    except ConnectionError:
        found = None
    if found is None:
        raise PoolError(
            "no Ray cluster runs on this machine (--address auto): start one with `ray start --head`, or give the "
            "HOST:PORT of its head node, or leave --address out to start a local Ray"
        )
    return str(found)


def _check_answer(address: str, where: str) -> None:
    """Ask the cluster for its id, with the token that Ray would use."""
    import grpc
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
    from ray.exceptions import AuthenticationError

    try:
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        channel = init_grpc_channel(address)
        request = gcs_service_pb2.GetClusterIdRequest()  # type: ignore[attr-defined]
        stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        stub.GetClusterId(request, timeout=CONNECT_TIMEOUT_S)
        channel.close()
    except (grpc.RpcError, AuthenticationError, RuntimeError) as error:
        code = error.code() if isinstance(error, grpc.RpcError) else None
        if code in (None, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            raise PoolError(
                f"{where} does not accept this token, or none is set: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
                "RAY_AUTH_TOKEN_PATH to the cluster's token"
            ) from None
        raise PoolError(
            f"{where} does not answer as a Ray head node ({code.name}); give the head's GCS port (usually 6379), not "
            "the port of the dashboard or of Ray Client"
        ) from None


def _check_temp_dir() -> None:
    """Check that a local Ray can write its session files."""
    folder = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise PoolError(f"Ray cannot write its session files to {folder}; set RAY_TMPDIR to a writable folder")
