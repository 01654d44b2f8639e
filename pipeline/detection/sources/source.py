"""The one reader of detections: whatever a detector or tracker wrote, in batches of the detections table."""

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.detection.location import is_table
from pipeline.detection.sources.classes import Categories, names_in_file, read_names
from pipeline.detection.sources.coco import Pictures, category_names, coco_rows, is_results, list_in, load_json
from pipeline.detection.sources.files import ALLOWED, find_files, suffix_of
from pipeline.detection.sources.frame_tables import batch_of, look_at, names_videos, with_masks, with_videos
from pipeline.detection.sources.mot import mot_rows, video_name
from pipeline.detection.sources.pictures import PictureNames, VideoIds
from pipeline.detection.sources.reading import Reading, Videos
from pipeline.detection.sources.rows import Rows
from pipeline.detection.sources.yolo import Tails, yolo_rows
from pipeline.detection.table import is_parquet, is_sorted, to_detections
from pipeline.errors import ManifestError
from pipeline.manifest.bad_rows import BadRow, clip
from pipeline.manifest.source import naming_file, open_or_refuse
from pipeline.manifest.tables import column_names, table_batches
from pipeline.storage import Storage, open_source, redact

Batch = tuple[pa.RecordBatch, list[BadRow]]
"""Rows in GIVEN, and those that break a rule and are not among them."""
READERS = 16
READ_AHEAD = 256


