"""Planning of a run: reads the manifest, the model and the output. Starts and writes nothing."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detection.modelfiles import resolve_detector, with_threshold
from pipeline.detection.settings import DETECTION_VERSION
from pipeline.errors import UsageError
from pipeline.labels.failures import RETRIED_UNASKED, Failure, read_failures
from pipeline.labels.key import ALGORITHM_VERSION
from pipeline.manifest import Manifest, prompt_digests, read_manifest
from pipeline.manifest.bad_rows import refuse_rows
from pipeline.manifest.normalized import normalized_notes
from pipeline.runs.calibration import read_calibration
from pipeline.runs.config import RunConfig
from pipeline.runs.corrections import Overlay, overlay_manifest, read_corrections
from pipeline.runs.cuts import associations, end_at_cuts
from pipeline.runs.detections import fill_detections, read_digests
from pipeline.runs.duplicates import (
    describe_copies,
    find_copies,
    find_earlier,
    identities_by_etag,
    identities_by_reading,
)
from pipeline.runs.estimate import Estimate, costs_of, estimate
from pipeline.runs.existing import existing_labels, source_versions
from pipeline.runs.groups import describe_groups, sorted_groups
from pipeline.runs.lengths import Lengths, probe_lengths
from pipeline.runs.pinned import describe_pinned, find_pinned
from pipeline.runs.plan import CORRECTED, Plan, make_plan, with_frames
from pipeline.runs.returns import describe_returns, find_returns
from pipeline.runs.selection import allowed_videos, selected_videos
from pipeline.runs.summary import plan_lines
from pipeline.storage import Storage, Store, open_source
from pipeline.tables.output import check_output
from pipeline.tables.pins import Pin
from pipeline.tracking.modelfiles import ResolvedModel, resolve
from pipeline.video.digests import content_digest, packet_digest
from pipeline.views.card import card


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run before anything is started."""

    config: RunConfig
    store: Store
    storage: Storage
    manifest: Manifest
    model: ResolvedModel
    plan: Plan
    quarantined: list[Failure]
    """Failures of this manifest and these label keys that this run does not retry."""
    failures: dict[str, list[Failure]]
    """All failure records by video id; removed once the video is labelled."""
    returns: dict[str, int] = field(default_factory=dict)
    """Videos whose published labels are replaced by older ones, by the run that made the older ones."""
    notes: list[str] = field(default_factory=list)
    """Notes on the plan, one line each: coordinates between 0 and 1, corrections, returning and pinned labels,
    duplicates, worker groups."""
    lengths: Lengths | None = None
    """How the numbers of frames are known."""
    estimate: Estimate | None = None
    """Time that the pending videos take, if the configuration has a calibration."""
    adapted: Mapping[str, pa.Table] = field(default_factory=dict)
    """By URI detections that workers cannot read there themselves; the run writes them as a table."""
    cuts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By video id the first frames after cuts, at which objects end."""

    def _repr_html_(self) -> str:
        first, *rest = plan_lines(self)
        return card(first, rest)


def prepare(
    config: RunConfig, *, manifest: Manifest | None = None, retry: Callable[[Failure], bool] = lambda _: False
) -> Prepared:
    """Read the manifest, find the model, and compare wanted labels with existing ones.

    Args:
        config: the run.
        manifest: a validated manifest, instead of the one at `config.manifest`.
        retry: whether a failure in quarantine is retried; those of RETRIED_UNASKED always are.

    Raises:
        UsageError: The manifest, the model or a setting cannot be used, or more would be relabelled than is allowed.
        StorageError: The manifest or the output cannot be read.
    """
    storage = Storage.from_toml(config.storage)
    store = Store(config.output, storage=storage)
    check_output(store, "detections" if config.detection else "labels")

    def open_file(uri: str) -> BinaryIO:
        return open_source(uri, storage=storage)[0]

    if manifest is None:
        manifest = read_manifest(
            config.manifest,
            prompts=config.prompts,
            detections=config.detections,
            on_bad_row=config.on_bad_row,
            open_file=open_file,
        )
    manifest = fill_detections(manifest, config.detections)
    overlay = _corrected(selected_videos(allowed_videos(manifest, config), config), config, store)
    detected = read_digests(overlay.manifest, config, storage)
    ended = end_at_cuts(detected.manifest, config, open_file)
    manifest = ended.manifest
    digests = detected.digests.filter(pc.is_in(detected.manifest.table["video_id"], value_set=_ids(manifest)))
    model = _model(config)
    if config.detection:
        config = replace(config, detection=with_threshold(config.detection, model))
    calibration = None
    if config.calibration:
        dtype = config.parameters.dtype
        calibration = read_calibration(config.calibration, model=model, dtype=dtype, storage=storage)
    costs = costs_of(calibration, object_cost=model.object_cost, lanes=config.lanes)
    versions, sizes = source_versions(manifest, storage)
    failures = {(failure.video_id, failure.label_key): failure for failure in read_failures(store)}
    retried = {key for key, f in failures.items() if f.failure_class in RETRIED_UNASKED or retry(f)}
    labelled, committed = existing_labels(store)
    plan = make_plan(
        manifest.table,
        versions=versions,
        sizes=sizes,
        prompt_digests=prompt_digests(manifest),
        weights=model.digest,
        parameters=config.detection or config.parameters,
        algorithm_version=DETECTION_VERSION if config.detection else ALGORITHM_VERSION,
        label_rate=config.label_rate,
        labelled=labelled,
        committed=committed,
        quarantined=failures.keys() - retried,
        retried=retried,
        corrected=overlay.corrected,
        detections=digests,
        association=associations(manifest.table["video_id"], config.association, ended.cuts),
        frozen=overlay.frozen,
        costs=costs,
    )
    plan = replace(plan, copies=_copies(plan, manifest, sizes, config, storage))
    if config.find_duplicates != "off" and not config.check_drift:
        uris, given = manifest.table["video_uri"], manifest.table["video_version"]
        plan = replace(plan, earlier=find_earlier(plan, identities_by_etag(plan, uris, given), uris, labelled))
    lengths = probe_lengths(plan, manifest.table, storage=storage)
    plan = with_frames(plan, manifest.table, lengths.frames, costs)
    pinned: dict[str, Pin] = {}
    if config.publish and not config.detection:
        pinned = find_pinned(store, plan, weights=model.digest, parameters=config.parameters)
    returns = find_returns(store, plan, labelled, pinned=pinned)
    _refuse_large_relabel(plan, config, labelled.num_rows, returns)
    kept = plan.table.filter(pc.equal(plan.table["state"], "quarantined"))
    keys = zip(kept["video_id"].to_pylist(), kept["label_key"].to_pylist(), strict=True)
    pending_objects = plan.table["objects"].to_numpy()[plan.order]
    groups = describe_groups(sorted_groups(config.worker_group), pending_objects)
    return Prepared(
        config=config,
        store=store,
        storage=storage,
        manifest=manifest,
        model=model,
        plan=plan,
        quarantined=[failures[key] for key in keys],
        failures={v: list(group) for v, group in itertools.groupby(failures.values(), lambda f: f.video_id)},
        returns=returns,
        notes=[
            *normalized_notes(manifest),
            *overlay.notes(),
            *detected.notes,
            *describe_returns(returns),
            *describe_pinned(pinned, store),
            *describe_copies(plan.duplicates),
            *groups,
        ],
        lengths=lengths,
        estimate=estimate(plan, calibration, config) if calibration else None,
        adapted=detected.adapted,
        cuts={video_id: cuts.frames for video_id, cuts in ended.cuts.items()},
    )


def _ids(manifest: Manifest) -> pa.Array:
    return manifest.table["video_id"].combine_chunks()


def _model(config: RunConfig) -> ResolvedModel:
    if config.detection:
        return resolve_detector(config.model, config.detection, revision=config.revision)
    return resolve(config.model, revision=config.revision)


def _corrected(manifest: Manifest, config: RunConfig, store: Store) -> Overlay:
    """The manifest with the corrections that are stored in the output.

    Raises:
        ManifestError: Corrections do not fit their rows, and bad rows are not to be left out.
    """
    overlay = overlay_manifest(manifest, read_corrections(store, among=manifest.table["video_id"]))
    bad = overlay.manifest.bad_rows[len(manifest.bad_rows) :]
    if bad and config.on_bad_row == "fail":
        refuse_rows(bad)
    return overlay


def _copies(plan: Plan, manifest: Manifest, sizes: pa.Array, config: RunConfig, storage: Storage) -> dict[int, int]:
    """Duplicates among the pending videos. With --check-drift labels of earlier runs may lack what this run adds."""
    uris, versions = manifest.table["video_uri"], manifest.table["video_version"]
    match config.find_duplicates:
        case "off":
            return {}
        case "etag":
            identities = identities_by_etag(plan, uris, versions)
        case "content":
            identities = identities_by_reading(plan, uris, sizes, read=partial(content_digest, storage=storage))
        case "packets":
            identities = identities_by_reading(plan, uris, None, read=partial(packet_digest, storage=storage))
    return find_copies(plan, identities, of_labelled=not config.check_drift)


def _refuse_large_relabel(plan: Plan, config: RunConfig, labelled: int, returns: dict[str, int]) -> None:
    """Raise a UsageError if more published labels would be replaced than --max-relabel allows."""
    if config.max_relabel is None:
        return
    reasons = {why: n for why, n in plan.reasons().items() if why.endswith(" changed") or why == CORRECTED}
    again, returning = sum(reasons.values()), sum(returns.values())
    if again + returning > config.max_relabel * labelled:
        whys = [f"{n} because of {reason}" for reason, n in reasons.items()]
        whys += [f"{n} would return to the older labels of run {run}" for run, n in returns.items()]
        raise UsageError(
            f"the labels of {again + returning} of {labelled} labelled videos would be replaced ({', '.join(whys)}); "
            f"--max-relabel allows {config.max_relabel:.3%}"
        )
