"""The thread that runs ahead: order, bounds, endings."""

import gc
import threading
import time

import pytest

from pipeline.video import prefetch


def until(condition, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def threads_ahead() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_items_in_order_and_transformed():
    with prefetch(iter(range(100)), lambda item: item * 2, depth=3) as items:
        assert list(items) == [item * 2 for item in range(100)]
        assert next(items, None) is None


def test_it_starts_before_the_first_request_and_respects_its_depth():
    made = []

    def numbers():
        for number in range(100):
            made.append(number)
            yield number

    with prefetch(numbers(), depth=3) as items:
        assert until(lambda: len(made) == 4), "three wait, one is held by the thread"
        time.sleep(0.05)
        assert len(made) == 4
        assert next(items) == 0
        assert until(lambda: len(made) == 5)


@pytest.mark.parametrize("where", ["iterator", "transform"])
def test_an_exception_comes_in_its_place(where: str):
    def numbers():
        yield 1
        yield 2
        if where == "iterator":
            raise ValueError("three")
        yield 3

    def transform(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    items = prefetch(numbers(), transform, depth=2)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(items)
    assert next(items, None) is None


def test_an_iterator_that_cannot_be_closed_fails_its_consumer():
    class Broken:
        def __iter__(self):
            return iter([1])

        def close(self):
            raise OSError("cannot be closed")

    items = prefetch(Broken(), depth=2)
    assert next(items) == 1
    with pytest.raises(OSError, match="cannot be closed"):
        next(items)


@pytest.mark.parametrize("how", ["close", "drop"])
def test_stopping_early_closes_the_iterator_and_ends_the_thread(how: str):
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield bytes(1000)
        finally:
            closed.set()

    before = threads_ahead()
    items = prefetch(endless(), depth=2)
    next(items)
    if how == "close":
        items.close()
        assert closed.is_set()
    del items
    gc.collect()
    assert closed.wait(60)
    assert until(lambda: threads_ahead() <= before)


def test_a_depth_below_one_is_refused():
    with pytest.raises(ValueError, match="prefetch depth must be at least 1, not 0"):
        prefetch(iter(()), depth=0)
