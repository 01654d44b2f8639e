"""The label that each video should have: its pinned one, else the one that the last run with this video wants."""

import dataclasses
import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StorageError
from pipeline.storage import Store, parse_path, part_path
from pipeline.storage.format_version import FORMAT, check_format
from pipeline.storage.parquet import read_parquet, to_parquet
from pipeline.storage.paths import PARTS, PUBLISH_STATE, RUNS, run_path, wanted_path
from pipeline.tables.pins import InForce, Pin, pins_in_force, read_pins, settings_of_runs
from pipeline.tables.publications import published_runs

WANTED = pa.schema([("video_id", pa.string()), ("label_key", pa.string()), ("run_id", pa.string())])
ASK_ONE_BY_ONE = 500
"""Up to this many parts are looked up one by one; more by a listing of all parts."""
_CONSUMED = b"sam2-corpus:consumed-runs"
_FORMAT = b"sam2-corpus:format"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outstanding:
    """Wanted labels that are not in the tables according to the state, and what is taken into account."""

    wanted: pa.Table
    consumed: frozenset[str]
    """Runs and pins."""
    pins: tuple[Pin, ...] = ()
    """Pins that are not in the stored state yet."""
    ended: tuple[Pin, ...] = ()
    """Pins whose videos follow the runs again."""
    withheld: int = 0
    """Videos whose pinned label stays although a later run wants another one."""


def wanted_keys(store: Store, *, without: Collection[str] = ()) -> pa.Table:
    """For every video, the label key that it should have: video_id, label_key, run_id (or the name of its pin).

    Args:
        store: the output.
        without: runs that are left out.
    """
    return _with_pins(latest_wanted(store, without=without), in_force(store, without=without))


def latest_wanted(store: Store, *, without: Collection[str] = (), only: Collection[str] | None = None) -> pa.Table:
    """As `wanted_keys`, without the pins; `only`: of these runs."""
    runs = [run for run in store.list_dirs(RUNS) if run not in without and (only is None or run in only)]
    with ThreadPoolExecutor(8) as threads:
        return _latest([table for table in threads.map(lambda run: _wanted_by(store, run), runs) if table is not None])


def in_force(store: Store, *, without: Collection[str] = (), more: Collection[Pin] = ()) -> InForce:
    """The pins that no later run has ended; `more`: pins that are not stored, which are the latest."""
    runs = [run for run in store.list_dirs(RUNS) if run not in without]
    return _in_force(store, [*read_pins(store), *more], runs)


def staged_runs(store: Store) -> frozenset[str]:
    """Runs with `--no-publish` whose labels no publication has published yet."""
    consumed = _read_state(store)[1]
    staged = frozenset(run for run in store.list_dirs(RUNS) if run not in consumed and _is_staged(store, run))
    return staged - published_runs(store) if staged else staged


def read_outstanding(store: Store, *, without: Collection[str] = (), more: Collection[Pin] = ()) -> Outstanding:
    """The stored state, brought up to date with the runs and pins since, except the runs of `without`.

    `more`: pins that are not stored, which are the latest.
    """
    state, consumed = _read_state(store)
    runs = [run for run in store.list_dirs(RUNS) if run not in without]
    pins = [*read_pins(store), *more]
    unknown = [run for run in runs if run not in consumed]
    new = {run: table for run in unknown if (table := _wanted_by(store, run)) is not None}
    new_pins = tuple(pin for pin in pins if pin.name not in consumed)
    known = frozenset(consumed & {*runs, *(pin.name for pin in pins)})
    if not new and not new_pins:
        return Outstanding(wanted=state, consumed=known)
    tables = dict(new)
    if new:
        # A run that recorded its wanted labels late must not replace those of later runs: these are read again.
        first = min(new)
        again = {run: _wanted_by(store, run) for run in runs if run > first and run not in new}
        tables |= {run: table for run, table in again.items() if table is not None}
    merged = _latest([state, *(tables[run] for run in sorted(tables))])
    pinned = _in_force(store, pins, runs)
    return Outstanding(
        wanted=_with_pins(merged, pinned),
        consumed=known | set(new) | {pin.name for pin in new_pins},
        pins=new_pins,
        ended=tuple(pinned.ended(pins)),
        withheld=len(pinned.withheld),
    )


def has_news(store: Store, *, without: Collection[str] = ()) -> int | None:
    """None if there is something to publish (a new run or pin, or an awaited part); else the number of awaited parts.

    Takes a few requests, so that publishing is cheap when there is nothing to do.
    """
    state, consumed = _read_state(store)
    unknown = [run for run in store.list_dirs(RUNS) if run not in consumed and run not in without]
    if any(pin.name not in consumed for pin in read_pins(store)):
        return None
    if any(store.exists(wanted_path(run)) for run in unknown) or with_parts(store, state).num_rows:
        return None
    return int(state.num_rows)


