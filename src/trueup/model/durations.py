"""Durations as people write them: a number and its unit, since a bare 30 may be seconds, minutes or a mistake."""

import re
from typing import Final

from trueup.model.errors import BadInput

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = r"[0-9]{1,9}(?:\.[0-9]{1,3})?(?:ms|s|m|h|d)"
_WHOLE: Final = re.compile(rf"(?:{_PART})+", re.ASCII)
_EACH: Final = re.compile(r"([0-9.]+)(ms|s|m|h|d)", re.ASCII)


def parse_duration(text: str) -> float:
    """Read "30s", "5m", "1h30m", "500ms" or "2d"; the answer is in seconds.

    Raises:
        BadInput: anything else.
    """
    if _WHOLE.fullmatch(text) is None:
        raise BadInput(
            what=f"{text[:40]!r} is no duration", remedy='write a number and its unit, like "30s", "5m" or "1h"'
        )
    return sum(float(number) * _UNITS[unit] for number, unit in _EACH.findall(text))
