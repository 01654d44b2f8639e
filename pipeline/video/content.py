"""The video at a URI, a file, a zip or a folder of images: its version, and the one way to open it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from pipeline.errors import StorageError, VideoError
from pipeline.storage import ChangedError, MissingError, Storage, Store, Version, open_source, source_versions
from pipeline.storage.uris import local_path
from pipeline.video.image_files import ImageFiles, check_holds_images, is_image
from pipeline.video.image_order import by_digits, in_order
from pipeline.video.info import OnDamaged, VideoLimits
from pipeline.video.reader import VideoReader, open_video
from pipeline.video.recordings import MARK, open_topic, require_mcap, split_topic

_THREADS = 16


@contextmanager
def open_uri(
    uri: str,
    *,
    storage: Storage | None = None,
    planned_version: str | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    fps: float | None = None,
    limits: VideoLimits | None = None,
    on_damaged: OnDamaged = "label",
    isolate: bool = False,
) -> Iterator[tuple[VideoReader, Version]]:
    """Open the video at a URI; yields the reader and the version of the content.

    Args:
        uri: A video file, a zip of images, a folder of images or a topic of an MCAP recording (path or fsspec URL).
        storage: Endpoints and credentials by URI prefix.
        planned_version: Version that the content must have; checked before anything is decoded.
        start_s: Start of the segment, in seconds of the file.
        end_s: End of the segment.
        fps: Rate of images, 24 where None; video files have their own.
        limits: Limits of size, length, memory and decoding time.
        on_damaged: "label" counts damage and continues, "fail" raises.
        isolate: Decode in a child process.

    Raises:
        UsageError: A recording needs packages that are not installed.
        StorageError: The content cannot be reached; ChangedError when it has another version than planned.
        VideoError: The content cannot be decoded.
    """
    with ExitStack() as stack:
        content, version = open_content(uri, storage or Storage(), limits)
        if not isinstance(content, Mapping):
            stack.enter_context(content)
        if planned_version is not None and version.token() != planned_version:
            raise ChangedError(
                f"{uri} was replaced between planning and labelling (version {planned_version} became "
                f"{version.token()}); the next run labels it"
            )
        if isinstance(content, Mapping):
            check_holds_images(content, uri)
            content = {name: read for name, read in content.items() if "/" not in name}
        reader = open_video(
            content,
            name=uri,
            start_s=start_s,
            end_s=end_s,
            fps=fps,
            limits=limits,
            on_damaged=on_damaged,
            isolate=isolate,
        )
        yield stack.enter_context(reader), version


@contextmanager
def open_labelled(
    row: Mapping[str, Any], *, storage: Storage | None = None, isolate: bool = False
) -> Iterator[VideoReader]:
    """Open the labelled part of a video by its row of the videos table; frame indices are those of the labels.

    Args:
        row: uri, start_s, end_s, fps (the rate at which images were labelled), and height and width, where known.
        storage: Endpoints and credentials by URI prefix.
        isolate: Decode in a child process.

    Raises:
        StorageError: The content cannot be reached.
        VideoError: The content cannot be decoded, or has frames of another size.
    """
    start_s, end_s, fps = (row.get(name) for name in ("start_s", "end_s", "fps"))
    opened = open_uri(str(row["uri"]), storage=storage, start_s=start_s, end_s=end_s, fps=fps, isolate=isolate)
    with opened as (reader, _):
        found, labelled = (reader.info.height, reader.info.width), (row.get("height"), row.get("width"))
        if None not in labelled and found != labelled:
            raise VideoError(f"{row['uri']} has frames of {found}, not {labelled} as when it was labelled")
        yield reader


def content_versions(uris: Sequence[str], *, storage: Storage | None = None) -> list[Version | None]:
    """The version of the content at each URI, in order; None if it is absent or cannot be reached.

    Costs a listing for each folder of images, and none for files that are there.
    """
    storage = storage or Storage()
    named = [split_topic(uri) for uri in uris]
    if any(topic is not None for _, topic in named):
        require_mcap()
        found = content_versions([uri for uri, _ in named], storage=storage)
        return [v and topic_version(v, t) if t is not None else v for v, (_, t) in zip(found, named, strict=True)]
    folders = [_names_folder(uri) for uri in uris]
    files = iter(
        source_versions([uri for uri, folder in zip(uris, folders, strict=True) if not folder], storage=storage)
    )
    found = [None if folder else next(files) for folder in folders]
    # A prefix of a bucket without its final slash looks like an object that is missing.
    listed = [at for at, uri in enumerate(uris) if folders[at] or (found[at] is None and _may_be_prefix(uri))]
    with ThreadPoolExecutor(_THREADS) as threads:
        for at, version in zip(listed, threads.map(lambda at: _folder_version(uris[at], storage), listed), strict=True):
            found[at] = version
    return found


def content_version(uri: str, *, storage: Storage | None = None) -> Version | None:
    """The version of the content at a URI; None if it is absent or cannot be reached."""
    return content_versions([uri], storage=storage)[0]


def open_content(
    uri: str, storage: Storage, limits: VideoLimits | None = None
) -> tuple[BinaryIO | ImageFiles, Version]:
    """The content at a URI, an open file or the files of a folder, and its version.

    Raises:
        StorageError: It cannot be reached.
        VideoError: It is a topic of a recording that cannot be read.
    """
    if _names_folder(uri):
        return _open_folder(uri, storage)
    try:
        return open_file(uri, storage=storage, limits=limits)
    except MissingError as missing:
        if not _may_be_prefix(uri):
            raise
        try:
            return _open_folder(uri, storage)
        except StorageError:
            raise missing from None


def open_file(
    uri: str, *, storage: Storage | None = None, limits: VideoLimits | None = None
) -> tuple[BinaryIO, Version]:
    """A video file, or the topic of a recording as one, and its version. The caller closes it.

    Raises:
        UsageError: A recording needs packages that are not installed.
        StorageError: It is a folder, or cannot be read.
        VideoError: It is a recording that does not hold the topic, or is damaged.
    """
    recording, topic = split_topic(uri)
    if topic is None:
        return open_source(uri, storage=storage)
    file, version = open_source(recording, storage=storage)
    with file:
        return open_topic(file, topic, name=recording, limits=limits), topic_version(version, topic)


def topic_version(version: Version, topic: str) -> Version:
    """The version of a topic's video: that of its recording, and the topic."""
    return replace(version, etag=f"{version.etag or version.mtime}{MARK}{topic}")


