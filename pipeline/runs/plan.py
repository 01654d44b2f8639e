"""Which videos are pending, why, and in which order. Pure: works on Arrow columns, without storage.

A label key identifies everything that determines a video's masks; a video with the same key needs no work. Other
changes of a manifest or deployment (paths, categories, package versions, number of actors) do not change it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detection.settings import DetectionParameters
from pipeline.labels.key import ALGORITHM_VERSION, Parameters, label_key
from pipeline.labels.reasons import changed_inputs
from pipeline.manifest.conform import flags
from pipeline.manifest.fps import rates
from pipeline.manifest.label_rates import label_rates, labelled_shares

Numbers = npt.NDArray[np.float64]
Costs = Callable[[Numbers, npt.NDArray[np.int64]], Numbers]
"""Cost of videos from their numbers of frames and objects, in any one unit."""

BYTES_PER_FRAME = 20_000
"""Estimates the length of a video without num_frames: about 5 Mbit/s at 30 frames a second."""

CORRECTED = "prompts corrected"
"""The reason of a video whose prompts a stored correction changed."""
STATES = ("pending", "labelled", "quarantined", "unreadable")
ROWS_AT_ONCE = 65_536
"""Rows converted to Python objects at once."""


@dataclass(frozen=True)
class Plan:
    """One row per video of the manifest, in its order.

    `table` has video_id, label_key, state (one of STATES), reason (why it is pending, else null), earlier_key (label
    key of the published labels that a pending video has), frames, objects, cost, and the columns of KEY_COLUMNS.
    """

    table: pa.Table
    order: npt.NDArray[np.int64]
    """Row numbers of the pending videos: by priority, then most expensive first."""
    copies: Mapping[int, int] = field(default_factory=dict)
    """Rows of pending videos that are duplicates, each with the row of the video whose labels are copied."""

    earlier: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Rows of pending videos that are duplicates of labelled ones outside this manifest, with their ids and keys."""

    @property
    def duplicates(self) -> Collection[int]:
        """Rows of the pending videos whose labels are copied."""
        return {**self.copies, **self.earlier}.keys()

    @property
    def tracked(self) -> npt.NDArray[np.int64]:
        """Row numbers of the pending videos that are not duplicates, in the same order."""
        return self.order[~np.isin(self.order, list(self.duplicates))] if self.duplicates else self.order

    def reasons(self) -> dict[str, int]:
        """Number of pending videos by reason, most frequent first."""
        return dict(Counter(self.table["reason"].take(self.order).to_pylist()).most_common())

    def count(self, state: str) -> int:
        """Number of videos in this state."""
        return int(pc.sum(pc.equal(self.table["state"], state)).as_py() or 0)

    def total(self, column: str) -> float:
        """Sum of frames, objects or cost over the pending videos that are not duplicates."""
        return float(pc.sum(self.table[column].take(self.tracked)).as_py() or 0)


