"""A schedule names instants; the newest one that is past is the same whenever one asks."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.core.schedule import Schedule, last_due, stamp_of
from trueup.model.errors import BadInput


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def due(schedule, now):
    found = last_due(Schedule.parse(schedule), at(now))
    return found.stamp, datetime.fromtimestamp(found.at_ms / 1000, tz=UTC).strftime("%m-%d %H:%M")


@pytest.mark.parametrize(
    ("schedule", "now", "stamp", "instant"),
    [
        ("hourly", "2026-11-24T12:34", "20261124-1200", "11-24 12:00"),
        ("hourly", "2026-11-24T00:00", "20261124-0000", "11-24 00:00"),
        ("hourly Asia/Kolkata", "2026-11-24T12:34", "20261124-1800", "11-24 12:30"),
        ("daily", "2026-11-24T12:34", "20261124-0000", "11-24 00:00"),
        ("daily 02:00", "2026-11-24T01:59", "20261123-0200", "11-23 02:00"),
        ("daily 02:00", "2026-11-24T02:00", "20261124-0200", "11-24 02:00"),
        ("daily 06:00,18:00", "2026-11-24T12:00", "20261124-0600", "11-24 06:00"),
        ("Sat 03:00 Europe/Berlin", "2026-11-24T12:00", "20261121-0300", "11-21 02:00"),
        ("Tue 13:00", "2026-11-24T12:00", "20261117-1300", "11-17 13:00"),
        ("Fri-Mon 01:00", "2026-11-24T12:00", "20261123-0100", "11-23 01:00"),
        ("Mon,Wed 01:00", "2026-11-24T12:00", "20261123-0100", "11-23 01:00"),
        ("daily 23:30 Pacific/Auckland", "2026-11-24T12:00", "20261124-2330", "11-24 10:30"),
        ("daily 02:30 Europe/Berlin", "2026-03-29T02:00", "20260329-0230", "03-29 01:30"),
        ("daily 02:30 Europe/Berlin", "2026-10-25T03:00", "20261025-0230", "10-25 00:30"),
    ],
)
def test_the_newest_time_that_is_past(schedule, now, stamp, instant):
    assert due(schedule, now) == (stamp, instant)


@pytest.mark.parametrize(
    "text",
    ["", "weekly", "daily 24:00", "daily 2:00", "02:00", "sat 02:00", "daily 02:00 02:00", "hourly 5", "Sat-",
     "daily " + ",".join(f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 20, 40))],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_with_a_remedy(text):
    with pytest.raises(BadInput):
        Schedule.parse(text)


def test_every_half_hour_is_not_too_often():
    times = [f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 30)]
    assert len(Schedule.parse(f"daily {','.join(times)}").times_min) == 48
    with pytest.raises(BadInput, match="more than 48"):
        Schedule.parse(f"daily {','.join([*times, '00:01'])}")


def test_days_are_counted_over_the_weeks_end():
    assert Schedule.parse("Fri-Mon 01:00").days == {4, 5, 6, 0}
    assert Schedule.parse("daily 01:00").days == {0, 1, 2, 3, 4, 5, 6}


def test_an_unknown_zone_is_told():
    with pytest.raises(BadInput, match="no time zone 'Mars/Base'"):
        last_due(Schedule.parse("daily 02:00 Mars/Base"), at("2026-11-24T12:00"))


@pytest.mark.parametrize("text", ["", "20261124", "20261324-0200", "20261124-2500", "20261124-0200x", "2026112-40200"])
def test_only_a_stamp_is_a_stamp(text):
    assert stamp_of(text) == ""
    assert stamp_of("20261124-0200") == "20261124-0200"


schedules = st.sampled_from(
    ["hourly", "daily 02:00", "Sat 03:00 Europe/Berlin", "Mon-Fri 06:00,18:30 America/New_York", "hourly Europe/Berlin"]
)
WEEK_MS = 7 * 24 * 3_600_000 + 2 * 3_600_000


@given(schedules, st.integers(0, 4_000_000_000_000))
def test_what_is_due_is_past_not_too_old_and_stays_due(schedule, now_ms):
    parsed = Schedule.parse(schedule)
    found = last_due(parsed, now_ms)
    assert now_ms - WEEK_MS <= found.at_ms <= now_ms
    assert last_due(parsed, found.at_ms) == found
    assert stamp_of(found.stamp) == found.stamp


@given(schedules, st.integers(0, 4_000_000_000_000), st.integers(0, 40 * 24 * 3_600_000))
def test_time_only_moves_it_forward(schedule, now_ms, later_ms):
    parsed = Schedule.parse(schedule)
    assert last_due(parsed, now_ms).at_ms <= last_due(parsed, now_ms + later_ms).at_ms
