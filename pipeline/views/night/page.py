"""The page of a night: one HTML file without links to others; every name in it is escaped."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pipeline.views.night.summary import Night, verdict
from pipeline.views.pages import asset
from pipeline.views.words import change, count, duration, large, moment, money, number, short, size, text

FAILURES_SHOWN = 50


def render(
    record: Mapping[str, Any], *, night: Night, attempts: Sequence[Mapping[str, Any]], earlier: Sequence[Night]
) -> str:
    """The page of a night as HTML.

    Args:
        record: the report of the attempt that has just ended, as report.json holds it.
        night: the night in numbers, this attempt included.
        attempts: reports of the night's attempts before it.
        earlier: the nights before, oldest first.
    """
    parts = [
        _head(record),
        _tiles(night, earlier, record, hours=_hours([*attempts, record])),
        _reasons(record, again=bool(attempts)),
        _notes(record),
        _failures(record),
        _deaths(record),
        _skipped(record),
        _bad_rows(record),
        _tables(record),
        _nights([*earlier, night], currency=record["currency"]),
        _attempts(attempts, record),
        _manifests(record),
        _foot(record),
    ]
    style = asset("style.css") + asset("night.css")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Night of {text(record['night'])}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(record: Mapping[str, Any]) -> str:
    colour, words = verdict(record)
    zone = record["timezone"]
    error = f'<pre class="error">{text(record["error"], limit=4000)}</pre>' if record.get("error") else ""
    return (
        f'<header>\n<p class="eyebrow">Night of {text(record["night"])}, attempt {record["attempt"]}</p>\n'
        f'<h1 class="{colour}">{text(words)}</h1>\n'
        f'<p class="muted">{moment(record["started"], zone)} to {moment(record["ended"], zone)} ({text(zone)})'
        + (f", to stop at {moment(record['stop_at'], zone)}" if record.get("stop_at") else "")
        + f'<br><bdi class="path">{text(record["output"])}</bdi></p>\n{error}</header>'
    )


def _hours(attempts: Sequence[Mapping[str, Any]]) -> str:
    """Unit of the night's hours, GPU or actor, from an attempt that labelled something."""
    return next((str(each["hours_of"]) for each in attempts if each.get("gpu_hours") and "hours_of" in each), "GPU")


def _tiles(night: Night, earlier: Sequence[Night], record: Mapping[str, Any], *, hours: str) -> str:
    tiles = [
        ("Labelled", number(night.labelled), change(night.labelled, (n.labelled for n in earlier))),
        ("Failed", number(night.failed), "in quarantine or unreachable" if night.failed else ""),
        ("Left", number(night.left), "the next night goes on" if night.left else ""),
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
        note = f"{money(each, record['currency'])} a video" if each is not None else ""
        tiles.append((f"Cost, {record['currency']}", f"{night.cost:,.2f}", note))
    cells = "\n".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}<small>{text(note)}</small></dd></div>"
        for name, value, note in tiles
    )
    return f'<dl class="tiles">\n{cells}\n</dl>'


def _reasons(record: Mapping[str, Any], *, again: bool) -> str:
    reasons: Mapping[str, int] = record.get("reasons") or {}
    if not reasons:
        nothing = "Nothing more after the attempts before" if again else "Nothing: no video is new or changed"
        if record.get("returns"):
            nothing = "No video to label, but labels made before return"
        return f"<section>\n<h2>What was to do</h2>\n<p>{nothing}.</p>\n</section>"
    most = max(reasons.values())
    rows = "\n".join(
        f'<li><span>{text(reason)}</span><b>{number(videos)}</b><i style="width:{100 * videos / most:.2f}%"></i></li>'
        for reason, videos in reasons.items()
    )
    return f'<section>\n<h2>What was to do, and why</h2>\n<ul class="bars">\n{rows}\n</ul>\n</section>'


def _notes(record: Mapping[str, Any]) -> str:
    notes: Sequence[str] = record.get("notes") or []
    if not notes:
        return ""
    rows = "\n".join(f"<li>{text(note)}</li>" for note in notes)
    return f'<section>\n<h2>Corrections and earlier labels</h2>\n<ul class="plain">\n{rows}\n</ul>\n</section>'


