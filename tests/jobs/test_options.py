"""The command line of jobs.label and its configuration file."""

import argparse
from datetime import UTC, datetime

import pytest

from jobs import options
from jobs.label import read_options
from pipeline.errors import UsageError

NEEDED = ["--manifest", "m.parquet", "--output", "out", "--model", "embedded"]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("120s", 120), ("5m", 300), ("1.5h", 5400), ("7d", 604800)])
def test_durations(text, seconds):
    assert options.duration(text) == seconds


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.1%", 0.001), ("0.25", 0.25), ("100%", 1)])
def test_fractions(text, share):
    assert options.fraction(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("parse", "text"),
    [(options.duration, "soon"), (options.fraction, "120%"), (options.fraction, "x"), (options.shard, "0/4"),
     (options.shard, "5/4"), (options.moment, "26:00"), (options.moment, "tomorrow")],
)  # fmt: skip
def test_meaningless_values_are_refused_with_an_example(parse, text):
    with pytest.raises(argparse.ArgumentTypeError, match="write"):
        parse(text)


def test_a_time_of_day_is_the_next_one():
    evening = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
    assert options.moment("06:00", now=evening) == datetime(2026, 3, 2, 6, 0, tzinfo=UTC).timestamp()
    assert options.moment("23:30", now=evening) == datetime(2026, 3, 1, 23, 30, tzinfo=UTC).timestamp()


def test_options_reach_the_configuration():
    config, dry_run, _ = read_options(
        [*NEEDED, "--direction", "both", "--mask-threshold", "-0.5", "--non-overlapping", "--shard", "2/4", "--dry-run",
         "--checkpoint-every", "2m", "--allow-uri", "s3://a", "--allow-uri", "s3://b", "--no-publish"]
    )  # fmt: skip
    assert dry_run
    assert not config.publish
    assert (config.parameters.direction, config.parameters.mask_threshold) == ("both", -0.5)
    assert config.parameters.non_overlapping
    assert config.shard == (2, 4)
    assert config.checkpoint_every_s == 120
    assert config.allow_uri == ("s3://a", "s3://b")


def test_the_command_line_wins_over_the_file(tmp_path):
    path = tmp_path / "label.toml"
    path.write_text(
        'model = "embedded"\nmanifest = "m"\noutput = "o"\nactors = 3\nmax-hole-area = 5\nno_publish = true\n'
    )
    config, _, _ = read_options(["--config", str(path), "--actors", "4"])
    assert (config.actors, config.parameters.max_hole_area, config.publish) == (4, 5, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [("nonsense = 1", "'nonsense' is no option of jobs.label; allowed are actors"),
     ("dry-run = 3", "must be true or false"),
     ("actors = {}", "must be a text or a number"), ("actors = ", "cannot read the configuration")],
)  # fmt: skip
def test_a_wrong_configuration_file_is_refused(tmp_path, text, message):
    path = tmp_path / "label.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_options(["--config", str(path), *NEEDED])


@pytest.mark.parametrize(
    ("given", "message"),
    [(["--actors", "0"], "--actors is 0; allowed: 1 or more"), (["--gpus-per-actor", "1.5"], "allowed: 0 to 1"),
     (["--lanes", "0"], "allowed: 1 to 256"), (["--cpus-per-actor", "0"], "a number above 0"),
     (["--max-sprinkle-area", "-3"], "allowed is 0"), (["--sample", "0%"], "above 0%")],
)  # fmt: skip
def test_values_out_of_range_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        read_options([*NEEDED, *given])


def test_what_is_missing_is_named():
    with pytest.raises(UsageError, match=r"--manifest, --model missing"):
        read_options(["--output", "o"])
