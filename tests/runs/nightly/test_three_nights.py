"""Three nights over the real plan, quarantine, lease, publishing and pages; only the actors are stood in for."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.labels import PartBuilder
from pipeline.labels.failures import Attempt, Failure, failure_of, read_failures, write_failure
from pipeline.runs.nightly import night
from pipeline.runs.nightly.night import run_night
from pipeline.runs.prepare import Prepared
from pipeline.runs.progress import Progress
from pipeline.runs.run import label_corpus
from pipeline.storage import Store, part_path
from pipeline.tables.query import open_labels
from pipeline.views.night import verdict
from tests.labelling import mask_rows
from tests.runs.nightly.examples import row, settings, write_manifest

KEY_COLUMNS = ("version", "start_s", "end_s", "prompts_digest", "weights_digest", "parameters")


def label_at_once(prepared: Prepared, progress: Progress, **_: Any) -> list[Failure]:
    """Stands in for the pool: one mask for every pending video; those that start with "broken" fail to decode."""
    failures = []
    for index in prepared.plan.order:
        wanted = prepared.plan.table.slice(int(index), 1).to_pylist()[0]
        video_id, key = wanted["video_id"], wanted["label_key"]
        if video_id.startswith("broken"):
            attempt = Attempt("decode", "VideoError: no streams", "", "worker-0", time.time() - 3600)
            earlier = prepared.failures.get(video_id, ())
            failure = failure_of([attempt], video_id=video_id, label_key=key, run_id=progress.run_id, earlier=earlier)
            failures.append(failure)
            write_failure(prepared.store, failures[-1])
            progress.failed["decode"] = progress.failed.get("decode", 0) + 1
            continue
        prepared.store.commit_once(part_path(video_id, key), part(video_id, key, wanted))
        progress.done += 1
        progress.frames += 1
        progress.masks += 1
    return failures


def part(video_id: str, key: str, wanted: dict[str, Any]) -> bytes:
    with PartBuilder(video_id, label_key=key, height=8, width=8) as builder:
        frame = {"object_id": [1], "is_prompted": [True], "counts": ["0P2"], "area": [64], "boxes": [(0, 0, 8, 8)]}
        builder.add(mask_rows(0, 0.0, {**frame, "object_logit": [1.5], "predicted_iou": [0.9]}))
        told = {"outcome": "labelled", "uri": "v", "frames": 1, **{name: wanted[name] for name in KEY_COLUMNS}}
        made = builder.finish(told)
    assert isinstance(made, bytes)
    return made


LABEL_AT_ONCE = partial(label_corpus, label_pending=label_at_once)


class Nights:
    """A folder of videos and manifests, and the nights over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "out")

    def put_video(self, name: str, content: bytes) -> None:
        (self.folder / f"{name}.mp4").write_bytes(content)

    def put_manifest(self, date: str, **clicks: float) -> None:
        """Videos with the x of their click."""
        rows = [row(name, uri=str(self.folder / f"{name}.mp4"), x=x) for name, x in clicks.items()]
        write_manifest(self.folder / "manifests" / f"date={date}" / "a.parquet", *rows)

    def run(self, name: str, *, decode_after: str = "30d", **given: Any) -> dict[str, Any]:
        chosen = settings(
            output=str(self.folder / "out"),
            manifests=(f"{self.folder}/manifests/date=*/*.parquet",),
            retry={"decode": decode_after},
        )
        chosen = replace(chosen, **given)
        return run_night(chosen, night=name, now=lambda: datetime.now(UTC), label=LABEL_AT_ONCE)


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    made = Nights(tmp_path)
    for name in ("cat", "dog", "fox", "owl", "bee", "broken"):
        made.put_video(name, name.encode())
    return made


