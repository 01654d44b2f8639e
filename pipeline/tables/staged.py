"""Staged labels, committed by runs with `--no-publish`, as tables: Arrow datasets over their parts."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.errors import UsageError
from pipeline.labels import MASKLETS, MASKS, VIDEOS
from pipeline.storage import Store, part_path
from pipeline.storage.paths import MASKLETS_TABLE, MASKS_TABLE, VIDEOS_TABLE
from pipeline.tables.delta import published_keys
from pipeline.tables.output import require_run
from pipeline.tables.parts import FoundPart, UnreadablePart, find_part_or_reason
from pipeline.tables.query import Labels
from pipeline.tables.wanted import different_from, latest_wanted, pairs_of, staged_runs, with_parts

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
    if run is not None:
        require_run(store, run)
    runs = staged_runs(store) if run is None else [run]
    found = with_parts(store, different_from(latest_wanted(store, only=runs), published_keys(store)))
    if not found.num_rows:
        whose = "no run with --no-publish has" if run is None else f"run {run} has no"
        raise UsageError(f"{whose} committed labels in {store} that the tables do not show")
    with ThreadPoolExecutor(READERS) as threads:
        parts = list(_readable(threads.map(partial(find_part_or_reason, store), pairs_of(found))))
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


def _readable(found: Iterable[FoundPart | UnreadablePart]) -> Iterator[FoundPart]:
    for part in found:
        if isinstance(part, FoundPart):
            yield part
        else:
            log.warning("left out: %s", part)
