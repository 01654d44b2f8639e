"""A duplicate in, one committed part out: the labels of the video that it equals, under its own name and key."""

import logging
import socket
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import StorageError
from pipeline.labels.copying import copy_part
from pipeline.manifest import prompts_to_json
from pipeline.storage import ChangedError, MissingError, Store, part_path
from pipeline.video.content import content_version
from pipeline.workers.task import LabelerSettings, Outcome, Task

log = logging.getLogger(__name__)


def copy_labels(store: Store, task: Task, settings: LabelerSettings) -> Outcome | None:
    """Commit the labels of `task.copy_of` as those of the task's video; None if they are not there, or damaged.

    Raises:
        StorageError: The output cannot be reached, or the source is missing or has changed since it was planned.
    """
    assert task.copy_of
    started, video = time.perf_counter(), task.video
    version = content_version(video.video_uri, storage=settings.storage)
    if version is None:
        raise MissingError(f"cannot open {video.video_uri}: it is missing or cannot be reached")
    if video.video_version is None and version.token() != task.version:
        raise ChangedError(f"{video.video_uri} was replaced since it was planned; the next run labels it")

    def row(source: dict[str, Any]) -> dict[str, Any]:
        return {
            **source,
            "uri": video.video_uri,
            "version": task.version,
            "size": version.size,
            "start_s": video.start_s,
            "end_s": video.end_s,
            "prompts_digest": task.prompts_digest,
            "prompts": prompts_to_json(video.prompts),
            "run_id": settings.run_id,
            "worker": socket.gethostname(),
            "attempts": task.attempt,
            "committed_at": datetime.now(UTC),
            "published_at": None,
            "decode_s": 0.0,
            "model_s": 0.0,
            "total_s": time.perf_counter() - started,
            "duplicate_of": source_id,
            "extra": video.carried,
        }

    source_id, source_key = task.copy_of
    categories = {prompt.object_id: prompt.category for prompt in video.prompts if prompt.category}
    with tempfile.TemporaryDirectory(prefix="sam2-corpus-copy-") as folder:
        part = Path(folder) / "part.parquet"
        try:
            with store.open(part_path(source_id, source_key)) as file:
                header = copy_part(
                    file,
                    part,
                    video_id=video.video_id,
                    label_key=task.label_key,
                    categories=categories,
                    video=row,
                )
        except MissingError:
            return None
        except (ValueError, OSError) as error:
            if isinstance(error, StorageError):
                raise
            log.warning("the part of %s is damaged, so %s is tracked itself: %s", source_id, video.video_id, error)
            return None
        written = store.commit_once(part_path(video.video_id, task.label_key), part)
    source = header.video
    return Outcome(
        video_id=video.video_id,
        frames=0,
        masks=0,
        seconds=time.perf_counter() - started,
        was_there=not written,
        truncated=bool(source["truncated"][0].as_py()),
        damaged=bool(source["damaged_packets"][0].as_py()) and not source["truncated"][0].as_py(),
    )
