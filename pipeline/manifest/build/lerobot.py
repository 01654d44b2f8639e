"""Videos of a LeRobot dataset v3: each camera of each episode, as a segment of the file that holds it.

The metadata is read as Parquet and JSON by its documented layout (https://huggingface.co/docs/lerobot/lerobot-dataset-v3),
without the package lerobot, which requires a robot's whole environment.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipeline.errors import CorpusError, StorageError, UsageError
from pipeline.manifest.build.found import FoundVideo, Shape
from pipeline.storage import Store, Version
from pipeline.storage.parquet import read_parquet

INFO = "meta/info.json"
EPISODES = "meta/episodes"


def is_lerobot(store: Store) -> bool:
    """Whether a folder is a LeRobot dataset, of any version."""
    try:
        return "codebase_version" in json.loads(store.read(INFO))
    except (StorageError, ValueError):
        return False


class LeRobotListing:
    """The cameras of all episodes, in order; iterating gives each as a FoundVideo, or why it cannot be labelled.

    Raises:
        UsageError: The dataset has another version, no video feature, or metadata that cannot be read.
    """

    def __init__(self, store: Store) -> None:
        self._store, self.found = store, 0
        self._info: dict[str, Any] = json.loads(store.read(INFO))
        version = str(self._info["codebase_version"])
        if not version.startswith("v3."):
            raise UsageError(
                f"{store} is a LeRobot dataset {version}; v3 is read: convert it with "
                "python -m lerobot.datasets.v30.convert_dataset_v21_to_v30"
            )
        self._cameras = {
            name: _shape(name, feature, store)
            for name, feature in self._info.get("features", {}).items()
            if feature.get("dtype") == "video"
        }
        if not self._cameras:
            raise UsageError(f"{store} is a LeRobot dataset without video features; its pictures are not read")

    def __iter__(self) -> Iterator[FoundVideo | CorpusError]:
        versions = {
            entry.path: Version(size=entry.size, etag=entry.etag, mtime=entry.mtime or None).token()
            for entry in self._store.list("videos")
        }
        for path in sorted(entry.path for entry in self._store.list(EPISODES) if entry.path.endswith(".parquet")):
            yield from self._episodes(path, versions)

    def nothing_found(self) -> UsageError:
        """Why there is no video, in words for the user."""
        return UsageError(f"{self._store} is a LeRobot dataset without episodes that can be labelled")

    def _episodes(self, path: str, versions: Mapping[str, str]) -> Iterator[FoundVideo | CorpusError]:
        columns = ["episode_index", "length", "tasks"]
        for camera in self._cameras:
            columns += [f"videos/{camera}/{name}" for name in _PLACE]
        try:
            table = read_parquet(self._store.read(path))
            rows = table.select([name for name in columns if name in table.column_names]).to_pylist()
        except (pa.ArrowException, ValueError, OSError) as error:
            raise UsageError(f"{self._store}/{path} cannot be read as metadata of episodes: {error}") from error
        for row in rows:
            for camera, shape in self._cameras.items():
                self.found += 1
                yield self._video(row, camera, shape, versions)

    def _video(
        self, row: Mapping[str, Any], camera: str, shape: Shape, versions: Mapping[str, str]
    ) -> FoundVideo | CorpusError:
        episode = row.get("episode_index")
        place = {name: row.get(f"videos/{camera}/{name}") for name in _PLACE}
        if episode is None or None in place.values():
            return StorageError(f"{self._store}: episode {episode} has no place in a file of camera {camera}")
        path = self._info["video_path"].format(
            video_key=camera, chunk_index=int(place["chunk_index"] or 0), file_index=int(place["file_index"] or 0)
        )
        if path not in versions:
            return StorageError(f"{self._store}/{path} is missing; it holds episode {episode} of camera {camera}")
        tasks = row.get("tasks") or []
        return FoundVideo(
            video_id=f"episode-{episode:06d}/{camera}",
            uri=self._store.uri_of(path),
            version=versions[path],
            start_s=place["from_timestamp"],
            end_s=place["to_timestamp"],
            shape=Shape(width=shape.width, height=shape.height, num_frames=row.get("length")),
            columns={"episode_index": int(episode), "camera": camera, "task": "; ".join(map(str, tasks))},
        )


_PLACE = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")


def _shape(name: str, feature: Mapping[str, Any], store: Store) -> Shape:
    """Size of a camera's frames, whose order of axes the feature names."""
    names, values = feature.get("names") or ["height", "width", "channels"], feature.get("shape") or ()
    named = dict(zip((str(each).lower() for each in names), values, strict=False))
    width, height = named.get("width"), named.get("height")
    if not (isinstance(width, int) and isinstance(height, int)):
        raise UsageError(f"{store}: the size of camera {name} is not understood (names {names}, shape {values})")
    return Shape(width=width, height=height)
