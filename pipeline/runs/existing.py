"""What a plan compares: the versions of the sources, and the labels that exist."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest import Manifest
from pipeline.runs.plan import places_of
from pipeline.storage import Entry, Storage, Store, parse_path
from pipeline.storage.paths import PARTS
from pipeline.tables.labelled import labelled_videos
from pipeline.video.content import content_versions

SOURCES_AT_ONCE = 100_000


def existing_labels(store: Store) -> tuple[pa.Table, set[tuple[str, str]]]:
    """The videos table, and (video_id, label_key) of the committed parts that it does not show.

    After a publication these are few. The table is read last, so it has parts that are published and expired meanwhile.
    """
    parts = committed_parts(store)
    labelled = labelled_videos(store)
    where = pc.index_in(parts["video_id"], value_set=labelled["video_id"])
    published = pc.fill_null(pc.equal(labelled["label_key"].take(where), parts["label_key"]), False)
    left = parts.filter(pc.invert(published))
    return labelled, set(zip(left["video_id"].to_pylist(), left["label_key"].to_pylist(), strict=True))


def committed_parts(store: Store) -> pa.Table:
    """video_id and label_key of every part of an output."""

    def pairs(entries: Iterator[Entry]) -> pa.Table:
        found = [pair for entry in entries if (pair := parse_path(entry.path))]
        columns = [pa.array([pair[i] for pair in found], pa.string()) for i in (0, 1)]
        return pa.table(columns, names=["video_id", "label_key"])

    return pa.concat_tables(store.map_shards(PARTS, pairs))


def source_versions(manifest: Manifest, storage: Storage) -> tuple[pa.Array, pa.Array]:
    """Version and size of every source; only sources without a version in the manifest are looked up."""
    given = manifest.table["video_version"].combine_chunks()
    unknown = pc.indices_nonzero(pc.is_null(given))
    uris = manifest.table["video_uri"].take(unknown)
    order = pc.sort_indices(uris)  # sources in one folder share listings
    versions, sizes = [], []
    for start in range(0, len(order), SOURCES_AT_ONCE):
        some = uris.take(order.slice(start, SOURCES_AT_ONCE)).to_pylist()
        found = content_versions(some, storage=storage)
        versions.append(pa.array([version and version.token() for version in found], pa.string()))
        sizes.append(pa.array([version and version.size for version in found], pa.int64()))
    places = places_of(unknown.take(order).to_numpy(), len(given))
    asked = pa.chunked_array(versions, pa.string()).take(places).combine_chunks()
    return pc.coalesce(given, asked), pa.chunked_array(sizes, pa.int64()).take(places).combine_chunks()
