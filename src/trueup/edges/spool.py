"""The spool: requests come in as files, and are answered beside them.

Rule kept here: a file is submitted, then answered, then moved. Whoever dies in between submits it again in the next
life; the gate knows it by its nonce and answers with what became of it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from trueup.adapters.spool_folder import DONE, REFUSED, Dropped, Mark, SpoolFolder
from trueup.edges.cli import shapes
from trueup.model.errors import BadInput
from trueup.model.gate_answers import Answer, Outcome
from trueup.ports import Clock

VIA: Final = "spool"

_AT_ONCE: Final = 100
"""Files in one look: a flood of them does not keep the loop from its work."""

_AGAIN_S: Final = 30.0
"""Before a file that could not be answered or moved is tried again."""


class Door(Protocol):
    """Where requests go: the gate."""

    async def submit(self, content: bytes, via: str) -> Answer:
        """Take a signed statement. Raises Stale or JournalFailed."""
        ...


class Spool:
    """Takes files that stood still for one look."""

    def __init__(self, folder: Path, door: Door, clock: Clock, warn: Callable[[str], None]) -> None:
        """Bring files from `folder` to `door`; `warn` hears what is wrong with the folder."""
        self._files = SpoolFolder(folder)
        self._door = door
        self._clock = clock
        self._warn = warn
        self._seen: dict[str, Mark] = {}
        self._again: dict[str, float] = {}
        self._said = ""

    async def look(self, *, settled: bool = False) -> int:
        """Take what waits; how many were taken. With `settled`, files that were never seen before are taken as well.

        Raises:
            Stale, JournalFailed: the gate could not write; the file stays and is taken by the next life.
        """
        try:
            waiting = self._files.waiting(_AT_ONCE)
            self._complain("")
        except BadInput as problem:
            self._complain(str(problem))
            return 0
        before, self._seen = self._seen, {one.name: one.mark for one in waiting}
        now = self._clock.monotonic()
        self._again = {name: at for name, at in self._again.items() if name in self._seen and at > now}
        taken = 0
        for one in waiting:
            still = settled or before.get(one.name) == one.mark  # not one that is still being written
            if still and one.name not in self._again:
                await self._take(one)
                taken += 1
        return taken

    async def _take(self, one: Dropped) -> None:
        try:
            content = self._files.read(one.name) if one.plain else None
            if content is not None:
                answer = await self._door.submit(content, VIA)
            elif one.plain:
                return  # taken back
            else:
                answer = _unread("it is no plain file (a link, a folder or a pipe)")
        except BadInput as problem:
            answer = _unread(problem.what)
        refused = answer.outcome is Outcome.REFUSED
        refusal = answer.refusal.value if answer.refusal else None
        document = {**shapes.answer(answer), "refusal": refusal}
        try:
            self._files.answer(one.name, msgspec.json.format(msgspec.json.encode(document)) + b"\n")
            self._files.put_away(one.name, REFUSED if refused else DONE)
        except BadInput as problem:
            self._again[one.name] = self._clock.monotonic() + _AGAIN_S
            self._complain(str(problem))

    def _complain(self, text: str) -> None:
        if text and text != self._said:
            self._warn(f"spool: {text}")
        self._said = text


def _unread(what: str) -> Answer:
    return Answer(outcome=Outcome.REFUSED, state=Outcome.REFUSED.value, reason=what)
