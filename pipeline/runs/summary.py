"""The plan and the result of a run in words, one line each; commands print them, notebooks show them."""

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.storage.paths import DETECTIONS_TABLE
from pipeline.views.words import count, duration, money, short

if TYPE_CHECKING:  # only for types: importing these loads the manifest's reader before --help is shown
    from pipeline.runs.estimate import Estimate
    from pipeline.runs.prepare import Prepared
    from pipeline.runs.progress import RunReport

SHOWN = 20
"""Failures and bad rows that are listed one by one."""


def failures_text(failed: int, quarantined: int) -> str:
    """The failures of a run and those of earlier runs, as every command counts them; empty if there are none."""
    kept = f"{quarantined:,} in quarantine since earlier runs"
    parts = [f"{failed:,} failed"] * bool(failed) + [kept] * bool(quarantined)
    return ", ".join(parts)


def damage_text(truncated: int, damaged: int) -> str:
    """The labelled videos that are not whole: "1 truncated, 2 damaged"; empty if all are."""
    return ", ".join(
        f"{number:,} {kind}" for number, kind in ((truncated, "truncated"), (damaged, "damaged")) if number
    )


def reason_text(reason: str, videos: int) -> str:
    """Why so many videos are pending: "10 new videos", "3 videos: prompts changed"."""
    return count(videos, reason) if reason == "new video" else f"{count(videos, 'video')}: {reason}"


def next_line(*commands: Sequence[str]) -> str:
    """What a user may run next: commands of `jobs` with their arguments."""
    return "next: " + ", or ".join(f"python -m jobs.{name} {shlex.join(rest)}".rstrip() for name, *rest in commands)


def plan_lines(prepared: "Prepared", *, price_per_hour: float | None = None, currency: str = "") -> Iterator[str]:
    """What a run would do: pending videos and why, labelled ones, those that stay without labels, time and price.

    The time is known if the run has a calibration; price_per_hour is that of one GPU, or of an actor without one.
    """
    plan = prepared.plan
    if not len(plan.order):
        yield f"nothing pending: {count(plan.count('labelled'), 'video')} labelled before"
    else:
        frames, objects = round(plan.total("frames")), round(plan.total("objects"))
        size = f"{count(frames, 'frame')} and {count(objects, 'object')}"
        about = "" if prepared.lengths and prepared.lengths.known else "about "
        yield f"{count(len(plan.order), 'video')} pending, {about}{size}"
        if prepared.lengths:
            yield f"frames of {prepared.lengths}"
        for reason, number in plan.reasons().items():
            yield f"  {reason_text(reason, number)}"
        yield f"{plan.count('labelled')} labelled"
        if prepared.estimate:
            yield _estimate_line(prepared.estimate, price_per_hour, currency)
        if not prepared.config.detection:
            from pipeline.runs.relabelling import relabel_lines  # loads the manifest's reader

            yield from relabel_lines(prepared)
    yield from prepared.notes
    for state, meaning in (("quarantined", "in quarantine"), ("unreadable", "whose source cannot be found")):
        if plan.count(state):
            yield f"{plan.count(state)} {meaning}"
    yield from _bad_rows([str(row) for row in prepared.manifest.bad_rows])


def _estimate_line(estimate: "Estimate", price_per_hour: float | None, currency: str) -> str:
    hours = estimate.gpu_hours or estimate.actor_hours
    amount = (
        ""
        if price_per_hour is None
        else f", {money(estimate.price(price_per_hour), currency).strip()} at {price_per_hour:g} an hour"
    )
    return (
        f"estimate: {duration(estimate.seconds)} with {count(estimate.actors, 'actor')}, {short(hours)} "
        f"{'GPU' if estimate.gpu_hours else 'actor'} hours{amount}; measured on {estimate.device} with "
        f"{count(estimate.lanes, 'lane')}; actors start in {duration(estimate.start_s)} in addition"
    )


def report_lines(report: "RunReport") -> Iterator[str]:
    """The result of a run: counts, failures with their reasons, where the labels are, and what to do next."""
    pending = report.planned["pending"]
    if not pending:
        yield f"nothing pending: {count(report.planned['labelled'], 'video')} labelled before"
    else:
        yield (
            f"labelled {report.labelled} of {count(pending, 'pending video')} in {duration(report.seconds)}: "
            f"{count(report.frames, 'frame')}, {count(report.masks, 'mask')}"
        )
        for reason, number in report.reasons.items():
            yield f"  {reason_text(reason, number)}"
    yield from _problems(report, damage_is_in=" (columns truncated and damaged_packets of the videos table)")
    if report.published is None:
        yield f"parts are in {report.output}/parts"
        yield next_line(["publish", report.output, "--run", report.run_id])
    elif report.published.videos or report.planned["labelled"]:
        yield f"tables masks, masklets and videos are in {report.output}"
        if report.published.videos:
            yield next_line(["preview", report.output], ["report", report.output])


def detection_lines(report: "RunReport") -> Iterator[str]:
    """The result of a run of detection: counts, failures with their reasons, and where the detections are."""
    pending = report.planned["pending"]
    if not pending:
        yield f"nothing pending: {count(report.planned['labelled'], 'video')} detected before"
    else:
        yield (
            f"detected {report.labelled} of {count(pending, 'pending video')} in {duration(report.seconds)}: "
            f"{count(report.frames, 'look')}, {count(report.masks, 'detection')}"
        )
    yield from _problems(report)
    if report.published and report.published.mask_rows:
        yield f"{report.output}/{DETECTIONS_TABLE} has {count(report.published.mask_rows, 'row')}"
        yield next_line(["label", "--manifest", "MANIFEST", "--detections", report.output, "--output", "LABELS"])


def _problems(report: "RunReport", *, damage_is_in: str = "") -> Iterator[str]:
    """What is damaged, left, failed or left out."""
    if damage := damage_text(report.truncated, report.damaged):
        yield f"of these {damage}{damage_is_in}"
    yield from report.notes
    if report.left:
        yield f"stopped before the end: {count(report.left, 'video')} left; the same command continues"
    if report.failures:
        yield f"{failures_text(report.failed, len(report.failures) - report.failed)}:"
    for failure in report.failures[:SHOWN]:
        yield f"  {failure.video_id!r} ({failure.failure_class}): {failure.message}"
    if len(report.failures) > SHOWN:
        yield f"  ... and {len(report.failures) - SHOWN} more in {report.output}/failures"
    yield from _bad_rows(report.bad_rows)


def _bad_rows(rows: list[str]) -> Iterator[str]:
    for row in rows[:SHOWN]:
        yield f"bad row left out: {row}"
    if len(rows) > SHOWN:
        yield f"... and {len(rows) - SHOWN} more bad rows"
