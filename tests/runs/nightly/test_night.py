import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobs import nightly as job
from pipeline.detection.settings import DetectionParameters
from pipeline.errors import CorpusError, ManifestError
from pipeline.runs.config import DetectFirst
from pipeline.runs.nightly import history
from pipeline.runs.nightly.night import run_night
from pipeline.runs.nightly.settings import NightSettings
from pipeline.runs.progress import Progress, RunReport
from pipeline.storage import Store
from tests.runs.nightly.examples import failure, report, row, settings, write_manifest

EVENING = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)
MORNING = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)


class Labelling:
    """Stands in for `label_corpus`: keeps what it was asked, answers with the reports given."""

    def __init__(self, *answers: RunReport | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def __call__(self, config: Any, *, watch: Any, manifest: Any, retry: Any) -> RunReport:
        self.asked.append((config, manifest, retry))
        watch(Progress(run_id=f"run-{len(self.asked)}", videos=1, started=0.0, now=1.0))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def night(tmp_path: Path) -> NightSettings:
    write_manifest(tmp_path / "m" / "a.parquet", row("cat"), row("dog"))
    write_manifest(tmp_path / "m" / "b.parquet", row("dog", x=9.0))
    return settings(output=str(tmp_path / "out"), manifests=(f"{tmp_path}/m/*.parquet",))


def run(night: NightSettings, label: Labelling, *, at: datetime = EVENING) -> dict[str, Any]:
    return run_night(night, label=label, now=lambda: at)


def test_a_night_labels_the_union_and_leaves_its_report(night: NightSettings, tmp_path: Path) -> None:
    label = Labelling(report())
    record = run(night, label)
    (config, manifest, retry) = label.asked[0]
    assert [manifest.video(i).video_id for i in range(2)] == ["cat", "dog"]
    assert manifest.video(1).prompts[0].points[0][0] == 9.0
    assert config.stop_at is None
    assert (retry(failure("cat", "oom")), retry(failure("cat", "oom", time="2026-11-01T00:00:00+00:00"))) == (
        False,
        True,
    )
    folder = tmp_path / "out" / "nights" / "2026-11-22"
    assert json.loads((folder / "report.json").read_text()) == record
    assert sorted(path.name for path in (folder / "attempt-001").iterdir()) == [
        "report.html", "report.json", "run.json", "started.json",
    ]  # fmt: skip
    assert (record["exit_code"], record["cost"], record["superseded"]) == (0, 1.05, 1)


def test_a_second_run_is_another_attempt_of_the_same_night(night: NightSettings) -> None:
    label = Labelling(report(), report(labelled=0, reasons={}, frames=0, masks=0))
    run(night, label)
    record = run(night, label, at=datetime(2026, 11, 23, 1, tzinfo=UTC))
    assert (record["night"], record["attempt"]) == ("2026-11-22", 2)
    store = Store(night.run.output)
    assert history.total("2026-11-22", history.read_attempts(store, "2026-11-22")).labelled == 1
    assert "Attempts of this night" in store.read("nights/2026-11-22/report.html").decode()


def test_the_stop_time_is_the_nights_own(night: NightSettings) -> None:
    night = settings(output=night.run.output, manifests=night.manifests, stop_at="06:00")
    label = Labelling(report(), report(left=1, stopped_by="stop-at"))
    run(night, label)
    run(night, label, at=MORNING)  # half past seven there: too late
    end = datetime(2026, 11, 23, 5, 0, tzinfo=UTC).timestamp()
    assert [config.stop_at for config, _, _ in label.asked] == [end, end]


def test_the_budget_is_the_nights_and_not_each_attempts(night: NightSettings) -> None:
    night = settings(output=night.run.output, manifests=night.manifests, budget_gpu_hours=0.8)
    label = Labelling(report(left=1), report(left=1), report(labelled=0, left=1, stopped_by="stop-at", gpu_hours=0.0))
    for _ in range(3):
        record = run(night, label)
    budgets = [config.budget_gpu_hours for config, _, _ in label.asked]
    assert budgets[:2] == [0.8, pytest.approx(0.3)]
    assert label.asked[2][0].stop_at <= EVENING.timestamp()
    assert (record["stopped_by"], record["exit_code"]) == ("budget", 4)


def test_a_night_detects_before_it_labels_and_counts_the_hours_of_both(night: NightSettings, tmp_path: Path) -> None:
    detect = DetectFirst(model="d", parameters=DetectionParameters(classes=("cat",)))
    write_manifest(tmp_path / "m" / "c.parquet", {**row("cow"), "prompts": None}, row("hen"))
    night = replace(night, run=replace(night.run, detect=detect), budget_gpu_hours=2.0)
    label = Labelling(report(masks=7), report(), report(stopped_by="stop-at", left=1), report(left=1))
    record = run(night, label)
    (first, videos, _), (second, manifest, _) = label.asked
    assert (first.output, first.detection) == (f"{night.run.output}/detections", detect.parameters)
    assert {tuple(videos.video(n).prompts) for n in range(len(videos))} == {()}
    assert videos.table["detections"].null_count == len(videos) == 4
    assert second.detections == f"{night.run.output}/detections"
    assert [len(manifest.video(n).prompts) for n in range(4)] == [1, 1, 0, 1]
    assert (first.budget_gpu_hours, second.budget_gpu_hours, record["gpu_hours"]) == (2.0, 1.5, 1.0)
    assert (record["detection"]["videos"], record["detection"]["detections"]) == (1, 7)
    run(night, label, at=datetime(2026, 11, 23, 1, tzinfo=UTC))
    assert label.asked[3][0].stop_at == datetime(2026, 11, 23, 1, tzinfo=UTC).timestamp()


def test_failures_give_exit_code_3_and_bad_manifests_2(night: NightSettings, tmp_path: Path) -> None:
    assert run(night, Labelling(report(failures=[failure("cat", "decode", run_id="run-1")])))["exit_code"] == 3
    (tmp_path / "m" / "c.parquet").write_bytes(b"not Parquet")
    with pytest.raises(ManifestError, match=r"c\.parquet"):
        run(night, Labelling(report()))
    record = json.loads((tmp_path / "out/nights/2026-11-22/report.json").read_text())
    assert (record["attempt"], record["exit_code"]) == (2, 2)
    assert "c.parquet" in record["error"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [(CorpusError("no workers"), 1, "no workers"), (ZeroDivisionError("oops"), 1, "ZeroDivisionError: oops")],
)
def test_a_failed_night_reports_its_error_and_run(
    night: NightSettings, error: Exception, code: int, words: str
) -> None:
    with pytest.raises(type(error)):
        run(night, Labelling(error))
    attempt = history.read_attempts(Store(night.run.output), "2026-11-22")[0]
    assert (attempt["error"], attempt["exit_code"]) == (words, code)
    assert Store(night.run.output).exists("nights/2026-11-22/attempt-001/run.json")


def test_earlier_nights_are_compared_with(night: NightSettings) -> None:
    run(night, Labelling(report()), at=datetime(2026, 11, 21, 21, tzinfo=UTC))
    run(night, Labelling(report(frames=200)))
    page = Store(night.run.output).read("nights/2026-11-22/report.html").decode()
    assert "100% above the night before" in page


def test_a_dry_run_prints_pending_videos_and_writes_nothing(
    night: NightSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cat.mp4").write_bytes(b"video")
    write_manifest(tmp_path / "m" / "c.parquet", row("cat", uri=str(tmp_path / "cat.mp4")))
    config = tmp_path / "nightly.toml"
    config.write_text(
        f'manifests = "{night.manifests[0]}"\noutput = "{night.run.output}"\n[label]\nmodel = "embedded"\n'
    )
    assert job.main(["--config", str(config), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "1 video pending" in said
    assert "1 new video" in said
    assert not Path(night.run.output).exists()


def test_the_command_reports_wrong_usage_and_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(["--config", str(tmp_path / "none.toml")]) == 2
    assert "cannot read the configuration" in capsys.readouterr().err