def _failures(record: Mapping[str, Any]) -> str:
    failures: Sequence[Mapping[str, Any]] = record.get("failures") or []
    if not failures:
        return ""
    whole = record["failed"] + record["quarantined"]
    rows = "\n".join(
        f'<li><p><bdi class="name">{text(failure["video_id"])}</bdi> <em>{text(failure["class"])}</em> '
        f"{'' if failure['new'] else '<em class=old>earlier</em>'}</p>\n"
        f"<p>{text(failure['message'])}</p>\n"
        f'<p class="muted">{count(failure["attempts"], "attempt")}; tried again {_due(failure, record)}</p></li>'
        for failure in failures[:FAILURES_SHOWN]
    )
    more = whole - min(len(failures), FAILURES_SHOWN)
    rest = f'<p class="muted">and {number(more)} more, in failures/ of the output</p>' if more > 0 else ""
    classes = _classes(record)
    return f'<section>\n<h2>Failures</h2>\n<p>{classes}</p>\n<ul class="failures">\n{rows}\n</ul>\n{rest}</section>'


def _deaths(record: Mapping[str, Any]) -> str:
    if not (deaths := record.get("deaths")):
        return ""
    causes = ", ".join(f"{number(workers)} × {text(cause)}" for cause, workers in deaths.items())
    return (
        f"<section>\n<h2>Workers</h2>\n<p>{count(sum(deaths.values()), 'worker')} lost: {causes}. What was in flight "
        "was labelled again, so more masks may have been made than published.</p>\n</section>"
    )


def _skipped(record: Mapping[str, Any]) -> str:
    planned: Mapping[str, int] = record.get("planned") or {}
    lines = [
        (planned.get("labelled", 0), "labelled before, and unchanged"),
        (planned.get("quarantined", 0), "in quarantine, not due yet"),
        (record.get("left", 0), "pending, not reached before the stop"),
        (record.get("superseded", 0), "superseded by a later row of the same video"),
        (record.get("bad_row_count", 0), "left out of a manifest because a rule is broken"),
        (record.get("absent", 0), "labelled, but named by no manifest any more; the labels stay"),
    ]
    rows = "\n".join(f"<tr><td>{number(amount)}</td><td>{text(what)}</td></tr>" for amount, what in lines if amount)
    if not rows:
        return ""
    examples = record.get("absent_examples") or []
    names = ", ".join(f"<bdi>{text(name, limit=80)}</bdi>" for name in examples[:5])
    note = f'<p class="muted">No longer named: {names}{" and others" if len(examples) > 5 else ""}</p>' if names else ""
    return f'<section>\n<h2>Left out, and why</h2>\n<table class="counts">\n{rows}\n</table>\n{note}</section>'


def _bad_rows(record: Mapping[str, Any]) -> str:
    bad: Sequence[str] = record.get("bad_rows") or []
    if not bad:
        return ""
    rows = "\n".join(f"<li>{text(row)}</li>" for row in bad[:FAILURES_SHOWN])
    more = record["bad_row_count"] - min(len(bad), FAILURES_SHOWN)
    rest = f'<p class="muted">and {number(more)} more</p>' if more > 0 else ""
    return f'<section>\n<h2>Bad rows</h2>\n<ul class="plain">\n{rows}\n</ul>\n{rest}</section>'


def _tables(record: Mapping[str, Any]) -> str:
    if not (published := record.get("published")):
        return ""
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
    rows = "\n".join(f"<li>{text(line)}</li>" for line in lines)
    return f'<section>\n<h2>Tables</h2>\n<ul class="plain">\n{rows}\n</ul>\n</section>'