class Source:
    """The detections at a URI."""

    def __init__(
        self, uri: str, reading: Reading | None = None, *, storage: Storage | None = None, videos: Videos | None = None
    ) -> None:
        """
        Args:
            uri: a file or a folder.
            reading: what the files do not say themselves.
            storage: endpoints and credentials.
            videos: what is known of the videos.

        Raises:
            ManifestError: There is nothing at the URI, or a file of the options cannot be read.
        """
        self.reading, self.storage, self.videos = reading or Reading(), storage, videos or Videos()
        self.notes: list[str] = []
        """What the files did not say and was assumed, one line each."""
        self.files, self._yaml = find_files(uri, storage)
        self.uri = self.files[0] if len(self.files) == 1 else uri
        self.categories = Categories(self._class_names(), dict(self.reading.map))
        self._ids = VideoIds(self.videos.ids)
        self._pictures = PictureNames(self.reading.name_pattern, first_frame=self.reading.first_frame or 0)

    @property
    def streams(self) -> bool:
        """Whether workers read the file itself: a table with the columns of a video, read without options.

        Raises:
            ManifestError: The table cannot be read.
        """
        if len(self.files) > 1 or not is_table(self.uri) or self.reading != Reading():
            return False
        with open_or_refuse(self.uri, self._open) as file, naming_file(self.uri):
            names = column_names(self.uri, file)
        return names_videos(names) and "segments" not in names

    @property
    def is_sorted(self) -> bool:
        """Whether a worker reads few row groups for one video; True for files without row groups."""
        if not is_parquet(self.uri):
            return True
        with open_or_refuse(self.uri, self._open) as file, naming_file(self.uri):
            return is_sorted(pq.read_metadata(file))

    def batches(self) -> Iterator[Batch]:
        """All rows in batches; `notes` is complete after the last one.

        Raises:
            ManifestError: A file cannot be read; the message names it.
        """
        largest = -math.inf
        for batch, bad in self._batches():
            sides = [pc.max(side).as_py() for side in batch["box"].flatten()]
            largest = max(largest, *(side for side in sides if side is not None), -math.inf)
            yield batch, bad
        if -math.inf < largest <= 1:
            self.notes.append("all boxes lie between 0 and 1; they are read as pixels, not as shares of the frame")
        if self.reading.first_frame is None and self._pictures.smallest == 1:
            self.notes.append(
                "no picture is numbered 0; where 1 is the first frame, as in ffmpeg's pictures, give --first-frame 1"
            )
        if self.categories.unnamed:
            self.notes.append("classes are numbers without names; --names FILE gives names")

    def _batches(self) -> Iterator[Batch]:
        suffix = suffix_of(self.files[0])
        if suffix == ".txt":
            yield from self._of_rows(self._text_rows())
        elif suffix == ".json":
            for name, data in self._read(self.files):
                yield from self._json(name, data)
        else:
            for uri in self.files:
                yield from self._table(uri)

    # --- tables

    def _table(self, uri: str) -> Iterator[Batch]:
        first = 0
        with open_or_refuse(uri, self._open) as file, naming_file(uri):
            if not _has_rows(uri, file):
                yield to_detections(self._look(uri))
                return
            for raw in table_batches(uri, file):
                yield self._detections(raw, uri, first=first)
                first += len(raw)

    def _detections(self, raw: pa.RecordBatch, uri: str, *, first: int = 0) -> Batch:
        """The rows of a table's batch; those of a file that is one of several know it."""
        refused: list[BadRow] = []

        def refuse(row: int, column: str, value: object, rule: str) -> None:
            refused.append(BadRow(first + row, raw["video_id"][row].as_py(), column, clip(value), rule))

        raw = with_videos(raw, self._name(uri), self._pictures, self._ids)
        raw = with_masks(raw, self.videos, refuse)
        batch, bad = to_detections(raw, first_row=first, categories=self.categories)
        if len(self.files) > 1:
            bad = [replace(each, file=redact(uri)) for each in bad]
            refused = [replace(each, file=redact(uri)) for each in refused]
        return batch, [*bad, *refused]

    # --- JSON

    def _json(self, uri: str, data: bytes) -> Iterator[Batch]:
        name = redact(uri)
        document = load_json(data, name)
        with naming_file(uri):
            if is_results(document) or (document == [] and self.reading.coco_images):
                yield from self._of_rows(self._coco(document, self._coco_pictures(None), name))
            elif isinstance(document, dict) and "images" in document:
                if "annotations" not in document:
                    raise ManifestError(f"it has images and no annotations; {ALLOWED}")
                pictures = self._coco_pictures((document, name))
                yield from self._of_rows(self._coco(list_in(document, "annotations", name), pictures, name))
            elif isinstance(document, list) and document and all(isinstance(each, list) for each in document):
                yield from self._frames(document, uri)
            elif isinstance(document, list):
                yield self._detections(batch_of(document) if document else self._look(uri), uri)
            else:
                have = clip(list(document)) if isinstance(document, dict) else type(document).__name__
                raise ManifestError(f"it holds {have}, not detections; {ALLOWED}")

    def _coco(self, records: list[Any], pictures: Pictures, name: str) -> Iterator[Rows]:
        return coco_rows(records, pictures, self.categories, self.videos, name=name)

    def _coco_pictures(self, own: tuple[dict[str, Any], str] | None) -> Pictures:
        """The pictures of the document itself, or of --coco-images; the categories become known, too."""
        pictures = Pictures(self._pictures, self._ids)
        if self.reading.coco_images is not None:
            name = redact(self.reading.coco_images)
            [(_, data)] = self._read([self.reading.coco_images])
            document = load_json(data, name)
            if not isinstance(document, dict):
                raise ManifestError(
                    f"--coco-images {name} holds a {type(document).__name__}, not an object with images"
                )
            own = document, name
        if own is not None:
            pictures.read(*own)
            if not self.categories.names:
                self.categories.names = category_names(*own)
        return pictures

    def _frames(self, frames: list[list[Any]], uri: str) -> Iterator[Batch]:
        """A list of the frames of one video, each a list of detections; the file is named after the video."""
        video_id = self._ids.of(PurePosixPath(self._name(uri)).stem)
        nothing: dict[str, Any] = {} if any(frames) else {"box": None}
        raw = [{**record, "video_id": video_id, "frame_index": t} if isinstance(record, dict) else record
               for t, frame in enumerate(frames) for record in frame or [nothing]]  # fmt: skip
        yield self._detections(batch_of(raw), uri)

    # --- text

    def _text_rows(self) -> Iterator[Rows]:
        texts = [(redact(uri), _text(data, uri)) for uri, data in self._read(self.files)]
        sample = next((line for _, text in texts for line in text.splitlines() if line.strip()), "")
        if "," in sample:
            _refuse_two_files([video_name(name) for name, _ in texts])
            yield from mot_rows(texts, self._ids, self.categories, first_frame=self.reading.first_frame)
            return
        tails, names = Tails(), self._pictures
        for _, text in texts:
            for line in text.splitlines():
                tails.see(line.split())
        if self.reading.first_frame is None and names.counts_from_one(name for name, _ in texts):
            names = PictureNames(self.reading.name_pattern, first_frame=1)
            self.notes.append(
                "label files are numbered from 1 without leading zeros, as Ultralytics numbers the frames of videos; "
                "--first-frame 0 says otherwise"
            )
        shown = {self._ids.of(names.frame(name)[0]) for name, _ in texts}
        with ThreadPoolExecutor(READERS) as pool:
            known = [video_id for video_id in sorted(shown) if self.videos.know(video_id)]
            sizes = dict(zip(known, pool.map(self.videos.size_of, known), strict=True))
        videos = replace(self.videos, size_of=sizes.get)
        yield from yolo_rows(texts, tails, names, self._ids, self.categories, videos)

    # --- shared

    def _look(self, uri: str) -> pa.RecordBatch:
        """The look that saw nothing of an empty file."""
        try:
            return look_at(self._name(uri), self._pictures, self._ids)
        except ManifestError as error:
            raise ManifestError(f"it holds no detections, and is not of one picture: {error}") from None

    def _of_rows(self, found: Iterable[Rows]) -> Iterator[Batch]:
        for rows in found:
            batch, bad = to_detections(rows.batch())
            yield batch, sorted([*rows.bad, *map(rows.placed, bad)], key=lambda each: (each.file or "", each.row))

    def _class_names(self) -> dict[int, str]:
        if self.reading.names is not None:
            [(name, data)] = self._read([self.reading.names])
            return names_in_file(data, redact(name))
        if self._yaml is not None:
            [(_, data)] = self._read([self._yaml])
            return read_names(_text(data, self._yaml))
        return {}

    def _name(self, uri: str) -> str:
        return uri.partition("?")[0] if "://" in uri else uri

    def _open(self, uri: str) -> Any:
        return open_source(uri, storage=self.storage)[0]

    def _read(self, uris: list[str]) -> Iterator[tuple[str, bytes]]:
        """URIs with their bytes, in order, several read at a time."""

        def read(uri: str) -> tuple[str, bytes]:
            with open_or_refuse(uri, self._open) as file, naming_file(uri):
                return uri, file.read()

        with ThreadPoolExecutor(min(READERS, len(uris))) as pool:
            for at in range(0, len(uris), READ_AHEAD):
                yield from pool.map(read, uris[at : at + READ_AHEAD])


def _has_rows(uri: str, file: Any) -> bool:
    """Whether a file of text has more than white space; an empty one is that of a picture without detections."""
    if suffix_of(uri) in (".parquet", ".pq"):
        return True
    head = bool(file.read(1024).strip())
    file.seek(0)
    return head


def _text(data: bytes, uri: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{redact(uri)} is not text in UTF-8: {error}") from None


def _refuse_two_files(videos: list[str]) -> None:
    if twice := [video for video in dict.fromkeys(videos) if videos.count(video) > 1]:
        raise ManifestError(f"several files are of the video {clip(twice[0])}, such as det.txt and gt.txt; name one")