def _names_folder(uri: str) -> bool:
    path = local_path(uri)
    return uri.endswith("/") or (path is not None and path.is_dir())


def _may_be_prefix(uri: str) -> bool:
    return local_path(uri) is None and not uri.startswith(("http://", "https://"))


def _open_folder(uri: str, storage: Storage) -> tuple[ImageFiles, Version]:
    """The files below a folder by relative path, and a version that changes with any file directly in the folder.

    Raises:
        MissingError: The folder does not exist.
    """
    store = Store(uri.rstrip("/"), storage=storage)
    entries = list(store.list())
    path = local_path(uri)
    if not entries and (path is None or not path.is_dir()):
        raise MissingError(f"cannot open {store}/: no such folder")
    counted = [entry for entry in entries if "/" not in entry.path] or entries
    state = sorted((entry.path, entry.size, entry.etag or entry.mtime) for entry in counted)
    told = repr(state)
    images = [PurePosixPath(entry.path) for entry in counted if is_image(entry.path)]
    if in_order(images) != by_digits(images):
        told += " decimals"  # an earlier release ordered these frames differently: its labels do not count
    digest = hashlib.sha256(told.encode()).hexdigest()
    version = Version(size=sum(entry.size for entry in counted), etag=digest)
    return {entry.path: partial(store.read, entry.path) for entry in entries}, version


def _folder_version(uri: str, storage: Storage) -> Version | None:
    try:
        return _open_folder(uri, storage)[1]
    except StorageError:
        return None
