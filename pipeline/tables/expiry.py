"""Expiry of parts: copies of published labels, and labels that no run wants any more."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage import Store, parse_path
from pipeline.storage.ownership import is_ours
from pipeline.storage.paths import PARTS, STATES, part_path, states_dir
from pipeline.tables.commits import newest_epoch
from pipeline.tables.delta import dataset
from pipeline.tables.epoch import WAIT_S, hold_epoch
from pipeline.tables.intents import read_intents
from pipeline.tables.publications import Publication, read_history
from pipeline.tables.wanted import latest_wanted, pairs_of, staged_runs, wanted_keys


@dataclass(frozen=True, kw_only=True)
class EndedRollback:
    """A publication that cannot be shown again once parts have expired."""

    publication: Publication
    videos: int
    """Videos that cannot go back to what it showed."""


def expire_parts(
    store: Store,
    *,
    older_than_s: float,
    now: float,
    wait_s: float = WAIT_S,
    announce: Callable[[list[EndedRollback]], None] = lambda _: None,
) -> int:
    """Delete parts that were published or superseded more than `older_than_s` ago; returns their number.

    Kept states are deleted with their part.

    A run that returns to earlier parameters computes the labels of expired parts again. Labels that a pin, a staged run
    or the last run of a video wants are kept until they are published.

    Args:
        store: the output.
        older_than_s: age in seconds.
        now: seconds since the epoch.
        wait_s: seconds to wait for another publisher.
        announce: called before anything is deleted, with the rollbacks that this ends.
    """
    with hold_epoch(store, above=newest_epoch(store), wait_s=wait_s):
        expired = find_expired(store, older_than_s=older_than_s, now=now)
        announce(ended_rollbacks(store, expired))
        store.delete_many(part_path(*pair) for pair in expired)
        if expired and store.is_folder(STATES):
            states = (entry.path for pair in expired for entry in store.list(states_dir(*pair)))
            store.delete_many(path for path in states if is_ours(path))
    return len(expired)


def find_expired(store: Store, *, older_than_s: float, now: float) -> set[tuple[str, str]]:
    """video_id and label_key of the parts that `expire_parts` would delete."""
    cutoff = now - older_than_s
    published = _publication_times(store)
    # without pins, too: a run would label again what it wants although a pin is shown instead
    wanted = {*pairs_of(wanted_keys(store)), *pairs_of(latest_wanted(store)), *pairs_of(_staged(store))}
    known = {video_id for video_id, _ in wanted}
    interrupted = {video_id for intent in read_intents(store).values() for video_id in intent}
    expired = set()
    for shard in store.list_sharded(PARTS):
        for entry in shard:
            if not is_ours(entry.path) or not (pair := parse_path(entry.path)) or entry.mtime >= cutoff:
                continue
            if pair[0] in interrupted:
                continue
            since = published.get(pair)
            superseded = since is None and pair[0] in known and pair not in wanted
            if superseded or (since is not None and since < cutoff):
                expired.add(pair)
    return expired


def ended_rollbacks(store: Store, expired: Collection[tuple[str, str]]) -> list[EndedRollback]:
    """The publications, the oldest first, of which some labels could not be shown again without these parts."""
    if not expired:
        return []
    history, found = read_history(store), []
    for publication in history.publications[:-1]:
        videos = sum(
            label is not None and (video_id, label.label_key) in expired and history.present.get(video_id) != label
            for video_id, label in history.labels_after(publication.number).items()
        )
        if videos:
            found.append(EndedRollback(publication=publication, videos=videos))
    return found


def _staged(store: Store) -> pa.Table:
    return latest_wanted(store, only=staged_runs(store))


def _publication_times(store: Store) -> dict[tuple[str, str], float]:
    if (videos := dataset(store, "videos")) is None:
        return {}
    rows = videos.to_table(columns=["video_id", "label_key", "published_at"])
    seconds = pc.divide(pc.cast(rows["published_at"], pa.int64()).cast(pa.float64()), 1e6).to_pylist()
    pairs = zip(rows["video_id"].to_pylist(), rows["label_key"].to_pylist(), strict=True)
    return {pair: second for pair, second in zip(pairs, seconds, strict=True) if second is not None}
