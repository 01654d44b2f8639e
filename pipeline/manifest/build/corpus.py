"""Manifest rows of the videos in a folder or bucket."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import CorpusError, StorageError, UsageError
from pipeline.manifest.build.default import PromptRule
from pipeline.manifest.build.found import FoundVideo, Shape
from pipeline.storage import Storage, Store, Version, open_source
from pipeline.storage.paths import quote_id
from pipeline.storage.uris import local_path
from pipeline.video.content import open_uri, topic_version
from pipeline.video.image_files import is_image
from pipeline.video.litter import is_litter
from pipeline.video.recordings import MARK, SUFFIX, camera_topics

log = logging.getLogger(__name__)

SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".ts", ".mts", ".m2ts", ".m2t", ".mpg",
    ".mpeg", ".mpe", ".m2v", ".vob", ".mod", ".tod", ".mxf", ".3gp", ".3g2", ".insv", ".360", ".lrv", ".dv",
    ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".ogm", ".rm", ".rmvb", ".wtv", ".nut", ".y4m", ".mjpg", ".mjpeg",
    ".h264", ".h265", ".hevc", ".264", ".265", ".ivf", ".obu", ".mcap",
)  # fmt: skip
"""Suffixes of the formats that are read, those of camcorders, action and 360-degree cameras included."""
_HASH_DIGITS = 12
_SUFFIX_BYTES = 10


class VideoListing:
    """The videos below a folder: files that match the pattern, or files with a video's suffix.

    Iterating gives each as a FoundVideo, or the reason why it cannot be named in a manifest.
    """

    def __init__(self, store: Store, *, pattern: str | None = None) -> None:
        self._store, self._pattern = store, pattern
        self.found = 0
        self.others: Counter[str] = Counter()
        """Files that are not among the videos, by suffix."""

    def __iter__(self) -> Iterator[FoundVideo | CorpusError]:
        for entry in self._store.list():
            if is_litter(entry.path):
                continue
            if not self._wanted(entry.path):
                self.others[PurePosixPath(entry.path).suffix.lower() or "no suffix"] += 1
                continue
            self.found += 1
            try:
                uri = _uri_of(self._store, entry.path)
            except ValueError:  # keys of a bucket may be anything
                yield StorageError(
                    f"{entry.path!a}: the key has an empty segment, '.' or '..' between slashes; rename it"
                )
                continue
            version = Version(size=entry.size, etag=entry.etag, mtime=entry.mtime or None)
            if entry.path.lower().endswith(SUFFIX):
                yield from self._topics(entry.path, uri, version)
                continue
            yield FoundVideo(video_id=derived_id(entry.path), uri=uri, version=version.token())
        yield from self._broken_links()

    def _topics(self, path: str, uri: str, version: Version) -> Iterator[FoundVideo | CorpusError]:
        """The camera topics of a recording, or why it has none."""
        try:
            file, _ = open_source(uri, storage=self._store.storage)
            with file:
                topics = camera_topics(file, name=uri)
        except UsageError:
            raise
        except CorpusError as error:
            yield error
            return
        for each in topics:
            if isinstance(each, CorpusError):
                yield each
                continue
            yield FoundVideo(
                video_id=derived_id(f"{path}{MARK}{each.topic}"),
                uri=f"{uri}{MARK}{each.topic}",
                version=topic_version(version, each.topic).token(),
                shape=Shape(width=each.width, height=each.height, num_frames=each.messages),
                columns={"topic": each.topic, "log_time_ns": each.log_time_ns},
            )

    def nothing_found(self) -> UsageError:
        """Why there is no video, in words for the user."""
        where, folder = str(self._store), local_path(self._store.uri)
        if folder is not None and not folder.is_dir():
            return UsageError(f"{where} is {'a file, not a folder' if folder.exists() else 'not there'}")
        which = f"that match {self._pattern!r}" if self._pattern else "(by their suffix; --pattern picks others)"
        if self.found:
            return UsageError(f"no videos {which} that can be read below {where}")
        pictures = sum(count for suffix, count in self.others.items() if is_image(f"x{suffix}"))
        if pictures and not self._pattern:
            return UsageError(
                f"no videos below {where}, but {pictures} pictures; a folder of pictures is one video: give the "
                "folder as a manifest's video_uri, its rate in the column fps"
            )
        return UsageError(f"no videos {which} below {where}; it holds {self.others_text() or 'no files'}")

    def others_text(self) -> str:
        """The files that are not among the videos, as `3 .txt, 1 .zip`; empty where there are none."""
        return ", ".join(f"{count} {suffix}" for suffix, count in self.others.most_common(8))

    def _wanted(self, path: str) -> bool:
        if self._pattern:
            return fnmatch(path, self._pattern)
        return PurePosixPath(path).suffix.lower() in SUFFIXES

    def _broken_links(self) -> Iterator[CorpusError]:
        """Broken links, which a local listing leaves out."""
        root = local_path(self._store.uri)
        if root is None:
            return
        for folder, _, files in os.walk(root):
            for path in (Path(folder, name) for name in files):
                if path.is_symlink() and not path.exists() and self._wanted(path.relative_to(root).as_posix()):
                    yield StorageError(f"{str(path)!a}: a link to a file that is not there")


def derived_id(path: str) -> str:
    """The path as video_id; the beginning of the file's name and a hash of the path, where the path cannot be one.

    That is where it is too long, or not UTF-8: bytes that are not are then read as Latin-1.
    """
    readable = "".join(chr(ord(c) - 0xDC00) if "\udc80" <= c <= "\udcff" else c for c in path)  # PEP 383
    if readable == path and _is_id(path):
        return path
    name = PurePosixPath(readable)
    suffix = name.suffix if len(quote(name.suffix)) <= _SUFFIX_BYTES else ""
    tail = f"-{hashlib.sha256(os.fsencode(path)).hexdigest()[:_HASH_DIGITS]}{suffix}"
    head = name.name.removesuffix(suffix)
    while not _is_id(head + tail):
        head = head[:-1]
    return head + tail


def probe(video: FoundVideo, *, storage: Storage | None = None) -> Shape:
    """Size and claimed frames, from the header and the first frame."""
    with open_uri(video.uri, storage=storage) as (reader, _):
        frames = reader.info.container_frames
        return Shape(width=reader.info.width, height=reader.info.height, num_frames=frames if frames else None)


def manifest_rows(
    videos: Iterable[FoundVideo | CorpusError],
    rule: PromptRule,
    *,
    shape_of: Callable[[FoundVideo], Shape],
    threads: int = 16,
) -> Iterator[dict[str, Any] | CorpusError]:
    """For each video its row with the rule's prompts, or why it has none; `threads` videos are opened at a time."""

    def row(video: FoundVideo | CorpusError) -> dict[str, Any] | CorpusError:
        if isinstance(video, CorpusError):
            return video
        try:
            shape = shape_of(video)
        except CorpusError as error:
            return error
        return {
            "video_id": video.video_id,
            "video_uri": video.uri,
            "prompts": rule.prompts(width=shape.width, height=shape.height),
            "video_version": video.version,
            "num_frames": shape.num_frames,
            "start_s": video.start_s,
            "end_s": video.end_s,
            **video.columns,
        }

    waiting = iter(videos)
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(waiting, 100 * threads)):  # limits the pool's queue, for corpora of a million videos
            yield from pool.map(row, some)


def videos_by_template(prompts: pa.Table, template: str) -> pa.Table:
    """The videos of a prompt table, with URIs by `template`: `s3://bucket/{video_id}.mp4`."""
    before, found, after = template.partition("{video_id}")
    if not found:
        raise UsageError(f"the template of URIs is {template!r}; it must hold {{video_id}}")
    ids = pc.unique(prompts["video_id"].cast(pa.string())).drop_null()
    return pa.table({"video_id": ids, "video_uri": pc.binary_join_element_wise(before, ids, after, "")})


def _uri_of(store: Store, path: str) -> str:
    """The URI of a file; a percent-encoded file URL where its name is not UTF-8, which a manifest cannot hold."""
    uri = store.uri_of(path)
    try:
        uri.encode()
    except UnicodeEncodeError:
        return f"file://{quote(os.fsencode(uri))}"
    return uri


def _is_id(text: str) -> bool:
    try:
        quote_id(text)
    except UsageError:
        return False
    return True
