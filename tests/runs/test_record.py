"""Names of runs: later ones sort after earlier ones, whatever the clocks say."""

from datetime import UTC, datetime, timedelta

from pipeline.runs.record import next_run_id

NOW = datetime(2030, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)


def test_a_run_is_named_after_its_time():
    assert next_run_id([], NOW).startswith("20300102T030405.600000Z-")
    assert next_run_id([next_run_id([], NOW - timedelta(days=1))], NOW).startswith("20300102T030405.600000Z-")


def test_a_run_sorts_after_those_of_a_clock_that_is_ahead():
    runs = ["not-a-run", "zzz"]
    for _ in range(5):
        runs.append(next_run_id(runs, NOW))
    assert runs[2:] == sorted(runs[2:])
    ahead = next_run_id(runs, NOW + timedelta(minutes=10))
    assert max(runs[2:]) < ahead < next_run_id([*runs, ahead], NOW)


def test_two_runs_that_begin_at_once_have_different_names():
    assert next_run_id([], NOW) != next_run_id([], NOW)
