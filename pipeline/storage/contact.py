"""First connection to an endpoint: an unreachable one is reported within seconds, not retried for minutes.

Retries are for servers that are down for a while. A wrong address never responds, and each of hundreds of requests
would retry it. So a process connects to each endpoint once, before the first request.
"""

import os
import socket
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pipeline.errors import StorageError

WAIT_S = 2.0
"""Timeout of the first connection, in seconds."""
REMEMBERED_S = 30.0
"""Time in seconds for which an unreachable endpoint is not tried again."""
_PORTS = {"http": 80, "https": 443}

Address = tuple[str, int]


@dataclass
class _Contact:
    """State of one address."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    reached: bool = False
    problem: str = ""
    failed_at: float = -REMEMBERED_S


_contacts: dict[tuple[int, Address], _Contact] = {}
_outages_expected = False


def expect_outages() -> None:
    """Disable the check in this process, because the process that started it has reached the endpoints."""
    global _outages_expected
    _outages_expected = True


def check_endpoint(url: str) -> None:
    """Connect to the server of a URL, or to its proxy, unless this process has done so before.

    Raises:
        StorageError: It cannot be connected to within WAIT_S.
    """
    if _outages_expected or (address := _address_of(url)) is None:
        return
    contact = _contacts.setdefault((os.getpid(), address), _Contact())
    if contact.reached:
        return
    with contact.lock:
        if not contact.reached and time.monotonic() - contact.failed_at >= REMEMBERED_S:
            contact.problem = _problem_with(address)
            contact.reached, contact.failed_at = not contact.problem, time.monotonic()
        if not contact.reached:
            place = f"{urlsplit(url).scheme}://{urlsplit(url).netloc.rpartition('@')[2]}"
            through = "" if place.endswith((address[0], f":{address[1]}")) else f" through {address[0]}:{address[1]}"
            raise StorageError(
                f"cannot reach {place}{through}: {contact.problem}; check the address "
                "(AWS_ENDPOINT_URL or endpoint in --storage) and that the server runs"
            )


def _address_of(url: str) -> Address | None:
    """Host and port that a client connects to; None if the URL has no host."""
    from botocore.utils import get_environ_proxies

    parts = urlsplit(url)
    if proxy := get_environ_proxies(url).get(parts.scheme):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        return (parts.hostname, parts.port or _PORTS.get(parts.scheme, 443)) if parts.hostname else None
    except ValueError:  # the port is not a number: the client reports it
        return None


def _problem_with(address: Address) -> str:
    """Why a connection to a server fails; "" if it succeeds."""
    found: list[str] = []
    # Without an answer from the name server, getaddrinfo may block for any time.
    prober = threading.Thread(target=lambda: found.append(_connect(address)), name="first contact", daemon=True)
    prober.start()
    prober.join(WAIT_S + 0.5)
    return found[0] if found else f"no answer within {WAIT_S:.0f} s"


def _connect(address: Address) -> str:
    until = time.monotonic() + WAIT_S
    while True:
        left = until - time.monotonic()
        try:
            socket.create_connection(address, timeout=max(0.1, left)).close()
            return ""
        except OSError as error:
            if left <= 0.2:
                return f"no answer within {WAIT_S:.0f} s" if isinstance(error, TimeoutError) else str(error.strerror)
        time.sleep(0.2)
