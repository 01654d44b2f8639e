"""One grammar of durations and one of options in TOML files, wherever they are written."""

import argparse

import pytest

from jobs import label, manifest, options, publish, retry
from pipeline.errors import UsageError
from pipeline.manifest.build import Every
from pipeline.runs.nightly.settings import NightSettings
from pipeline.runs.values import UNITS_S, parse_duration, toml_arguments
from tests.runs.nightly.examples import settings

DURATIONS = {
    "90": 90, "90s": 90, "15m": 900, "30min": 1800, "12h": 43200, "7d": 604800, "2w": 1209600, "0.5h": 1800,
    "1 h": 3600,
}  # fmt: skip


def duration_options() -> list[tuple[argparse.ArgumentParser, list[str], str, str]]:
    """Every option of a command that takes a duration, with what else the command needs."""
    found = []
    for job, needed in ((label, []), (publish, ["out"]), (retry, ["out"])):
        parser = job.parser()
        found += [(parser, needed, action.option_strings[0], action.dest) for action in parser._actions
                  if action.type is options.duration]  # fmt: skip
    return found


def test_every_duration_option_takes_all_units():
    assert {option for _, _, option, _ in duration_options()} == {
        "--checkpoint-every", "--deadline-floor", "--grace", "--vacuum", "--expire-parts", "--wait", "--older-than",
    }  # fmt: skip
    for parser, needed, option, dest in duration_options():
        for text, seconds in DURATIONS.items():
            assert getattr(parser.parse_args([*needed, option, text]), dest) == seconds


def test_intervals_between_detections_take_all_units_and_frames():
    needed = ["from-detections", "--detections", "d", "--videos", "v", "--output", "o"]
    for text, seconds in DURATIONS.items():
        assert manifest.parser().parse_args([*needed, "--every", text]).every == Every(seconds=seconds)
    assert manifest.parser().parse_args([*needed, "--every", "30f"]).every == Every(frames=30)
    assert manifest.parser().parse_args(needed).every == Every(seconds=1)


def test_ages_of_retries_take_all_units():
    for text, seconds in DURATIONS.items():
        night: NightSettings = settings(retry={"oom": text})
        assert night.retry_after_s() == {"oom": seconds}
    assert {text.lstrip("0123456789. ") for text in DURATIONS} == {"", *UNITS_S}


@pytest.mark.parametrize("text", ["7 days", "-1d", "", "d", "1.d", "1h30m", "inf"])
def test_other_texts_are_no_durations(text):
    with pytest.raises(UsageError, match="duration is"):
        parse_duration(text)


def test_a_table_becomes_arguments_that_its_command_reads():
    table = {"max_hole_area": 5, "allow-uri": ["a", "b"], "non_overlapping": True, "no-publish": False}
    arguments = toml_arguments(table, label.parser(), where="x.toml")
    assert arguments == ["--max-hole-area=5", "--allow-uri=a", "--allow-uri=b", "--non-overlapping"]


@pytest.mark.parametrize("value", [True, {}, [["a"]]])
def test_a_value_of_another_type_is_refused(value):
    with pytest.raises(UsageError, match=r"x\.toml: actors is .*; it must be a text or a number"):
        toml_arguments({"actors": value}, label.parser(), where="x.toml")
