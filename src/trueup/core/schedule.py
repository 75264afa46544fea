"""Schedules as people write them: `hourly`, `daily 02:00`, `Sat 03:00 Europe/Berlin`, and which time came last.

A schedule names instants, and what is made for one is named after it, never after the moment at which it was made: so
the same snapshot is wanted however often and however late one looks. Pure; the instant comes in as a value.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from trueup.model.errors import BadInput
from trueup.model.windows import DAYS

DEFAULT_ZONE: Final = "UTC"
TIMES_MAX: Final = 48
"""Times of one day. What is wanted more often than every half hour is replication, not a snapshot."""

_DAY: Final = "|".join(DAYS)
_SPAN: Final = rf"(?:{_DAY})(?:-(?:{_DAY}))?"
_TIME: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_SCHEDULE: Final = re.compile(
    rf"(?:hourly|(?P<days>daily|{_SPAN}(?:,{_SPAN})*)(?: (?P<times>{_TIME}(?:,{_TIME})*))?)"
    r"(?: (?P<zone>[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*))?",
    re.ASCII,
)
_REMEDY: Final = (
    'write "hourly", "daily 02:00", "Mon-Fri 06:00,18:00" or "Sat 03:00 Europe/Berlin"; without a zone it is UTC'
)
_WEEK: Final = 7
_STAMP: Final = "%Y%m%d-%H%M"


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """An instant of a schedule. `stamp` is its local time as it stands in names, e.g. `20261124-0200`."""

    at_ms: int
    stamp: str


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Times of day (minutes from midnight) on some days of the week (0 = Monday), in one zone."""

    days: frozenset[int]
    times_min: tuple[int, ...]
    zone: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a schedule; whether its zone exists is not asked here.

        Raises:
            BadInput: the text is no schedule.
        """
        found = _SCHEDULE.fullmatch(text.strip())
        if found is None:
            raise BadInput(what=f"{text[:60]!r} is no schedule", remedy=_REMEDY)
        if found["days"] is None:
            times = tuple(range(0, 24 * 60, 60))
        else:
            given = (found["times"] or "00:00").split(",")
            times = tuple(sorted({int(clock[:2]) * 60 + int(clock[3:]) for clock in given}))
        if len(times) > TIMES_MAX:
            raise BadInput(what=f"more than {TIMES_MAX} times a day in a schedule", remedy='write "hourly"')
        return cls(days=_days(found["days"]), times_min=times, zone=found["zone"] or DEFAULT_ZONE)


def last_due(schedule: Schedule, now_ms: int) -> Due:
    """The newest instant of the schedule that is not in the future.

    Raises:
        BadInput: the system knows no such time zone.
    """
    zone = _zone(schedule.zone)
    now = datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    today = now.astimezone(zone).date()
    for back in range(_WEEK + 1):
        day = today - timedelta(days=back)
        if day.weekday() in schedule.days:
            passed = [due for due in _instants(day, schedule.times_min, zone) if due.at_ms <= now_ms]
            if passed:
                return max(passed, key=lambda due: (due.at_ms, due.stamp))
    raise BadInput(what="a schedule without days", remedy=_REMEDY)


def stamp_of(text: str) -> str:
    """The stamp in this text if it is one and nothing else, else ''."""
    try:
        return text if datetime.strptime(text, _STAMP).strftime(_STAMP) == text else ""  # noqa: DTZ007 - a local time
    except ValueError:
        return ""


def _instants(day: date, times_min: tuple[int, ...], zone: ZoneInfo) -> list[Due]:
    """A local time that summer time leaves out is the instant an hour on; of one that comes twice, it is the first."""
    found: list[Due] = []
    for minutes in times_min:
        local = datetime.combine(day, time(minutes // 60, minutes % 60), tzinfo=zone)
        found.append(Due(at_ms=int(local.timestamp() * 1000), stamp=local.strftime(_STAMP)))
    return found


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInput(
            what=f"no time zone {name!r} on this system",
            remedy="write an IANA name such as Europe/Berlin, and install tzdata",
        ) from error


def _days(text: str | None) -> frozenset[int]:
    """`Fri-Mon` goes over the week's end."""
    if text is None or text == "daily":
        return frozenset(range(_WEEK))
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start = DAYS.index(first)
        length = (DAYS.index(last or first) - start) % _WEEK
        days.update((start + step) % _WEEK for step in range(length + 1))
    return frozenset(days)
