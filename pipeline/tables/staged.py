"""Staged labels, committed by runs with `--no-publish`, as tables: Arrow datasets over their parts."""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.errors import StorageError, UsageError
from pipeline.labels import MASKLETS, MASKS, VIDEOS
from pipeline.storage import Store, part_path
from pipeline.storage.paths import MASKLETS_TABLE, MASKS_TABLE, RUNS, VIDEOS_TABLE
from pipeline.tables.delta import published_keys
from pipeline.tables.parts import FoundPart, UnreadablePart, find_part
from pipeline.tables.query import Labels
from pipeline.tables.wanted import different_from, latest_wanted, staged_runs, with_parts

log = logging.getLogger(__name__)

READERS = 32


def open_staged(store: Store, *, run: str | None = None) -> Labels:
    """The committed labels that staged runs want and that the tables do not show.

    Args:
        store: the output.
        run: of this run only, also if it is not staged; by default each video has the label of its last staged run.

    Raises:
        UsageError: There are none.
    """
    if run is not None and run not in (names := store.list_dirs(RUNS)):
        raise UsageError(f"{store} has no run {run!r}; the last are {', '.join(names[-5:]) or 'none'}")
    runs = staged_runs(store) if run is None else [run]
    found = with_parts(store, different_from(latest_wanted(store, only=runs), published_keys(store)))
    if not found.num_rows:
        whose = "no run with --no-publish has" if run is None else f"run {run} has no"
        raise UsageError(f"{whose} committed labels in {store} that the tables do not show")
    pairs = zip(found["video_id"].to_pylist(), found["label_key"].to_pylist(), strict=True)
    with ThreadPoolExecutor(READERS) as threads:
        parts = [part for part in threads.map(partial(_part, store), pairs) if part]
    masklets = pa.concat_tables([part.header.masklets for part in parts] or [MASKLETS.empty_table()],
        promote_options="default")  # fmt: skip
    videos = [part.header.video for part in parts] or [VIDEOS.empty_table()]
    return Labels(
        store,
        tables={
            MASKS_TABLE: _masks(store, parts),
            MASKLETS_TABLE: ds.dataset(masklets),
            VIDEOS_TABLE: ds.dataset(pa.concat_tables(videos, promote_options="permissive")),
        },
    )


def _masks(store: Store, parts: Sequence[FoundPart]) -> ds.Dataset:
    """The mask rows of the parts; a filter on video_id opens only the parts of those videos."""
    files, form = store.arrow_filesystem(), ds.ParquetFileFormat()

    def fragments() -> Iterable[ds.Fragment]:
        for part in parts:
            path = part_path(part.video_id, part.label_key)
            source = store.open(path) if files is None else path
            its = pc.field("video_id") == part.video_id
            yield form.make_fragment(source, filesystem=files, partition_expression=its)

    return ds.FileSystemDataset(list(fragments()), MASKS, form, filesystem=files)


def _part(store: Store, pair: tuple[str, str]) -> FoundPart | None:
    try:
        part = find_part(store, *pair)
    except StorageError as error:
        part = UnreadablePart(video_id=pair[0], label_key=pair[1], reason=str(error))
    if isinstance(part, UnreadablePart):
        log.warning("left out: %s", part)
        return None
    return part
