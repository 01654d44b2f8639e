from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from pipeline.errors import UsageError
from pipeline.runs.nightly.clock import check_night, night_of, stop_time, zone_of

BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")


@pytest.mark.parametrize(
    ("moment", "zone", "night"),
    [
        ("2026-11-22T22:00:00+01:00", BERLIN, "2026-11-22"),
        ("2026-11-23T01:00:00+01:00", BERLIN, "2026-11-22"),
        ("2026-11-23T11:59:59+01:00", BERLIN, "2026-11-22"),
        ("2026-11-23T12:00:00+01:00", BERLIN, "2026-11-23"),
        ("2026-11-22T07:00:00+00:00", KOLKATA, "2026-11-22"),  # 12:30 there
        ("2027-01-01T03:00:00+00:00", ZoneInfo("UTC"), "2026-12-31"),
    ],
)
def test_a_night_lasts_from_noon_to_noon_named_after_its_evening(moment: str, zone: ZoneInfo, night: str) -> None:
    assert night_of(datetime.fromisoformat(moment), zone) == night


@pytest.mark.parametrize(
    ("at", "moment"),
    [
        ("06:00", "2026-11-23T06:00:00+01:00"),
        ("23:30", "2026-11-22T23:30:00+01:00"),
        ("12:00", "2026-11-23T12:00:00+01:00"),
        ("0:00", "2026-11-23T00:00:00+01:00"),
    ],
)
def test_the_stop_time_depends_on_the_night_not_on_the_start(at: str, moment: str) -> None:
    assert stop_time("2026-11-22", at, BERLIN) == datetime.fromisoformat(moment)


def test_a_night_in_which_clocks_change_stops_when_they_show_the_time() -> None:
    assert stop_time("2026-10-24", "06:00", BERLIN).astimezone(UTC).hour == 5  # winter time since three o'clock
    assert stop_time("2026-10-23", "06:00", BERLIN).astimezone(UTC).hour == 4


@pytest.mark.parametrize("at", ["6", "24:00", "06:60", "6am", "", "-1:00"])
def test_a_stop_time_that_clocks_never_show_is_refused(at: str) -> None:
    with pytest.raises(UsageError, match="stop-at is"):
        stop_time("2026-11-22", at, BERLIN)


@pytest.mark.parametrize("night", ["2026-11-31", "20261122", "tonight", "../2026-11-22", "2026-1-2", "2026-W47-7"])
def test_a_night_that_is_no_date_is_refused(night: str) -> None:
    with pytest.raises(UsageError, match="night is"):
        check_night(night)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="timezone is"):
        zone_of(name)
