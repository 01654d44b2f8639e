from pathlib import Path

import pytest

from jobs import nightly as job
from pipeline.errors import UsageError
from pipeline.runs.nightly.settings import NightSettings

WHOLE = """
manifests = "s3://b/manifests/date=*/*.parquet"
output = "s3://b/labels"
timezone = "Europe/Berlin"
stop_at = "06:00"
budget_gpu_hours = 40
price_per_gpu_hour = 2.10
currency = "EUR"
compare_nights = 7
[label]
model = "embedded"
direction = "both"
max_relabel = "5%"
non_overlapping = true
actors = 3
allow_uri = ["s3://a", "s3://b"]
[retry]
oom = "7d"
"""


def read(tmp_path: Path, text: str, *arguments: str) -> NightSettings:
    path = tmp_path / "nightly.toml"
    path.write_text(text)
    return job.read_options(job.parser().parse_args(["--config", str(path), *arguments]))


def test_a_whole_configuration_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = read(tmp_path, WHOLE)
    assert (found.manifests, found.stop_at, found.budget_gpu_hours, found.price_per_gpu_hour) == (
        ("s3://b/manifests/date=*/*.parquet",), "06:00", 40, 2.10,
    )  # fmt: skip
    run = found.run
    assert (run.output, run.model, run.parameters.direction, run.parameters.non_overlapping, run.actors) == (
        "s3://b/labels", "embedded", "both", True, 3,
    )  # fmt: skip
    assert (run.max_relabel, run.allow_uri, run.address) == (0.05, ("s3://a", "s3://b"), None)
    assert found.retry_after_s() == {"oom": 604800}


def test_detection_before_labelling_is_read(tmp_path: Path) -> None:
    detect = '[detect]\nmodel = "nobody/detector"\nclasses = "person, car"\nat = "0.5s"\nthreshold = 0.4\n'
    found = read(tmp_path, WHOLE + detect).run.detect
    assert found is not None
    assert (found.model, found.parameters.classes) == ("nobody/detector", ("car", "person"))
    assert (found.parameters.at, found.parameters.threshold) == ("0.5s", 0.4)


def test_the_command_line_wins_and_a_submitted_job_finds_its_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    found = read(tmp_path, WHOLE, "--stop-at", "05:30", "--budget-gpu-hours", "2.5")
    assert (found.stop_at, found.budget_gpu_hours, found.run.address) == ("05:30", 2.5, "10.0.0.1:6379")
    assert read(tmp_path, WHOLE, "--address", "auto").run.address == "auto"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('output = "s3://b/labels"', "", "output missing"),
        ("[label]", "[labels]", "'labels' is no setting; allowed are .*manifests"),
        ('model = "embedded"', "", "model missing"),
        (
            'model = "embedded"',
            'model = "embedded"\nmodl = "x"',
            "'modl' is no option of jobs.label; allowed are .*model",
        ),
        ('model = "embedded"', 'model = "embedded"\nstop-at = "06:00"', "stop-at is not allowed; the nightly sets it"),
        ("budget_gpu_hours = 40", "budget_gpu_hours = -1", "budget_gpu_hours is -1"),
        ("budget_gpu_hours = 40", 'budget_gpu_hours = "40"', "budget_gpu_hours is '40'; it must be of type float"),
        ("compare_nights = 7", "compare_nights = true", "compare_nights is True; it must be of type int"),
        ('"Europe/Berlin"', '"Berlin"', "timezone is 'Berlin'"),
        ("compare_nights = 7", "optimize_after = 1", "optimize_after is 1; allowed is 2 or more"),
        ('oom = "7d"', 'oom = "7 days"', "duration is '7 days'"),
        ('oom = "7d"', 'ooom = "7d"', "'ooom' is no failure class; allowed are .*not_a_video.* oom"),
        ('oom = "7d"', "oom = 7", "has 7; it must be a text in quotes"),
        ("[retry]", '[detect]\nclasses = "car"\n[retry]', r"\[detect\] model is missing; it needs classes and model"),
        ("[retry]", '[detect]\nclass = "car"\n[retry]', r"\[detect\] 'class' is no setting; allowed are at, classes"),
        ("manifests = ", "manifests = 7 #", "manifests is 7"),
        ("manifests = ", "manifests = [] #", "manifests is empty"),
        ("[retry]", "[retry", "cannot read the configuration"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read(tmp_path, WHOLE.replace(old, new))
    assert "nightly.toml" in str(caught.value)
