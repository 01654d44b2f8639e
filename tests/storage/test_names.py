"""Names of runs: later ones sort after earlier ones, whatever the clocks say."""

from datetime import UTC, datetime, timedelta

from pipeline.storage.names import next_name

NOW = datetime(2030, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)


def test_a_run_is_named_after_its_time():
    assert next_name([], NOW).startswith("20300102T030405.600000Z-")
    assert next_name([next_name([], NOW - timedelta(days=1))], NOW).startswith("20300102T030405.600000Z-")


def test_a_run_sorts_after_those_of_a_clock_that_is_ahead():
    runs = ["not-a-run", "zzz"]
    for _ in range(5):
        runs.append(next_name(runs, NOW))
    assert runs[2:] == sorted(runs[2:])
    ahead = next_name(runs, NOW + timedelta(minutes=10))
    assert max(runs[2:]) < ahead < next_name([*runs, ahead], NOW)


def test_two_runs_that_begin_at_once_have_different_names():
    assert next_name([], NOW) != next_name([], NOW)
