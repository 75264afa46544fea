"""`trueup` with a wall clock that jumps: $OFFSET names a file with the seconds that it is off by.

The real commands with the real adapters, as in `doomed.py`; only the wall clock is another one. What counts seconds
(CLOCK_MONOTONIC) does not jump, as on a real machine whose time is set.
"""

import os
from pathlib import Path

import doomed

from trueup.adapters.system import SystemClock

FILE = Path(os.environ["OFFSET"])
true_now_ms = SystemClock.now_ms


def now_ms(self: SystemClock) -> int:
    return true_now_ms(self) + int(FILE.read_text() or "0") * 1000


SystemClock.now_ms = now_ms  # type: ignore[method-assign]

if __name__ == "__main__":
    doomed.main()
