"""Whether a weekly window is open. Windows are local time, so summer time moves them as it moves people.

The instant comes in as a value; zones come from the system's time zone database.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from trueup.model.errors import BadInput
from trueup.model.windows import Window


def is_open(window: Window, now_ms: int) -> bool:
    """Whether the window is open at this instant (epoch milliseconds).

    Raises:
        BadInput: the system knows no such time zone.
    """
    local = _local(window, now_ms)
    minute = local.hour * 60 + local.minute
    today, yesterday = local.weekday(), (local - timedelta(days=1)).weekday()
    if window.end_min > window.start_min:
        return today in window.days and window.start_min <= minute < window.end_min
    over_midnight = yesterday in window.days and minute < window.end_min
    return over_midnight or (today in window.days and minute >= window.start_min)


def _local(window: Window, now_ms: int) -> datetime:
    try:
        zone = ZoneInfo(window.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInput(
            what=f"no time zone {window.zone!r} on this system",
            remedy="write an IANA name such as Europe/Berlin, and install tzdata",
        ) from error
    return datetime.fromtimestamp(now_ms / 1000, tz=UTC).astimezone(zone)
