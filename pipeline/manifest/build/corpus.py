"""Manifest rows from what lies in a folder or bucket."""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import CorpusError, UsageError
from pipeline.manifest.build.default import PromptRule
from pipeline.storage import Storage, Store, Version, open_source
from pipeline.video import open_video

log = logging.getLogger(__name__)

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A video as a listing shows it."""

    video_id: str
    """Its path below the folder."""
    uri: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What default prompts need to know of a video."""

    width: int
    height: int
    num_frames: int | None = None


def find_videos(store: Store, *, pattern: str | None = None) -> Iterator[Source]:
    """The videos below a folder: what the pattern matches, or every file with a video's suffix."""
    for entry in store.list():
        if fnmatch(entry.path, pattern) if pattern else entry.path.lower().endswith(SUFFIXES):
            version = Version(size=entry.size, etag=entry.etag, mtime=entry.mtime or None)
            yield Source(video_id=entry.path, uri=store.uri_of(entry.path), version=version.token())


def probe(source: Source, *, storage: Storage | None = None) -> Shape:
    """Size and claimed frames, from the header and the first frame."""
    file, _ = open_source(source.uri, storage=storage)
    with file, open_video(file, name=source.video_id) as video:
        frames = video.info.container_frames
        return Shape(width=video.info.width, height=video.info.height, num_frames=frames if frames else None)


def manifest_rows(
    sources: Iterable[Source], rule: PromptRule, *, shape_of: Callable[[Source], Shape], threads: int = 16
) -> Iterator[dict[str, Any] | CorpusError]:
    """For each source its row with the rule's prompts, or why it has none; several are looked at at once."""

    def row(source: Source) -> dict[str, Any] | CorpusError:
        try:
            shape = shape_of(source)
        except CorpusError as error:
            return error
        return {
            "video_id": source.video_id,
            "video_uri": source.uri,
            "prompts": rule.prompts(width=shape.width, height=shape.height),
            "video_version": source.version,
            "num_frames": shape.num_frames,
        }

    waiting = iter(sources)
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(waiting, 100 * threads)):  # a million must not all stand in the pool's queue
            yield from pool.map(row, some)


def videos_by_template(prompts: pa.Table, template: str) -> pa.Table:
    """The videos that a table has prompts for, where `template` says that they lie: `s3://bucket/{video_id}.mp4`."""
    before, found, after = template.partition("{video_id}")
    if not found:
        raise UsageError(f"the template of URIs is {template!r}; it must hold {{video_id}}")
    ids = pc.unique(prompts["video_id"].cast(pa.string())).drop_null()
    return pa.table({"video_id": ids, "video_uri": pc.binary_join_element_wise(before, ids, after, "")})
