"""Weekly windows as people write them: `Sat 02:00-04:00 Europe/Berlin`.

The zone is part of it, since a server's own may be UTC today and something else tomorrow.
"""

import re
from typing import Final, Self

import msgspec

from trueup.model.errors import BadInput

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY: Final = "|".join(DAYS)
_DAYS: Final = rf"(?:{_DAY})(?:-(?:{_DAY}))?"
_WINDOW: Final = re.compile(
    rf"(?:(?P<days>{_DAYS}(?:,{_DAYS})*) )?"
    r"(?P<start>[01][0-9]:[0-5][0-9]|2[0-3]:[0-5][0-9])-(?P<end>[01][0-9]:[0-5][0-9]|2[0-3]:[0-5][0-9]|24:00)"
    r" (?P<zone>[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*)",
    re.ASCII,
)
_REMEDY: Final = (
    'write it like "Sat 02:00-04:00 Europe/Berlin"; days may be "Mon-Fri", "Sat,Sun", or left out for daily'
)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A window of local time on some days of the week.

    `days` are those on which it opens (0 = Monday). `start_min` and `end_min` count from midnight; where the end is not
    above the start, it closes on the day after. `zone` is an IANA name; whether it exists is not checked here.
    """

    days: frozenset[int]
    start_min: int
    end_min: int
    zone: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a window.

        Raises:
            BadInput: the text is no window.
        """
        found = _WINDOW.fullmatch(text)
        if found is None:
            raise BadInput(what=f"{text[:60]!r} is no window", remedy=_REMEDY)
        start, end = _minutes(found["start"]), _minutes(found["end"])
        if start == end:
            raise BadInput(
                what=f"{text[:60]!r} is a window without length",
                remedy=f'for all of the day, write "00:00-24:00 {found["zone"]}"',
            )
        return cls(days=_days(found["days"]), start_min=start, end_min=end, zone=found["zone"])


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def _days(text: str | None) -> frozenset[int]:
    """`Fri-Mon` goes over the week's end."""
    if text is None:
        return frozenset(range(len(DAYS)))
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start = DAYS.index(first)
        length = (DAYS.index(last or first) - start) % len(DAYS)
        days.update((start + step) % len(DAYS) for step in range(length + 1))
    return frozenset(days)