def make_plan(
    manifest: pa.Table,
    *,
    versions: pa.Array,
    sizes: pa.Array,
    prompt_digests: pa.Array,
    weights: str,
    parameters: Parameters | DetectionParameters,
    algorithm_version: int = ALGORITHM_VERSION,
    label_rate: str | None = None,
    labelled: pa.Table,
    committed: Collection[tuple[str, str]],
    quarantined: Collection[tuple[str, str]],
    retried: Collection[tuple[str, str]] = (),
    corrected: Collection[str] = (),
    detections: pa.Array | None = None,
    association: str | pa.Array | None = None,
    frozen: Collection[str] = (),
    costs: Costs,
) -> Plan:
    """Compare a manifest with what is labelled; returns the state of every video.

    Args:
        manifest: validated manifest, one row a video.
        versions: content version of every video, string; null where the source cannot be reached.
        sizes: bytes of every source, int64, where known: a guess of the length without num_frames.
        prompt_digests: digest of every video's prompt geometry.
        weights: digest of the model's weights.
        parameters: settings that change masks or detections.
        algorithm_version: version of the algorithm that makes the labels.
        label_rate: the run's label rate, such as `6fps` or `3f`; None for all frames.
        labelled: the published videos table: video_id, label_key and KEY_COLUMNS; may be empty.
        committed: (video_id, label_key) of the committed parts; published ones may be missing.
        quarantined: (video_id, label_key) of failures that are not retried.
        retried: (video_id, label_key) of failures that are retried.
        detections: digest of every video's detections; null where it has none.
        association: settings by which detections become prompts, of all videos or of each.
        frozen: videos whose prompts were decided from detections before they were corrected.
        corrected: videos whose prompts are not the manifest's own, but corrected ones.
        costs: cost of videos, by which they are ordered.
    """
    if detections is None:
        detections = pa.nulls(manifest.num_rows, pa.string())
    decided = pc.is_in(manifest["video_id"], value_set=pa.array(frozen, pa.string()))
    decided = flags(pc.or_(decided, detections.is_valid()))
    settings = [parameters.to_json()]
    if isinstance(parameters, Parameters):
        settings.append(parameters.for_detections().to_json())
    label_rate_column = label_rates(manifest, label_rate)
    if isinstance(parameters, DetectionParameters):  # looks have a rate of their own
        label_rate_column = pa.nulls(manifest.num_rows, pa.string())
    table = pa.table(
        {
            "video_id": manifest["video_id"],
            "version": versions,
            "start_s": manifest["start_s"],
            "end_s": manifest["end_s"],
            "fps": rates(manifest["video_uri"], manifest["fps"]),
            "label_rate": label_rate_column,
            "prompts_digest": prompt_digests,
            "weights_digest": _constant(weights, manifest.num_rows),
            "parameters": pa.DictionaryArray.from_arrays(pa.array(decided.astype(np.int8)), settings),
            "algorithm_version": pa.repeat(pa.scalar(algorithm_version, pa.int32()), manifest.num_rows),
        }
    )
    table = table.append_column("detections_digest", detections).append_column(
        "association", pc.if_else(detections.is_valid(), _text(association), pa.scalar(None, pa.string()))
    )
    table = table.add_column(1, "label_key", _keys(table, weights, algorithm_version))
    where = pc.index_in(manifest["video_id"], value_set=labelled["video_id"]).combine_chunks()
    same = pc.fill_null(pc.equal(table["label_key"], labelled["label_key"].take(where)), False)
    codes = np.full(manifest.num_rows, STATES.index("pending"), np.int8)
    codes[same.to_numpy()] = STATES.index("labelled")
    codes[table["label_key"].is_null().to_numpy()] = STATES.index("unreadable")
    due = np.zeros(manifest.num_rows, bool)
    for row, pair in _pairs(table, codes == STATES.index("pending")) if committed or quarantined or retried else ():
        due[row] = pair in retried
        if pair in committed:
            codes[row] = STATES.index("labelled")
        elif pair in quarantined:
            codes[row] = STATES.index("quarantined")
    pending = np.flatnonzero(codes == STATES.index("pending"))
    reasons = changed_inputs(table.take(pending), labelled, where.take(pending))
    by_hand = pc.is_in(table["video_id"].take(pending), value_set=pa.array(corrected, pa.string()))
    reasons = pc.if_else(pc.and_(by_hand, pc.equal(reasons, "prompts changed")), CORRECTED, reasons)
    reasons = pc.if_else(pa.array(due[pending]), "retry due", reasons)
    earlier = labelled["label_key"].take(where.take(pending))
    frames = _frames(manifest, sizes) * labelled_shares(manifest, label_rate_column)
    objects = np.maximum(_objects(manifest), decided)
    table = (
        table.append_column("state", pa.array(STATES).take(pa.array(codes)))
        .append_column("reason", reasons.take(places_of(pending, manifest.num_rows)))
        .append_column("earlier_key", earlier.take(places_of(pending, manifest.num_rows)))
        .append_column("frames", pa.array(frames))
        .append_column("objects", pa.array(objects))
        .append_column("cost", pa.array(costs(frames, objects)))
    )
    return Plan(table, _ordered(pending, table, manifest))


