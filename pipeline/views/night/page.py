"""The page of a night: one HTML file with its pictures inside; every name in it is escaped."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from pipeline.storage.uris import local_path
from pipeline.views import pages
from pipeline.views.night.summary import Night, Picture, verdict
from pipeline.views.words import change, count, duration, large, moment, money, number, short, size

ROWS_SHOWN = 50
ABSENT = {"stop_at": None, "error": None, "run_id": None, "returns": None, "published": None, "new_bad_rows": None}
"""Fields of a record that only some attempts have."""
ABSENT_LISTS = ("failures", "notes", "bad_rows", "manifests", "absent_examples")
ABSENT_MAPPINGS = ("reasons", "deaths", "links")


def render(
    record: Mapping[str, Any],
    *,
    night: Night,
    attempts: Sequence[Mapping[str, Any]],
    earlier: Sequence[Night],
    pictures: Sequence[Picture] = (),
    root: str = "../../",
) -> str:
    """The page of a night as HTML.

    Args:
        record: the report of the attempt that has just ended, as report.json holds it.
        night: the night in numbers, this attempt included.
        attempts: reports of the night's attempts before it.
        earlier: the nights before, oldest first.
        pictures: the most doubtful objects of the night.
        root: address of the output relative to the page.
    """
    return pages.render(
        "night.html",
        record=_complete(record),
        verdict=verdict(record),
        tiles=_tiles(night, earlier, record["currency"], hours=_hours([*attempts, record])),
        classes=_classes(record) if record.get("failures") else "",
        due=partial(_due, record=record),
        skipped=_skipped(record),
        tables=_tables(record),
        nights=[*earlier, night],
        pictures=pictures,
        root=root,
        local=local_path(record["output"]) is not None,
        work=_work(record),
        attempts=[{"started": None, "labelled": 0, "left": 0, "unfinished": False, **attempt} for attempt in attempts],
        outcome=_outcome,
        most_shown=ROWS_SHOWN,
    )


def _complete(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with all fields of the page; an attempt that failed early has few."""
    lists: dict[str, Any] = {name: record.get(name) or [] for name in ABSENT_LISTS}
    mappings: dict[str, Any] = {name: record.get(name) or {} for name in ABSENT_MAPPINGS}
    return {**ABSENT, "labelled": 0, "left": 0, **record, **lists, **mappings}


def _hours(attempts: Sequence[Mapping[str, Any]]) -> str:
    """Unit of the night's hours, GPU or actor, from an attempt that labelled something."""
    return next((str(each["hours_of"]) for each in attempts if each.get("gpu_hours") and "hours_of" in each), "GPU")


def _tiles(night: Night, earlier: Sequence[Night], currency: str, *, hours: str) -> list[tuple[str, str, str]]:
    """Name, value and note of each number at the top."""
    tiles = [
        ("Labelled", number(night.labelled), change(night.labelled, (n.labelled for n in earlier))),
        ("New failures", number(night.new_failures), _known(night)),
        ("Left", number(night.left), "the next night continues" if night.left else ""),
        ("Frames/s", short(night.frames_per_s), change(night.frames_per_s, (n.frames_per_s for n in earlier))),
        ("Masks made", large(night.masks), f"on {large(night.frames)} {'frame' if night.frames == 1 else 'frames'}"),
        (
            f"{hours[:1].upper()}{hours[1:]} hours",
            short(night.gpu_hours),
            change(night.gpu_hours, (n.gpu_hours for n in earlier)),
        ),
    ]
    if night.cost is not None:
        each = night.cost / night.labelled if night.labelled else None
        note = f"{money(each, currency)} a video" if each is not None else ""
        tiles.append((f"Cost, {currency}", f"{night.cost:,.2f}", note))
    return tiles


def _known(night: Night) -> str:
    known = night.failed - night.new_failures
    return f"and {number(known)} known from earlier nights" if known > 0 else ""


def _work(record: Mapping[str, Any]) -> str:
    """What this attempt did, in a sentence."""
    made = f"{count(record.get('frames', 0), 'frame')}, {count(record.get('masks', 0), 'mask')}"
    done = f"{count(record.get('labelled', 0), 'video')} labelled, {number(record.get('failed', 0))} failed"
    return f"{done}, {number(record.get('left', 0))} left in {duration(record.get('seconds', 0))}: {made}"


def _skipped(record: Mapping[str, Any]) -> list[tuple[int, str]]:
    """How many videos and rows were left out, and why."""
    planned: Mapping[str, int] = record.get("planned") or {}
    lines: list[tuple[int, str]] = [
        (planned.get("labelled", 0), "labelled before, and unchanged"),
        (planned.get("quarantined", 0), "in quarantine, not due yet"),
        (record.get("left", 0), "pending, not reached before the stop"),
        (record.get("superseded", 0), "superseded by a later row of the same video"),
        (record.get("bad_row_count", 0), _bad_rows(record)),
        (record.get("truncated", 0), "labelled up to where the file ends too early"),
        (record.get("damaged", 0), "labelled with damaged frames"),
        (record.get("absent", 0), "labelled, but in no manifest any longer; the labels are kept"),
    ]
    return [(amount, what) for amount, what in lines if amount]


def _bad_rows(record: Mapping[str, Any]) -> str:
    new = record.get("new_bad_rows", record.get("bad_row_count", 0))
    return f"left out of a manifest because a rule is broken; {number(new)} of them new"


def _tables(record: Mapping[str, Any]) -> list[str]:
    """What was published and maintained, a line each."""
    if not (published := record.get("published")):
        return []
    lines = [
        f"{count(published['videos'], 'video')} and {count(published['mask_rows'], 'mask')} published in "
        f"{duration(published['seconds'])}: {size(published['bytes_written'])} written"
        if published["videos"]
        else "Nothing new to publish"
    ]
    waiting = published["waiting"] - record["failed"] - record["quarantined"] - record["left"]
    if waiting > 0:
        lines.append(f"{count(waiting, 'video')} wanted by other runs and not labelled yet; earlier labels stay")
    lines += [f"Part left out: {part['video_id']}: {part['reason']}" for part in published["unreadable"]]
    for table in record.get("upkeep") or []:
        if table["bytes_rewritten"]:
            lines.append(
                f"Table {table['table']} optimized: {count(table['files_before'], 'file')} became "
                f"{number(table['files_after'])}, {size(table['bytes_rewritten'])} rewritten"
            )
        if table["bytes_left"]:
            lines.append(
                f"Table {table['table']}: {size(table['bytes_left'])} more than a night rewrites; "
                "jobs.publish --optimize does it"
            )
    return lines


def _outcome(attempt: Mapping[str, Any]) -> str:
    return "no report: killed, or still running" if attempt.get("unfinished") else verdict(attempt)[1]


def _classes(record: Mapping[str, Any]) -> str:
    """New and known failures by class."""
    new = record.get("new_failures_by_class", record["failed_by_class"])
    known = record.get("known_failures_by_class", record["quarantined_by_class"])
    parts = [("new", new), ("known from earlier nights", known)]
    return "; ".join(
        f"{number(sum(classes.values()))} {which}"
        + (f": {', '.join(f'{number(videos)} {name}' for name, videos in classes.items())}" if classes else "")
        for which, classes in parts
    )


def _due(failure: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    if not failure["due"]:
        return "when its video, prompts or model change, or by jobs.retry"
    if datetime.fromisoformat(failure["due"]) <= datetime.fromisoformat(record["ended"]):
        return "by the next run"
    return f"from {moment(failure['due'], record['timezone'])}"
