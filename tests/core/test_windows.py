"""Weekly windows in local time."""

from datetime import UTC, datetime

import pytest

from trueup.core.windows import is_open
from trueup.model.errors import BadInput
from trueup.model.windows import Window


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("window", "moment", "answer"),
    [
        ("Sat 02:00-04:00 Europe/Berlin", "2026-06-27T00:00:00", True),  # summer: two hours ahead of UTC
        ("Sat 02:00-04:00 Europe/Berlin", "2026-06-26T23:59:59", False),
        ("Sat 02:00-04:00 Europe/Berlin", "2026-06-27T01:59:59", True),
        ("Sat 02:00-04:00 Europe/Berlin", "2026-06-27T02:00:00", False),
        ("Sat 02:00-04:00 Europe/Berlin", "2026-01-10T01:00:00", True),  # winter: one hour ahead
        ("Sat 02:00-04:00 Europe/Berlin", "2026-01-11T01:00:00", False),  # a Sunday
        ("Fri 22:00-02:00 UTC", "2026-06-26T23:00:00", True),
        ("Fri 22:00-02:00 UTC", "2026-06-26T22:00:00", True),
        ("Fri 22:00-02:00 UTC", "2026-06-26T21:59:59", False),
        ("Fri 22:00-02:00 UTC", "2026-06-27T23:00:00", False),  # Saturday's night is not Friday's either
        ("Fri 22:00-02:00 UTC", "2026-06-27T01:59:00", True),
        ("Fri 22:00-02:00 UTC", "2026-06-27T02:00:00", False),
        ("Fri 22:00-02:00 UTC", "2026-06-26T01:00:00", False),  # Thursday's night is not Friday's
        ("Sun 23:00-01:00 UTC", "2026-06-29T00:30:00", True),  # over the week's end
        ("00:00-24:00 UTC", "2026-06-27T23:59:59", True),
        ("Mon-Fri 20:00-24:00 UTC", "2026-06-27T21:00:00", False),
        ("Sun 02:00-03:00 Europe/Berlin", "2026-03-29T00:59:00", False),  # 02:00 does not exist that night
        ("Sun 02:00-03:00 Europe/Berlin", "2026-03-29T01:00:00", False),
        ("Sun 02:00-03:00 Europe/Berlin", "2026-10-25T00:30:00", True),  # and here it comes twice
        ("Sun 02:00-03:00 Europe/Berlin", "2026-10-25T01:30:00", True),
    ],
)
def test_open(window, moment, answer):
    assert is_open(Window.parse(window), at(moment)) is answer


def test_an_unknown_zone_is_told():
    with pytest.raises(BadInput, match="no time zone 'Europe/Nowhere'"):
        is_open(Window.parse("Sat 02:00-04:00 Europe/Nowhere"), 0)