def test_each_night_labels_new_changed_and_due_videos_with_reasons(nights: Nights) -> None:
    nights.put_manifest("2026-11-20", cat=1, dog=1, fox=1, broken=1)
    first = nights.run("2026-11-20")
    assert first["reasons"] == {"new video": 4}
    assert (first["labelled"], first["failed_by_class"], first["exit_code"]) == (3, {"decode": 1}, 3)

    nights.put_manifest("2026-11-21", owl=1, cat=2)  # one more, and other prompts for one
    nights.put_video("dog", b"another dog")
    second = nights.run("2026-11-21", decode_after="1m")
    assert second["reasons"] == {"new video": 1, "prompts changed": 1, "video changed": 1, "retry due": 1}
    assert (second["labelled"], second["failed"], second["superseded"]) == (3, 1, 1)
    assert (second["new_failures"], second["known_failures"], second["exit_code"]) == (0, 1, 0)
    assert second["planned"]["labelled"] == 1

    nights.put_manifest("2026-11-20", cat=1, dog=1, broken=1)  # one is taken out
    nights.put_manifest("2026-11-22", bee=1)
    third = nights.run("2026-11-22")
    assert third["reasons"] == {"new video": 1}
    assert (third["labelled"], third["quarantined_by_class"]) == (1, {"decode": 1})
    assert third["absent_examples"] == ["fox"]
    assert (third["new_failures"], third["known_failures"], third["exit_code"]) == (0, 1, 0)
    assert verdict(third) == ("good", "Finished, 0 new failures, 1 known")

    again = nights.run("2026-11-22")
    assert (again["attempt"], again["reasons"], again["labelled"], again["failed"]) == (2, {}, 0, 0)
    with open_labels(nights.store) as labels:
        assert labels.sql("SELECT count(*), count(DISTINCT video_id) FROM videos").fetchall() == [(5, 5)]
    assert [failure.video_id for failure in read_failures(nights.store)] == ["broken"]


def test_a_video_that_is_whole_again_leaves_quarantine(nights: Nights) -> None:
    nights.put_manifest("2026-11-20", broken=1)
    nights.run("2026-11-20")
    nights.put_video("broken", b"mended")
    assert nights.run("2026-11-21")["reasons"] == {"new video": 1}


def test_a_source_that_is_missing_every_night_is_new_once(nights: Nights) -> None:
    nights.put_manifest("2026-11-20", cat=1, gone=1)
    found = [nights.run("2026-11-20"), nights.run("2026-11-20"), nights.run("2026-11-21")]
    assert [(each["new_failures"], each["known_failures"]) for each in found] == [(1, 0), (1, 0), (0, 1)]
    assert [each["exit_code"] for each in found] == [3, 3, 0]
    message = found[0]["failures"][0]["message"]
    assert message.startswith(f"row 1 of {nights.folder}/manifests/date=2026-11-20/a.parquet: cannot find")


def test_a_bad_row_is_new_in_its_first_night(nights: Nights) -> None:
    nights.put_manifest("2026-11-20", cat=1, dog=float("nan"))
    skipping = replace(settings().run, output=str(nights.folder / "out"), on_bad_row="skip")
    found = [nights.run(night, run=skipping) for night in ("2026-11-20", "2026-11-21")]
    assert [(each["bad_row_count"], each["new_bad_rows"], each["exit_code"]) for each in found] == [
        (1, 1, 3),
        (1, 0, 0),
    ]


def test_many_nights_leave_few_files(nights: Nights) -> None:
    done = []
    for at, name in enumerate(("fox", "cat", "owl", "bee"), start=1):
        nights.put_manifest(f"2026-11-{at:02}", **{name: 1})
        done.append(nights.run(f"2026-11-{at:02}", optimize_after=3)["upkeep"])
    assert done[:2] == [[], []]
    third = {each["table"]: each for each in done[2]}
    assert (third["masks"]["files_before"], third["masks"]["files_after"], third["masks"]["bytes_left"]) == (3, 1, 0)
    assert done[3] == []  # one file and another: not many
    page = nights.store.read("nights/2026-11-03/report.html").decode()
    assert "Table masks optimized: 3 files became 1" in page
    with open_labels(nights.store) as labels:
        assert labels.sql("SELECT count(*), count(DISTINCT video_id) FROM masks").fetchall() == [(4, 4)]


def test_a_night_rewrites_so_much_and_no_more(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night, "OPTIMIZED_BYTES", 1)
    for at, name in enumerate(("fox", "cat"), start=1):
        nights.put_manifest(f"2026-11-{at:02}", **{name: 1})
        record = nights.run(f"2026-11-{at:02}", optimize_after=2)
    assert [each["bytes_rewritten"] for each in record["upkeep"]] == [0, 0, 0]
    assert record["upkeep"][0]["bytes_left"] > 0
    assert "more than a night rewrites" in nights.store.read("nights/2026-11-02/report.html").decode()


def test_too_late_for_the_night_leaves_all_pending_and_still_reports(nights: Nights) -> None:
    nights.put_manifest("2026-11-20", cat=1, dog=1)
    chosen = settings(
        output=str(nights.folder / "out"), manifests=(f"{nights.folder}/manifests/*/*.parquet",), stop_at="06:00"
    )
    record = run_night(chosen, night="2020-01-01", label=LABEL_AT_ONCE)
    assert (record["left"], record["stopped_by"], record["labelled"], record["exit_code"]) == (2, "stop-at", 0, 4)
    assert "Stopped at its stop time, 2 videos left" in nights.store.read("nights/2020-01-01/report.html").decode()