def write_state(store: Store, outstanding: pa.Table, consumed: frozenset[str]) -> None:
    table = outstanding.replace_schema_metadata({_FORMAT: str(FORMAT), _CONSUMED: json.dumps(sorted(consumed))})
    store.put(PUBLISH_STATE, to_parquet(table))


def drop_state(store: Store) -> None:
    """Make the next publication compare all runs with the tables again."""
    store.delete(PUBLISH_STATE)


def with_parts(store: Store, wanted: pa.Table) -> pa.Table:
    """The rows of `wanted` whose part exists."""
    pairs = pairs_of(wanted)
    if len(pairs) <= ASK_ONE_BY_ONE:
        with ThreadPoolExecutor(16) as threads:
            there = list(threads.map(lambda pair: store.exists(part_path(*pair)), pairs))
    else:
        keys = dict(pairs)
        found = {
            pair[0]
            for shard in store.list_sharded(PARTS)
            for entry in shard
            if (pair := parse_path(entry.path)) and keys.get(pair[0]) == pair[1]
        }
        there = [video_id in found for video_id, _ in pairs]
    return wanted.filter(pa.array(there, pa.bool_()))


def pairs_of(table: pa.Table) -> list[tuple[str, str]]:
    """video_id and label_key of every row."""
    return list(zip(table["video_id"].to_pylist(), table["label_key"].to_pylist(), strict=True))


def different_from(wanted: pa.Table, published: pa.Table) -> pa.Table:
    """The rows of `wanted` whose key is not the published one."""
    where = pc.index_in(wanted["video_id"], value_set=published["video_id"].combine_chunks())
    current = published["label_key"].take(where)
    return wanted.filter(pc.invert(pc.fill_null(pc.equal(current, wanted["label_key"]), False)))


def _latest(tables: list[pa.Table]) -> pa.Table:
    """One row per video: the one of the greatest run_id; of equal ones the last."""
    if not tables:
        return WANTED.empty_table()
    rows = pa.concat_tables(tables)
    order = pc.sort_indices(rows, [("run_id", "ascending")])  # stable
    last = (
        rows.take(order).group_by("video_id", use_threads=False).aggregate([("label_key", "last"), ("run_id", "last")])
    )
    return pa.table([last[name] for name in ("video_id", "label_key_last", "run_id_last")], schema=WANTED)


def _in_force(store: Store, pins: list[Pin], runs: list[str]) -> InForce:
    return pins_in_force(pins, runs, wanted_by=lambda run: _wanted_by(store, run), settings_of=settings_of_runs(store))


def _with_pins(wanted: pa.Table, pinned: InForce) -> pa.Table:
    """Wanted labels, with those of pinned videos replaced by the pinned ones."""
    if not pinned.labels:
        return wanted
    ids = pa.array(pinned.labels, pa.string())
    keys = [label.label_key for label in pinned.labels.values()]
    pins = [label.pin.name for label in pinned.labels.values()]
    others = wanted.filter(pc.invert(pc.is_in(wanted["video_id"], value_set=ids)))
    return pa.concat_tables([others, pa.table([ids, pa.array(keys), pa.array(pins)], schema=WANTED)])


def _is_staged(store: Store, run: str) -> bool:
    data = store.read_or_none(run_path(run))
    try:
        return data is not None and json.loads(data)["configuration"]["publish"] is False
    except (ValueError, KeyError, TypeError):
        return False


def _wanted_by(store: Store, run: str) -> pa.Table | None:
    """The wanted labels of a run; None if they are not recorded (yet)."""
    data = store.read_or_none(wanted_path(run))
    if data is None:
        return None
    try:
        table = read_parquet(data, columns=["video_id", "label_key"])
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(f"cannot read {store}/{wanted_path(run)}: {error}") from None
    return table.append_column("run_id", pa.repeat(run, table.num_rows)).cast(WANTED)


def _read_state(store: Store) -> tuple[pa.Table, set[str]]:
    data = store.read_or_none(PUBLISH_STATE)
    if data is None:
        return WANTED.empty_table(), set()
    table = read_parquet(data)
    said = table.schema.metadata or {}
    check_format(said.get(_FORMAT), what=f"{store}/{PUBLISH_STATE}")
    return table.select(WANTED.names).cast(WANTED), set(json.loads(said[_CONSUMED]))
