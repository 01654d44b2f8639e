"""A TCP proxy before the S3 server that answers late, and now and then as a server or network in trouble does."""

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

_REQUEST = re.compile(rb"(?:^|\r\n)(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_NONE = (
    b"<?xml version='1.0'?><DeleteResult><Error><Key>k</Key><Code>InternalError</Code><Message>We encountered an "
    b"internal error.</Message></Error></DeleteResult>"
)

_DIGEST = b"<?xml version='1.0'?><Error><Code>BadDigest</Code><Message>bad digest</Message></Error>"

Trouble = Literal["refused", "bad digest", "undeleted", "reset", "lost answer", "slow"]
"""A 503; a 400; a deletion of many that deletes none, and says so for a key; a connection reset before the request is
passed on, or after it was served; an answer seconds late."""

SLOW_S = 4.0


class Proxy:
    """Forwards to `endpoint`; each request waits `delay_s` before it is passed on. A context manager.

    Args:
        endpoint: the server's URL.
        delay_s: seconds.
        trouble: given a request, as in "PUT /bucket/key", what is to go wrong with it.
    """

    def __init__(
        self, endpoint: str, *, delay_s: float = 0.0, trouble: Callable[[str], Trouble | None] = lambda _: None
    ) -> None:
        self.delay_s, self._trouble = delay_s, trouble
        self.requests: Counter[str] = Counter()
        """By method."""
        self.troubles: Counter[Trouble] = Counter()
        """What has gone wrong so far."""
        self.received = 0
        """Bytes of answers."""
        target = urlsplit(endpoint)
        self._target = (target.hostname or "", target.port or 80)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        # Streams and loop refer to their readers weakly.
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self.endpoint = ""

    def __enter__(self) -> "Proxy":
        self._thread.start()
        start = asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(60)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reset(self) -> None:
        self.requests.clear()
        self.received = 0

    async def _stop(self) -> None:
        if self._server:
            self._server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:  # one may be accepted meanwhile
            for task, ends in self._connections.items():
                for end in ends:
                    end.transport.abort()  # a peer may never take what waits to be sent
                task.cancel()
            await asyncio.wait(others)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        task = self._loop.create_task(self._connection(reader, ends))
        self._connections[task] = ends
        task.add_done_callback(self._connections.pop)

    async def _connection(self, reader: asyncio.StreamReader, ends: list[asyncio.StreamWriter]) -> None:
        lost, (writer,) = asyncio.Event(), ends
        try:
            upstream, downstream = await asyncio.open_connection(*self._target)
            ends.append(downstream)
            async with asyncio.TaskGroup() as both:  # where one way breaks, the other ends too
                both.create_task(self._requests(reader, downstream, writer, lost))
                both.create_task(self._answers(upstream, writer, lost))
        except* (OSError, EOFError):
            pass
        finally:
            for end in ends:
                end.close()
            for end in ends:
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        downstream: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        lost: asyncio.Event,
    ) -> None:
        while data := await reader.read(2**18):
            for method, path in _REQUEST.findall(data):
                self.requests[method.decode()] += 1
                trouble = self._trouble(f"{method.decode()} {path.decode()}")
                if trouble:
                    self.troubles[trouble] += 1
                match trouble:
                    case "refused":
                        await _answer("503 Slow Down", _BUSY, data, reader, client)
                    case "bad digest":
                        await _answer("400 Bad Request", _DIGEST, data, reader, client)
                    case "undeleted":
                        await _answer("200 OK", _NONE, data, reader, client)
                    case "reset":
                        _reset(client)
                    case "lost answer":
                        lost.set()
                    case "slow":
                        await asyncio.sleep(SLOW_S)
                await asyncio.sleep(self.delay_s)
            downstream.write(data)
            await downstream.drain()
        with contextlib.suppress(OSError):
            downstream.write_eof()

    async def _answers(self, upstream: asyncio.StreamReader, client: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        while data := await upstream.read(2**18):
            self.received += len(data)
            if lost.is_set() and not data.startswith(b"HTTP/1.1 100"):
                _reset(client)
            client.write(data)
            await client.drain()
        with contextlib.suppress(OSError):
            client.write_eof()


async def _answer(
    status: str, said: bytes, data: bytes, reader: asyncio.StreamReader, client: asyncio.StreamWriter
) -> None:
    """Read what the client wants to send, answer instead of the server, and end the connection."""
    head, _, body = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if length and b"100-continue" not in head.lower():
        await reader.readexactly(max(0, int(length[1]) - len(body)))
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(said)}\r\nConnection: close\r\n\r\n".encode()
    client.write(head + said)
    await client.drain()
    raise ConnectionAbortedError


def _reset(client: asyncio.StreamWriter) -> None:
    client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.transport.abort()
    raise ConnectionResetError
