"""Whether the journal is an older one brought back: PVE shows what only a later journal can know of.

A chain does not show that its tail was cut, and a copy of a journal is as sound as the journal. But every marker names
the operation that wrote it, which was journaled before PVE heard of it; and every incarnation token carries its epoch.
A marker of ours whose operation the journal never had, or a token of an epoch that it has not reached, is therefore
proof that more was done than it knows (or that two agents work with copies of one journal, which is as bad).

What does not count: markers of other installations; markers written for another vmid, which clones and restores carry
along; and operations from before the journal was pruned, or from before somebody last acknowledged a doubt.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from trueup.core import marker as markers
from trueup.model.guests import Observed
from trueup.model.ids import Epoch, OpId, TokenId, Vmid
from trueup.model.ops import Acknowledged, Pruned, Record

_UUIDV7: Final = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_NAMED: Final = 3
"""How many guests or tokens a doubt names."""


def writers(guests: Iterable[Observed], installation: str) -> dict[OpId, Vmid]:
    """The operations that wrote our markers on these guests, each with one guest that tells of it."""
    return {
        seen.marker.op_id: seen.vmid
        for seen in guests
        if seen.marker is not None
        and seen.marker.installation == installation
        and not markers.is_copy(seen.marker, seen.vmid)
        and began_ms(seen.marker.op_id) is not None
    }


def began_ms(op_id: OpId) -> int | None:
    """When an operation was thought of: its id is a UUIDv7 (RFC 9562). None for anything else, which proves nothing."""
    found = _UUIDV7.fullmatch(op_id)
    return int(found[1] + found[2], 16) if found else None


def told_from_ms(records: Iterable[Record]) -> int:
    """From when on the journal must know every operation; 0 = from the beginning. These are its system records."""
    since_ms = 0
    for record in records:
        match record.event:
            case Pruned(before_ms=before_ms):
                since_ms = max(since_ms, before_ms)
            case Acknowledged():
                since_ms = max(since_ms, record.at_ms)
            case _:
                pass
    return since_ms


def missing(unknown: Mapping[OpId, Vmid], since_ms: int) -> dict[OpId, Vmid]:
    """Of the operations that the journal does not have, those that it should have."""
    return {op_id: vmid for op_id, vmid in unknown.items() if (began_ms(op_id) or 0) >= since_ms}


def later_epochs(names: Iterable[str], begins: str, epoch: Epoch) -> tuple[TokenId, ...]:
    """Of these tokens, those of this epoch or a later one; `begins` is what stands before the number."""
    later = {
        int(name.removeprefix(begins)): TokenId(name)
        for name in names
        if name.startswith(begins) and name.removeprefix(begins).isdecimal()
    }
    return tuple(later[number] for number in sorted(later) if number >= epoch)


def doubt_of_markers(lost: Mapping[OpId, Vmid]) -> str:
    """What is said of operations that the journal should have."""
    vmids = sorted(set(lost.values()))
    return (
        f"an older journal was brought back, or a copy of it is in use elsewhere: {_some(vmids)} "
        f"{'carries' if len(vmids) == 1 else 'carry'} our marker, written by operations that this journal does not know"
    )


def doubt_of_tokens(tokens: Sequence[TokenId], epoch: Epoch) -> str:
    """What is said of tokens of epochs that the journal has not reached."""
    return (
        f"an older journal was brought back, or another agent uses the same prefix: PVE has {_some(tokens)}, "
        f"and this journal has only come to epoch {epoch}"
    )


def _some(things: Sequence[object]) -> str:
    named = ", ".join(str(thing) for thing in things[:_NAMED])
    return f"{named} and {len(things) - _NAMED} more" if len(things) > _NAMED else named