def _nights(nights: Sequence[Night], *, currency: str) -> str:
    if len(nights) < 2:
        return ""
    most = max(max(n.labelled + n.failed for n in nights), 1)
    columns = "\n".join(
        f'<li title="{text(n.night)}: {n.labelled} labelled, {n.failed} failed">'
        f'<s style="height:{100 * n.failed / most:.2f}%"></s><b style="height:{100 * n.labelled / most:.2f}%"></b>'
        f"<span>{text(n.night[8:])}</span></li>"
        for n in nights
    )
    rows = "\n".join(
        f"<tr><th>{text(n.night)}</th><td>{number(n.labelled)}</td><td>{number(n.failed)}</td>"
        f"<td>{number(n.left)}</td><td>{short(n.frames_per_s)}</td><td>{short(n.gpu_hours)}</td>"
        f"<td>{'' if n.cost is None else f'{n.cost:,.2f}'}</td><td>{_ending(n)}</td></tr>"
        for n in reversed(nights)
    )
    return (
        "<section>\n<h2>The last nights</h2>\n"
        f'<ol class="columns">\n{columns}\n</ol>\n'
        '<p class="legend"><b></b> labelled <s></s> failed; the highest column is '
        f"{count(most, 'video')}</p>\n"
        '<div class="scroll"><table>\n<tr><th>Night</th><th>Labelled</th><th>Failed</th><th>Left</th>'
        f"<th>Frames/s</th><th>Hours</th><th>{text(currency)}</th><th>Ended</th></tr>\n{rows}\n</table></div>\n</section>"
    )


def _attempts(attempts: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> str:
    if not attempts:
        return ""
    rows = "\n".join(
        f"<tr><th>{attempt['attempt']}</th>"
        f"<td>{moment(attempt['started'], record['timezone']) if 'started' in attempt else '?'}</td>"
        f"<td>{number(attempt.get('labelled', 0))}</td><td>{number(attempt.get('left', 0))}</td>"
        f"<td>{text(_outcome(attempt))}</td></tr>"
        for attempt in [*attempts, record]
    )
    return (
        '<section>\n<h2>Attempts of this night</h2>\n<div class="scroll"><table>\n'
        f"<tr><th>No.</th><th>Began</th><th>Labelled</th><th>Left</th><th>Ended</th></tr>\n{rows}\n</table></div>\n</section>"
    )


def _outcome(attempt: Mapping[str, Any]) -> str:
    return "no report: killed, or still running" if attempt.get("unfinished") else verdict(attempt)[1]


def _manifests(record: Mapping[str, Any]) -> str:
    sources: Sequence[Mapping[str, Any]] = record.get("manifests") or []
    if not sources:
        return ""
    rows = "\n".join(
        f'<tr><th><bdi class="path">{text(source["uri"])}</bdi></th><td>{number(source["rows"])}</td>'
        f"<td>{number(source['superseded'])}</td><td>{number(source['bad_rows'])}</td></tr>"
        for source in list(sources)[-FAILURES_SHOWN:]
    )
    return (
        f"<section>\n<h2>Manifests</h2>\n<p>{count(record['videos'], 'video')} in "
        f"{count(len(sources), 'manifest')}; of several rows of a video the latest counts.</p>\n"
        '<div class="scroll"><table class="numbers">\n'
        "<tr><th>Manifest</th><th>Rows</th><th>Superseded</th><th>Bad</th></tr>\n"
        f"{rows}\n</table></div>\n</section>"
    )


def _foot(record: Mapping[str, Any]) -> str:
    run = f"run {text(record['run_id'])}, " if record.get("run_id") else ""
    return f'<footer class="muted">{run}model {text(record["model"])}, exit code {record["exit_code"]}</footer>'


def _classes(record: Mapping[str, Any]) -> str:
    new, old = record["failed_by_class"], record["quarantined_by_class"]
    pieces = [f"{number(videos)} {text(name)}" for name, videos in new.items()]
    pieces += [f"{number(videos)} {text(name)} from earlier nights" for name, videos in old.items()]
    return ", ".join(pieces)


def _due(failure: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    if not failure["due"]:
        return "when its video, prompts or model change, or by jobs.retry"
    if datetime.fromisoformat(failure["due"]) <= datetime.fromisoformat(record["ended"]):
        return "by the next run"
    return f"from {moment(failure['due'], record['timezone'])}"


def _ending(night: Night) -> str:
    if night.error or night.exit_code is None:
        return "failed" if night.error else "no report"
    return {0: "complete", 3: "with failures", 4: "stopped"}.get(night.exit_code, "failed")
