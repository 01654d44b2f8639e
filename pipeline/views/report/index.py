"""The first page."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from pipeline.views.report.numbers import Numbers
from pipeline.views.words import large, number, short, text

CARDS = 60

POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'self' file:; img-src 'self' file: data:; media-src 'self' file: https: http: blob:; base-uri 'none'; "
    "form-action 'none'\">"
)


def asset(name: str) -> str:
    return files("pipeline.views.report").joinpath("assets", name).read_text()


def head(title: str) -> str:
    """Everything before a page's body."""
    shared = files("pipeline.views").joinpath("style.css").read_text()  # with the pages of nights
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{POLICY}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>\n{shared}{asset('report.css')}</style>\n</head>\n"
    )


def index_page(title: str, numbers: Numbers, worst: Sequence[dict[str, Any]], *, when: str) -> str:
    """The page of a corpus; `worst` are rows of the list of videos, the most doubtful first."""
    parts = [
        f'<p class="eyebrow">SAM 2 labels, {text(when)}</p>\n<h1><bdi class="path">{text(title)}</bdi></h1>',
        _tiles(numbers),
        _gallery(worst),
        '<section id="all"><h2>All videos</h2>\n<p class="controls"><input id="find" type="search" placeholder="Find '
        'in video ids and reasons" aria-label="Find"> <select id="order" aria-label="Order"><option value="doubt">most '
        'doubtful first</option><option value="id">by id</option><option value="frames">longest first</option></select>'
        '</p>\n<ul class="rows" id="list"></ul>\n<p class="controls"><button id="back">Back</button> <span id="where" '
        'class="muted"></span> <button id="on">On</button></p></section>',
        _reasons(numbers),
        _distributions(numbers),
        _failures(numbers),
        _runs(numbers),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        head(title) + f'<body>\n<main>\n{body}\n</main>\n<script src="index.js"></script>\n'
        '<script src="data/videos.js"></script>\n</body>\n</html>\n'
    )


def video_page() -> str:
    """The page of whichever video its address names."""
    return (
        head("video")
        + '<body>\n<main>\n<p class="eyebrow"><a href="index.html">All videos</a> <span id="step"></span></p>\n'
        '<h1><bdi class="path" id="title"></bdi></h1>\n<p class="muted" id="facts"></p>\n'
        '<div class="stage" id="stage"><video id="clip" muted playsinline preload="auto"></video>'
        '<canvas id="masks"></canvas></div>\n'
        '<div class="controls"><button id="play">Play</button> <input id="scrub" type="range" min="0" step="1" '
        'aria-label="Frame"> <span id="now" class="muted"></span></div>\n<p class="warn" id="note"></p>\n'
        '<ul class="objects" id="objects"></ul>\n'
        '<h2>Area, share of the frame</h2>\n<canvas class="plot" id="area"></canvas>\n'
        '<h2>Predicted IoU <span class="muted">and stability, dashed</span></h2>\n'
        '<canvas class="plot" id="score"></canvas>\n</main>\n<script src="video.js"></script>\n</body>\n</html>\n'
    )


def _tiles(n: Numbers) -> str:
    hours = f"{short(n.video_s / 3600)} h of video" if n.video_s >= 3600 else f"{short(n.video_s / 60)} min of video"
    rate = f"{short(n.frames / n.work_s)} frames/s" if n.work_s else "–"
    failed = sum(count for _, count in n.failed)
    tiles = (
        ("Videos", number(n.videos), hours),
        ("Objects", number(n.objects), f"{large(n.masks)} masks"),
        ("Each worker", rate, f"{short(n.work_s / 3600)} worker hours" if n.work_s >= 3600 else f"{short(n.work_s)} s"),
        ("Failed", number(failed), "in quarantine" if failed else ""),
    )
    inner = "".join(f"<div><dt>{a}</dt><dd>{b}<small>{c}</small></dd></div>" for a, b, c in tiles)
    models = ", ".join(text(model) for model in n.models)
    return f'<dl class="tiles">{inner}</dl>\n<p class="muted">model {models or "unknown"}</p>'


def _gallery(worst: Sequence[dict[str, Any]]) -> str:
    if not worst:
        return ""
    cards = "\n".join(
        f'<li><a href="video.html#{row["n"]}">'
        + (f'<img loading="lazy" width="320" height="180" alt="" src="thumbs/{row["n"]}.jpg">' if row["thumb"] else "")
        + f'<b class="name">{text(row["id"], limit=80)}</b></a>'
        f'<span class="doubt"><i style="width:{100 * (row["doubt"] or 0):.0f}%"></i></span>'
        f"<small>{'–' if row['doubt'] is None else format(row['doubt'], '.2f')} "
        f"{text('; '.join(row['why']) or 'nothing suspicious', limit=140)}</small></li>"
        for row in worst
    )
    return f'<section><h2>Most doubtful first</h2>\n<ul class="gallery">\n{cards}\n</ul></section>'


def _bars(items: Sequence[tuple[str, int, str]]) -> str:
    most = max((count for _, count, _ in items), default=1)
    rows = "".join(
        f'<li><span>{name}</span><b>{note}</b><i style="width:{100 * count / most:.1f}%"></i></li>'
        for name, count, note in items
    )
    return f'<ul class="bars">{rows}</ul>'


def _reasons(n: Numbers) -> str:
    if not n.reasons:
        return ""
    items = [(text(name), count, number(count)) for name, count in n.reasons]
    return f"<section><h2>Reasons for doubt, objects</h2>{_bars(items)}</section>"


def _distributions(n: Numbers) -> str:
    charts = []
    for title, counts in n.distributions.items():
        most = max(counts)
        if most:
            columns = "".join(
                f'<li title="{at / len(counts):.2f} to {(at + 1) / len(counts):.2f}: {number(count)}">'
                f'<b style="height:{100 * count / most:.1f}%"></b></li>'
                for at, count in enumerate(counts)
            )
            charts.append(
                f'<figure><figcaption>{text(title)}</figcaption><ul class="columns">{columns}</ul>'
                f'<p class="ends"><span>0</span><span>most: {number(most)}</span><span>1</span></p></figure>'
            )
    if not charts:
        return ""
    return f'<section><h2>Distributions</h2><div class="charts">{"".join(charts)}</div></section>'


def _failures(n: Numbers) -> str:
    if not n.failed:
        return ""
    rows = "".join(
        f'<li><em>{text(each["failure_class"])}</em> <b class="name">{text(each["video_id"], limit=200)}</b>'
        f"<p>{text(each['message'])}</p></li>"
        for each in n.failures
    )
    bars = _bars([(text(name), count, number(count)) for name, count in n.failed])
    return f'<section><h2>Failures</h2>{bars}<ul class="failures">{rows}</ul></section>'


def _runs(n: Numbers) -> str:
    rows = "".join(
        f"<li>{text(each['started'] or '')} <span class=muted>{text(each['run_id'])}</span></li>" for each in n.runs
    )
    return f'<section><h2>Runs</h2><ul class="plain">{rows}</ul></section>' if rows else ""