def with_frames(plan: Plan, manifest: pa.Table, frames: Numbers, costs: Costs) -> Plan:
    """The plan with other numbers of frames, float64 (rows,), and the order that follows from them."""
    new = {"frames": pa.array(frames), "cost": pa.array(costs(frames, plan.table["objects"].to_numpy()))}
    table = plan.table
    for name, values in new.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return replace(plan, table=table, order=_ordered(np.sort(plan.order), table, manifest))


def _ordered(pending: npt.NDArray[np.int64], table: pa.Table, manifest: pa.Table) -> npt.NDArray[np.int64]:
    """The pending rows by priority, then most expensive first."""
    priority = manifest["priority"].fill_null(0).to_numpy()[pending]
    cost = table["cost"].to_numpy()[pending]
    return pending[np.lexsort((-cost, -priority))]


def places_of(rows: npt.NDArray[np.int64], total: int) -> pa.Array:
    """For every row of a table its position in `rows`, or null."""
    places = np.full(total, -1)
    places[rows] = np.arange(len(rows))
    return pa.array(places, mask=places < 0)


def _text(value: str | pa.Array | None) -> pa.Array | pa.Scalar:
    return value if isinstance(value, pa.Array) else pa.scalar(value, pa.string())


def _constant(value: str, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), [value])


def _keys(table: pa.Table, weights: str, algorithm_version: int) -> pa.ChunkedArray:
    """The label key of every video; null where its version is."""
    chunks = []
    names = ["version", "start_s", "end_s", "fps", "label_rate", "prompts_digest", "parameters", "detections_digest"]
    names.append("association")
    for batch in table.select(names).to_batches(ROWS_AT_ONCE):
        keys = [
            None
            if version is None
            else label_key(
                version=version,
                start_s=start,
                end_s=end,
                fps=fps,
                label_rate=rate,
                prompts=prompts,
                weights=weights,
                parameters=settings,
                algorithm_version=algorithm_version,
                detections=detections,
                association=association,
            )
            for version, start, end, fps, rate, prompts, settings, detections, association in zip(
                *(column.to_pylist() for column in batch.columns), strict=True
            )
        ]
        chunks.append(pa.array(keys, pa.string()))
    return pa.chunked_array(chunks, pa.string())


def _pairs(table: pa.Table, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Row number, video_id and label_key of the chosen rows."""
    rows = np.flatnonzero(chosen)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        ids, keys = (table[name].take(pa.array(some)).to_pylist() for name in ("video_id", "label_key"))
        yield from zip(some.tolist(), zip(ids, keys, strict=True), strict=True)


def _frames(manifest: pa.Table, sizes: pa.Array) -> np.ndarray:
    """Frames of every video: as in the manifest, else estimated from the size of the file, float64 (rows,)."""
    guess = pc.max_element_wise(pc.divide(sizes.cast(pa.float64()), float(BYTES_PER_FRAME)), 1.0)
    frames: np.ndarray = pc.coalesce(manifest["num_frames"].cast(pa.float64()), guess, 1.0).to_numpy()
    return frames


def _objects(manifest: pa.Table) -> np.ndarray:
    """Number of distinct objects of every video, int64 (rows,)."""
    prompts = manifest["prompts"].combine_chunks()
    pairs = pa.table({"row": pc.list_parent_indices(prompts), "object": pc.struct_field(pc.list_flatten(prompts), 0)})
    unique = pairs.group_by(["row", "object"]).aggregate([])
    return np.bincount(unique["row"].to_numpy(), minlength=manifest.num_rows)
