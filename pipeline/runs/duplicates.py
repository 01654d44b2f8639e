"""Videos that equal another one of the plan: same content, segment, rate and prompts. They are labelled once.

Each still has its own label key, part and rows: a worker copies the labels of the other video under its name.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import CorpusError
from pipeline.manifest.fps import have_own_rate
from pipeline.runs.plan import STATES, Plan

READERS = 16
ALIKE = ("start_s", "end_s", "fps", "label_rate", "prompts_digest", "parameters")
"""Columns of the plan that two equal videos have in common, besides their content."""

SAME_LABELS = [
    "version", *(name for name in ALIKE if name != "fps"), "weights_digest", "algorithm_version",
]  # fmt: skip
"""Columns that are equal for videos of equal labels, for those of video files without detections."""

Rows = npt.NDArray[np.int64]


def identities_by_etag(plan: Plan, uris: pa.ChunkedArray, versions: pa.ChunkedArray) -> pa.Array:
    """Size and ETag of every source on S3; null for others, whose versions are not made from their content.

    Args:
        uris: of every video.
        versions: those that the manifest gives; null where the source was looked up.
    """
    on_s3 = pc.and_(pc.starts_with(uris, "s3://"), pc.is_null(versions))
    return pc.if_else(on_s3, plan.table["version"], pa.scalar(None, pa.string())).combine_chunks()


def identities_by_reading(
    plan: Plan, uris: pa.ChunkedArray, sizes: pa.Array | None, *, read: Callable[[str], str]
) -> pa.Array:
    """What `read` returns for the sources that may be equal to another; null for the rest and where it fails.

    Args:
        uris: of every video.
        sizes: bytes of every source, where equal videos have equal sizes; null where the manifest gives the version,
            so that these are compared with each other only.
        read: a digest of the source at a URI.
    """
    table = plan.table.select(list(ALIKE))
    table = table if sizes is None else table.append_column("size", sizes)
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    comparable = _comparable(plan)
    for row, key in zip(comparable.tolist(), _keys(table.take(comparable)), strict=True):
        groups[key].append(row)
    pending = set(plan.order.tolist())
    rows = sorted(row for group in groups.values() if len(group) > 1 and pending & set(group) for row in group)
    names = uris.take(pa.array(rows, pa.int64())).to_pylist()
    found: dict[str, str | None] = dict.fromkeys(names)

    def attempt(uri: str) -> str | None:
        try:
            return read(uri)
        except CorpusError:
            return None  # labelling reports it

    with ThreadPoolExecutor(READERS) as threads:
        found = dict(zip(found, threads.map(attempt, list(found)), strict=True))
    digests = np.full(plan.table.num_rows, None, object)
    digests[rows] = [found[name] for name in names]
    return pa.array(digests, pa.string())


def find_copies(plan: Plan, identities: pa.Array, *, of_labelled: bool = True) -> dict[int, int]:
    """Rows of pending videos that equal another one, each with the row of that one.

    That one is labelled, or it is the first of them in the order of the plan.

    Args:
        identities: of the content of every video; null where it is not known.
        of_labelled: whether labels of earlier runs are copied, too.
    """
    comparable = _comparable(plan, labelled=of_labelled)
    counts = identities.take(pa.array(comparable)).drop_null().value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if not len(repeated):
        return {}
    rows = comparable[pc.is_in(identities.take(pa.array(comparable)), value_set=repeated).to_numpy(False)]
    table = plan.table.select([*ALIKE, "state"]).append_column("identity", identities)
    keys = dict(zip(rows.tolist(), _keys(table.select([*ALIKE, "identity"]).take(rows)), strict=True))
    firsts: dict[tuple[object, ...], int] = {}
    for row, state in zip(rows.tolist(), table["state"].take(rows).to_pylist(), strict=True):
        if state == "labelled":
            firsts.setdefault(keys[row], row)
    copies = {}
    for row in plan.order[np.isin(plan.order, rows)].tolist():
        if (first := firsts.setdefault(keys[row], row)) != row:
            copies[row] = first
    return copies


def find_earlier(
    plan: Plan, identities: pa.Array, uris: pa.ChunkedArray, labelled: pa.Table
) -> dict[int, tuple[str, str]]:
    """Rows of pending videos that equal a labelled one outside the plan, each with its id and label key.

    A version that is a size and an ETag of S3 says the same of a labelled video as of a pending one, so nothing is
    read. Only video files without detections are compared: the rate of images is not among the published columns.

    Args:
        identities: size and ETag of every video of the plan; null where it is not known.
        uris: of every video of the plan.
        labelled: the published videos: video_id, label_key and KEY_COLUMNS.
    """
    pending = np.setdiff1d(plan.order, list(plan.copies))
    plain = pc.and_(pc.is_null(plan.table["detections_digest"]), have_own_rate(uris)).to_numpy()
    pending = pending[plain[pending]]
    known = identities.take(pa.array(pending))
    others = labelled.filter(
        pc.and_(pc.is_in(labelled["version"], value_set=known.drop_null()), pc.is_null(labelled["detections_digest"]))
    )
    others = others.filter(pc.invert(pc.is_in(others["video_id"], value_set=plan.table["video_id"].combine_chunks())))
    if not others.num_rows:
        return {}
    pairs = zip(others["video_id"].to_pylist(), others["label_key"].to_pylist(), strict=True)
    by_key = dict(zip(_keys(others.select(SAME_LABELS)), pairs, strict=True))
    keys = _keys(plan.table.take(pa.array(pending)).select(SAME_LABELS))
    found = zip(pending.tolist(), known.is_valid().to_pylist(), keys, strict=True)
    return {row: by_key[key] for row, valid, key in found if valid and key in by_key}


def describe_copies(copies: Collection[int]) -> Iterable[str]:
    """A line for the plan, if there are any."""
    if count := len(copies):
        videos = "1 pending video is a duplicate" if count == 1 else f"{count} pending videos are duplicates"
        yield f"{videos} of other videos: labelled once, with rows for each (column duplicate_of of videos)"


def _comparable(plan: Plan, *, labelled: bool = True) -> Rows:
    """Rows of the videos that are pending or labelled; those with detections have objects of their own."""
    states = pa.array(["pending", "labelled"] if labelled else ["pending"])
    assert set(states.to_pylist()) <= set(STATES)
    prompted = pc.is_null(plan.table["detections_digest"])
    return np.flatnonzero(pc.and_(pc.is_in(plan.table["state"], value_set=states), prompted).to_numpy())


def _keys(table: pa.Table) -> Iterable[tuple[object, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
