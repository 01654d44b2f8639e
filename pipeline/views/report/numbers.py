"""The numbers of a report, from the tables alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.tables.query import Labels
from pipeline.views.words import large, number, short

FAILURES_SHOWN = 50

DISTRIBUTIONS = {
    "Doubt of an object": ("masklets", "doubt", 0.0, 1.0),
    "Mean predicted IoU of an object": ("masklets", "mean_iou", 0.0, 1.0),
    "Mean stability of an object": ("masklets", "mean_stability", 0.0, 1.0),
    "Share of frames an object is visible": ("masklets", "visible_share", 0.0, 1.0),
}
BINS = 20


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The numbers of the first page."""

    videos: int
    objects: int
    masks: int
    frames: int
    video_s: float
    work_s: float
    """Seconds that workers spent on these videos, added up."""
    models: Sequence[str]
    reasons: Sequence[tuple[str, int]]
    distributions: Mapping[str, Sequence[int]]
    failed: Sequence[tuple[str, int]]
    failures: Sequence[Mapping[str, Any]]
    runs: Sequence[Mapping[str, Any]]


def read_numbers(labels: Labels, *, run_id: str | None = None) -> Numbers:
    """Numbers over the whole corpus, or over the videos that one run labelled."""
    given = {"run": run_id}
    read = labels.connection.sql
    ours = "($run IS NULL OR run_id = $run)"
    among = f"($run IS NULL OR video_id IN (SELECT video_id FROM videos WHERE {ours}))"
    videos, objects, masks, frames, video_s, work_s = read(
        "SELECT count(*), sum(objects), sum(mask_rows), sum(frames), sum(frames / nullif(fps, 0)), sum(total_s) "
        f"FROM videos WHERE {ours}",
        params=given,
    ).fetchall()[0]
    models = read(
        f"SELECT DISTINCT model FROM videos WHERE {ours} AND model IS NOT NULL ORDER BY 1",
        params=given,
    ).fetchall()
    reasons = read(
        f"SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM masklets WHERE {among}) "
        "GROUP BY 1 ORDER BY 2 DESC, 1",
        params=given,
    ).fetchall()
    distributions = {}
    for title, (table, column, low, high) in DISTRIBUTIONS.items():
        place = f"least({BINS - 1}, greatest(0, floor(({column} - {low}) / {high - low} * {BINS})))::INT"
        rows = read(
            f"SELECT {place}, count(*) FROM {table} WHERE {column} IS NOT NULL AND {among} GROUP BY 1", params=given
        ).fetchall()
        counts = dict(rows)
        distributions[title] = [counts.get(at, 0) for at in range(BINS)]
    failures = labels.sql("SELECT * FROM failures ORDER BY time DESC").to_arrow_table().to_pylist()
    failures = [each for each in failures if run_id is None or each["run_id"] == run_id]
    by_class: dict[str, int] = {}
    for each in failures:
        by_class[each["failure_class"] or "unknown"] = by_class.get(each["failure_class"] or "unknown", 0) + 1
    runs = labels.sql("SELECT run_id, started FROM runs ORDER BY started DESC LIMIT 20").to_arrow_table().to_pylist()
    return Numbers(
        videos=int(videos or 0),
        objects=int(objects or 0),
        masks=int(masks or 0),
        frames=int(frames or 0),
        video_s=float(video_s or 0),
        work_s=float(work_s or 0),
        models=[row[0] for row in models],
        reasons=reasons,
        distributions=distributions,
        failed=sorted(by_class.items(), key=lambda item: -item[1]),
        failures=failures[:FAILURES_SHOWN],
        runs=runs,
    )


def tiles(n: Numbers) -> list[tuple[str, str, str]]:
    """Name, value and note of the numbers at the top of the first page."""
    hours = f"{short(n.video_s / 3600)} h of video" if n.video_s >= 3600 else f"{short(n.video_s / 60)} min of video"
    rate = f"{short(n.frames / n.work_s)} frames/s" if n.work_s else "–"
    work = f"{short(n.work_s / 3600)} worker hours" if n.work_s >= 3600 else f"{short(n.work_s)} s"
    failed = sum(count for _, count in n.failed)
    return [
        ("Videos", number(n.videos), hours),
        ("Objects", number(n.objects), f"{large(n.masks)} masks"),
        ("Each worker", rate, work),
        ("Failed", number(failed), "in quarantine" if failed else ""),
    ]
