"""A TCP proxy before the S3 server that answers late, and counts the requests that pass."""

import asyncio
import contextlib
import re
import threading
from collections import Counter
from urllib.parse import urlsplit

_REQUEST = re.compile(rb"(?:^|\r\n)(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r\n")


class DelayingProxy:
    """Forwards to `endpoint`; each request waits `delay_s` before it is passed on. A context manager."""

    def __init__(self, endpoint: str, *, delay_s: float) -> None:
        self.delay_s = delay_s
        self.requests: Counter[str] = Counter()
        """By method."""
        self.received = 0
        """Bytes of answers."""
        target = urlsplit(endpoint)
        self._target = (target.hostname or "", target.port or 80)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self.endpoint = ""

    def __enter__(self) -> "DelayingProxy":
        self._thread.start()
        start = asyncio.start_server(self._connection, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reset(self) -> None:
        self.requests.clear()
        self.received = 0

    async def _stop(self) -> None:
        if self._server:
            self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            upstream, downstream = await asyncio.open_connection(*self._target)
            try:
                await asyncio.gather(self._forward(reader, downstream, True), self._forward(upstream, writer, False))
            finally:
                downstream.close()
        with contextlib.suppress(RuntimeError):
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_request: bool) -> None:
        while data := await reader.read(2**18):
            if not is_request:
                self.received += len(data)
            elif found := _REQUEST.findall(data):
                self.requests.update(method.decode() for method, _ in found)
                await asyncio.sleep(self.delay_s)
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
