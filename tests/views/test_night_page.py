import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.errors import ManifestError, UsageError
from pipeline.runs.nightly.history import total
from pipeline.runs.nightly.report import begin_record, end_record
from pipeline.tables import Published
from pipeline.tables.query import Labels
from pipeline.views.night import Night, Picture, verdict
from pipeline.views.night import page as night_page
from pipeline.views.night.pictures import WIDTH, doubtful_pictures
from pipeline.views.words import change, shown
from tests.runs.nightly.examples import HOSTILE, STARTED, failure, manifest, night_record, report, row, settings
from tests.views.conftest import BIG
from tests.views.conftest import HOSTILE as CORPUS_HOSTILE

TAGS_WITHOUT_END = {"meta", "br", "img"}


class Balance(HTMLParser):
    """Fails on a tag that is not closed in order, and collects all tags, attributes and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in TAGS_WITHOUT_END:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def render(
    record: dict[str, Any],
    *,
    attempts: list[dict[str, Any]],
    earlier: list[Night],
    pictures: Sequence[Picture] = (),
) -> str:
    """The page of a night whose attempts are these."""
    night = total(record["night"], [*attempts, record])
    return night_page.render(record, night=night, attempts=attempts, earlier=earlier, pictures=pictures)


def parsed(page: str) -> Balance:
    found = Balance()
    found.feed(page)
    found.close()
    assert not found.open
    return found


def test_hostile_names_are_text_and_nothing_else() -> None:
    record = night_record(
        report(
            failures=[failure(HOSTILE, HOSTILE, message=HOSTILE * 100, run_id="run-1"), failure(HOSTILE)],
            reasons={HOSTILE: 3},
            run_id=HOSTILE,
        ),
        output=HOSTILE,
        model=HOSTILE,
        currency=HOSTILE,
        manifests=((HOSTILE, manifest(row(HOSTILE), bad=(HOSTILE,))),),
        gone=HOSTILE,
    )
    earlier = [Night(night="2026-11-21", attempts=1, labelled=3, error=HOSTILE, exit_code=1)]
    picture = Picture(
        video_id=HOSTILE, object_id=1, category=HOSTILE, frame_index=3, doubt=0.7, reasons=HOSTILE, jpeg=b"jpeg"
    )
    page = render(record, attempts=[{**record, "error": HOSTILE}], earlier=earlier, pictures=[picture])
    found = parsed(page)
    assert "script" not in found.tags
    assert found.attributes <= {
        "lang", "charset", "http-equiv", "content", "name", "class", "style", "title", "href", "src", "alt",
        "data-name",
    }  # fmt: skip
    assert not re.search("[\u202e\x1b\x00]", page)
    assert "\\u202e\\x1b[31m\\x00%s{x}" in "".join(found.texts)
    assert "default-src 'none'" in page
    addresses = re.findall(r"""(?:src|href)=(\S+)""", page)
    assert all(re.match(r'"(data:image/jpeg;base64,|report\.json"|\.\./\.\./("|nights/))', each) for each in addresses)
    assert "url(" not in page
    assert "@import" not in page


def test_the_page_lists_finished_and_skipped_work() -> None:
    record = night_record(
        report(
            planned={"labelled": 1200, "pending": 40, "quarantined": 1, "unreadable": 0},
            reasons={"new video": 30, "prompts changed": 9, "retry due": 1},
            labelled=35,
            failures=[failure("cat", "decode", run_id="run-1"), failure("dog", "oom")],
            left=4,
            stopped_by="stop-at",
        ),
        gone="fox",
    )
    words = " ".join(" ".join(parsed(render(record, attempts=[], earlier=[])).texts).split())
    for expected in (
        "Stopped at its stop time, 4 videos left; 1 new failure, 1 known",
        "new video 30", "prompts changed 9", "retry due 1",
        "1 new: 1 decode; 1 known from earlier nights: 1 oom",
        "retried when its video, prompts or model change, or by jobs.retry",
        "retried from 2026-11-27 03:00",
        "1,200 labelled before, and unchanged",
        "No longer named: fox",
        "Cost, EUR 1.05 0.03 EUR a video",
    ):  # fmt: skip
        assert expected in words
    assert record["exit_code"] == 4


def test_a_failed_night_has_a_page_too() -> None:
    begun = begin_record(settings(), night="2026-11-22", started=STARTED, stop_at=None)
    record = end_record(begun, attempt=1, ended=STARTED, error=ManifestError("no manifest matches x"))
    words = " ".join(parsed(render(record, attempts=[], earlier=[])).texts)
    assert "The night failed" in words
    assert "no manifest matches x" in words
    assert record["exit_code"] == 2


@pytest.mark.parametrize(
    ("record", "colour", "words"),
    [
        ({"left": 0, "failed": 0}, "good", "Everything is labelled"),
        ({"failed": 1}, "warn", "Finished, 1 new failure"),
        ({"new_failures": 2, "known_failures": 3}, "warn", "Finished, 2 new failures, 3 known"),
        ({"new_failures": 0, "known_failures": 3}, "good", "Finished, 0 new failures, 3 known"),
        ({"bad_row_count": 2}, "warn", "Finished, 2 new bad rows in the manifests"),
        ({"bad_row_count": 2, "new_bad_rows": 0}, "good", "Finished, nothing new; 2 known bad rows in the manifests"),
        ({"left": 2, "stopped_by": "budget"}, "warn", "Stopped with its budget used up, 2 videos left"),
        ({"left": 1, "stopped_by": None}, "warn", "Stopped before the end, 1 video left"),
        ({"error": "x"}, "bad", "The night failed"),
    ],
)
def test_the_verdict_is_one_sentence(record: dict[str, Any], colour: str, words: str) -> None:
    assert verdict(record) == (colour, words)


def test_a_value_is_compared_with_the_median_of_nights_with_values() -> None:
    assert change(12, [10, 0, 9, 100]) == "20% above the median of 3 nights"
    assert change(5, [10]) == "50% below the night before"
    assert change(10, [10]) == "as the night before"
    assert change(200, [10]) == "20 times the night before"
    assert change(5, []) == change(0, [3]) == ""


def test_text_is_clipped_and_invisible_characters_are_escaped() -> None:
    assert shown("x" * 500, 10) == "x" * 9 + "…"
    assert shown("a\u202eb\u200bc\u00a0d\r\te") == "a\\u202eb\\u200bc\\xa0d\\r\\te"
    assert shown("Füchse 狐") == "Füchse 狐"


def test_a_password_in_the_outputs_address_is_not_told() -> None:
    record = night_record(report(), output="s3://key:sesame@bucket/labels")
    assert "sesame" not in render(record, attempts=[], earlier=[]) + str(record)


def test_corrections_and_labels_that_return_are_told() -> None:
    note = f"1 video returns to labels of run {HOSTILE}, which are older than the published ones"
    record = night_record(report(labelled=0, reasons={}, returns={HOSTILE: 1}, notes=[note]))
    found = parsed(render(record, attempts=[], earlier=[]))
    words = " ".join(" ".join(found.texts).split())
    assert "No video to label, but labels made before return" in words
    assert "1 video returns to labels of run <script>" in words
    assert "script" not in found.tags


def test_lost_workers_and_waiting_videos_are_reported() -> None:
    published = Published(videos=1, mask_rows=300, bytes_written=2_000_000, waiting=3, seconds=61.0)
    done = report(deaths={"node": 1, "oom": 2}, published=published, failures=[failure("cat", run_id="run-1")])
    page = " ".join(parsed(render(night_record(done), attempts=[], earlier=[])).texts)
    assert "3 workers lost: 1 × node, 2 × oom. What" in page
    assert "1 video and 300 masks published in 1 min 01 s: 2.0 MB written" in page
    assert "2 videos wanted by other runs and not labelled yet" in page
    quiet = render(night_record(report()), attempts=[], earlier=[])
    assert "Workers" not in quiet
    assert "Tables" not in quiet


def test_an_attempt_that_does_nothing_keeps_the_kind_of_hours() -> None:
    first = night_record(report(gpu_hours=0.0))
    again = night_record(report(gpu_hours=0.0, actor_hours=0.0, labelled=0, reasons={}))
    assert "Actor hours" in render(again, attempts=[first], earlier=[])


def test_the_nights_work_and_that_of_the_last_attempt_are_apart() -> None:
    first = {**night_record(report(labelled=40, frames=4000, masks=9000)), "attempt": 1}
    second = {**night_record(report(labelled=2, frames=20, masks=30, seconds=4.0)), "attempt": 2}
    words = " ".join(" ".join(parsed(render(second, attempts=[first], earlier=[])).texts).split())
    assert "The whole night, 2 attempts together Labelled 42" in words
    assert "Attempt 2 alone 2 videos labelled, 0 failed, 0 left in 4 s: 20 frames, 30 masks" in words
    assert "What attempt 2 had to do, and why" in words


def test_hours_of_actors_without_gpus_have_no_gpu_price() -> None:
    on_cpus = night_record(report(gpu_hours=0.0, actor_hours=0.5))
    assert on_cpus["cost"] is None
    assert "Cost" not in render(on_cpus, attempts=[], earlier=[])
    assert night_record(report())["cost"] == 1.05


def test_the_page_links_to_labels_run_and_addresses_of_the_settings(tmp_path: Path) -> None:
    links = {"Site": "https://example.org/report"}
    page = render(night_record(report(), output=str(tmp_path), links=links), attempts=[], earlier=[])
    assert '<a href="../../">Labels</a>' in page
    assert '<a href="https://example.org/report">Site</a>' in page
    assert '<a href="../../runs/run-1/run.json">Run</a>' in page
    on_s3 = render(night_record(report(), output="s3://bucket/labels"), attempts=[], earlier=[])
    assert ">Labels</a>" not in on_s3
    with pytest.raises(UsageError, match="javascript"):
        settings(links={"Site": "javascript:alert(1)"})


def test_pictures_show_the_worst_object_of_each_doubtful_video(labels: Labels) -> None:
    found = doubtful_pictures(labels, run_ids=["run"])
    assert (found[0].video_id, found[0].object_id) == (CORPUS_HOSTILE, BIG)
    assert len({each.video_id for each in found}) == len(found) <= 2  # the file of the third is gone
    assert all(Image.open(io.BytesIO(each.jpeg)).size[0] == WIDTH for each in found)
    assert doubtful_pictures(labels, run_ids=["another"]) == []
