"""The blows: at which moments the agent is killed, told as conditions on what is seen.

No moment is found by waiting so many seconds: each is a state of the journal and of the cluster, and the agent is
stopped (SIGSTOP) and looked at once more before it is killed, so that it dies at that very point.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from trueup.edges.demo.sight import Seen
from trueup.model.ops import Kind, OpState, OpView

LATE_S: Final = 12.0
"""How long the late request stays on its way, at the least."""

LATE_STARTS: Final = 4.0
"""And how many times as long as an agent takes to come up here: the new one is to raise its fence meanwhile."""

LATE_MOST_S: Final = 60.0
"""But no longer than anybody would watch."""

_LINGER_S: Final = 0.5
_SLOW_S: Final = 2.5
_SOURCE: Final = {103: 9000, 104: 9001}

Accident = Mapping[str, str | int | float]
"""A fault of the simulator."""


class Blow(msgspec.Struct, frozen=True, kw_only=True):
    """One act.

    `aims` are the guests that it may be about, in the order in which it is tried, and `kind` what is done to them.
    `accident` (of the kind `fault`) is ordered from the simulator, for a guest and for so many seconds where it takes
    any, before the agent that meets it is started. `near` tells that the moment is about to come: from then on the
    agent runs in slices of a few milliseconds. `now` is the moment. `dead_until` is what PVE does meanwhile before the
    next agent is started.
    """

    title: str
    text: str
    why: str
    aims: tuple[int, ...] = (0,)
    kind: Kind | None = None
    fault: str = ""
    accident: Callable[[int, float], Accident] | None = None
    near: Callable[[Seen, int], bool] = lambda _seen, _vmid: False
    now: Callable[[Seen, int], bool]
    dead_until: Callable[[Seen, Sequence[OpView]], bool] = lambda _seen, _left: True

    @property
    def is_late(self) -> bool:
        """Whether its accident holds the request back."""
        return self.fault == "late"

    def aim(self, seen: Seen, tried: int = 0) -> int | None:
        """The next guest to aim at, after `tried`: one whose operation is still to come. None if there is none."""
        still = {OpState.FAILED, OpState.ACCEPTED}
        begun = {op.intent.vmid for op in seen.ops if op.intent.kind is self.kind and op.state not in still}
        left = self.aims[self.aims.index(tried) + 1 :] if tried else self.aims
        return next((vmid for vmid in left if vmid not in begun), None)


def unanswered(seen: Seen, kind: Kind, vmid: int) -> bool:
    """Whether a request may have left of which nothing has been heard, and which nobody has begun to judge."""
    return any(
        op.state is OpState.STARTED and op.fencing is None and op.intent.vmid == vmid for op in seen.in_flight(kind)
    )


def _clones(seen: Seen, _vmid: int) -> bool:
    """Two clones at work, and something has been done; on a machine too slow for that, any clone."""
    clones = seen.at_work(Kind.CLONE)
    ended = any(op.state is OpState.SUCCEEDED for op in seen.ops)
    return (ended and len(clones) > 1) or _older(clones, seen, _SLOW_S)


def _older(ops: Sequence[OpView], seen: Seen, seconds: float) -> bool:
    return any(seen.now_ms - op.started_at_ms > seconds * 1000 for op in ops)


def _a_clone_has_ended(seen: Seen, left: Sequence[OpView]) -> bool:
    return any(op.upid in seen.ended for op in left if op.intent.kind is Kind.CLONE)


def _starts(seen: Seen, _vmid: int) -> bool:
    starts = seen.at_work(Kind.START)
    return len(starts) > 1 or _older(starts, seen, _LINGER_S)


def _unanswered(kind: Kind) -> Callable[[Seen, int], bool]:
    return lambda seen, vmid: unanswered(seen, kind, vmid)


def _met(accident: str, kind: Kind) -> Callable[[Seen, int], bool]:
    return lambda seen, vmid: accident not in seen.pending and unanswered(seen, kind, vmid)


BLOWS: Final = (
    Blow(
        title="Killed in the middle of clones",
        text="The agent clones and creates. It is killed while PVE copies disks, which PVE goes on doing.",
        why="in the middle of clones",
        now=_clones,
        dead_until=_a_clone_has_ended,
    ),
    Blow(
        title="Killed with a request on its way, and the request is late",
        text="A stalled daemon holds a config write of the agent back. The agent dies meanwhile.",
        why="its request still on the way to PVE",
        aims=(102, 101, 104, 103),
        kind=Kind.CONFIGURE,
        fault="late",
        accident=lambda vmid, late_s: {
            "fault": "late",
            "method": "POST",
            "path": f"/qemu/{vmid}/config$",
            "delay_s": late_s,
        },
        near=_unanswered(Kind.CONFIGURE),
        now=_met("late", Kind.CONFIGURE),
    ),
    Blow(
        title="Killed in the middle of starts",
        text="The next agent makes the change that never was, and starts guests. It is killed again.",
        why="in the middle of starts",
        now=_starts,
    ),
    Blow(
        title="Killed before it hears the answer",
        text="PVE begins a clone, but its answer is lost, and the agent dies: nobody was ever told the task's id.",
        why="the answer of PVE lost",
        aims=(103, 104),
        kind=Kind.CLONE,
        fault="reply_lost",
        accident=lambda vmid, _: {"fault": "reply_lost", "method": "POST", "path": f"/qemu/{_SOURCE[vmid]}/clone$"},
        near=_unanswered(Kind.CLONE),
        now=_met("reply_lost", Kind.CLONE),
    ),
)

SIGNED: Final = Blow(
    title="A destroy that two people signed",
    text="The manifest of pxe-1 is taken away. Only a request that two people have signed may destroy the guest.",
    why="its DELETE sent, the answer of PVE lost",
    aims=(108,),
    kind=Kind.DESTROY,
    fault="reply_lost",
    accident=lambda vmid, _: {"fault": "reply_lost", "method": "DELETE", "path": f"/qemu/{vmid}$"},
    near=_unanswered(Kind.DESTROY),
    now=_met("reply_lost", Kind.DESTROY),
)
"""The last one, once everything else is done."""
