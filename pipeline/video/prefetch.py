"""Run an iterator ahead of its consumer in a thread, through a bounded queue."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TypeVar, cast, overload

In = TypeVar("In")
Out = TypeVar("Out")

_END = object()


class Prefetch(Generic[Out]):
    """Iterator over items that a thread makes ahead; closing it, leaving its context or dropping it stops the thread.

    The thread closes the source iterator itself, also when the consumer stops early.
    """

    def __init__(self, iterator: Iterator[In], transform: Callable[[In], Out], depth: int) -> None:
        if depth < 1:
            raise ValueError(f"prefetch depth must be at least 1, not {depth}")
        self._items: queue.Queue[object] = queue.Queue(depth)
        self._stop = threading.Event()
        # The thread must not reference `self`: collecting an abandoned Prefetch stops its thread.
        self._thread = threading.Thread(
            target=_produce, args=(iterator, transform, self._items, self._stop), name="prefetch", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Out:
        if self._stop.is_set():
            raise StopIteration
        item = self._items.get()
        if item is _END:
            self.close()
            raise StopIteration
        if isinstance(item, _Failure):
            self.close()
            raise item.error
        return cast(Out, item)

    def close(self) -> None:
        """Stop the thread, wait for it, and drop the items it made."""
        self._stop.set()
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._items.get_nowait()
            self._thread.join(0.01)
        with suppress(queue.Empty):
            while True:
                self._items.get_nowait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_thread"):
            self._stop.set()
            with suppress(queue.Empty):
                while True:
                    self._items.get_nowait()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


@overload
def prefetch(iterator: Iterator[In], transform: None = None, depth: int = 4) -> Prefetch[In]: ...
@overload
def prefetch(iterator: Iterator[In], transform: Callable[[In], Out], depth: int = 4) -> Prefetch[Out]: ...
def prefetch(iterator: Iterator[In], transform: Callable[[In], Out] | None = None, depth: int = 4) -> Prefetch[Out]:
    """Items of `iterator`, transformed, made up to `depth` ahead in a thread that starts immediately.

    An exception in the thread is raised in place of its item. To open the next video ahead of time as well, open it
    inside the iterator: `prefetch(frames_of(video))` with a generator that opens and reads.
    """
    return Prefetch(iterator, transform or cast(Callable[[In], Out], _same), depth)


def _same(item: object) -> object:
    return item


def _produce(
    iterator: Iterator[In], transform: Callable[[In], Out], items: "queue.Queue[object]", stop: threading.Event
) -> None:
    last: object = _END
    try:
        try:
            for item in iterator:
                made = transform(item)
                if not _put(items, made, stop):
                    return
                del item, made
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
    except BaseException as error:
        last = _Failure(error)
    _put(items, last, stop)


def _put(items: "queue.Queue[object]", item: object, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            items.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
