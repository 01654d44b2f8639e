"""Which failures are retried, and when: by class and age."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pipeline.errors import PromptError
from pipeline.labels.failures import MAX_ATTEMPTS, RETRIED_UNASKED, Failure
from pipeline.storage import Store
from pipeline.video import FAILURE_CLASSES

CLASSES = FAILURE_CLASSES | set(MAX_ATTEMPTS) | {PromptError.failure_class}
"""All failure classes of videos in quarantine."""


def is_due(failure: Failure, *, after_s: Mapping[str, float], now: datetime) -> bool:
    """Whether a failure is retried now: always for RETRIED_UNASKED, otherwise from the age set for its class."""
    when = due_at(failure, after_s=after_s)
    return when is not None and when <= now


def due_at(failure: Failure, *, after_s: Mapping[str, float]) -> datetime | None:
    """When a failure is retried; None when only a change of the video or `jobs.retry` makes it pending."""
    failed = datetime.fromisoformat(failure.time)
    if failure.failure_class in RETRIED_UNASKED:
        return failed
    age = after_s.get(failure.failure_class)
    return None if age is None else failed + timedelta(seconds=age)


def chosen(
    failures: Sequence[Failure],
    *,
    classes: Collection[str] = (),
    older_than_s: float = 0.0,
    video_ids: Collection[str] = (),
    now: datetime,
) -> list[Failure]:
    """The failures of these classes and videos (empty: all) that are at least `older_than_s` seconds old."""
    return [
        failure
        for failure in failures
        if (not classes or failure.failure_class in classes)
        and (not video_ids or failure.video_id in video_ids)
        and (now - datetime.fromisoformat(failure.time)).total_seconds() >= older_than_s
    ]


def release(store: Store, failures: Sequence[Failure]) -> None:
    """Take failures out of quarantine, so that the next run retries their videos."""
    store.delete_many([failure.path for failure in failures])


def due_rule(after_s: Mapping[str, float], *, now: datetime | None = None) -> Callable[[Failure], bool]:
    """A function that returns whether the night of `now` retries a failure."""
    moment = now or datetime.now(UTC)
    return lambda failure: is_due(failure, after_s=after_s, now=moment)
