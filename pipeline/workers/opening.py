"""The source of a task, opened at its planned version, and checked at the end for having been replaced."""

from contextlib import AbstractContextManager

from pipeline.manifest.fps import rate_of
from pipeline.storage import ChangedError, Version
from pipeline.video import VideoReader
from pipeline.video.content import content_version, open_uri
from pipeline.workers.task import LabelerSettings, Task


def open_task(task: Task, settings: LabelerSettings) -> AbstractContextManager[tuple[VideoReader, Version]]:
    """The video of a task at its planned version."""
    video = task.video
    return open_uri(
        video.video_uri,
        storage=settings.storage,
        planned_version=task.version if video.video_version is None else None,
        start_s=video.start_s,
        end_s=video.end_s,
        fps=rate_of(video),
        on_damaged=settings.on_damaged,
        isolate=task.isolate,
    )


def check_unchanged(uri: str, version: Version, settings: LabelerSettings) -> None:
    """Raise ChangedError if the source was replaced since it was opened, because some storage continues to serve it."""
    now = content_version(uri, storage=settings.storage)
    if now is not None and now.token() != version.token():
        raise ChangedError(
            f"{uri} was replaced while it was being labelled (version {version.token()} became {now.token()}); "
            "its labels were discarded and the next run labels it"
        )
