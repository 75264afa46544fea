"""Whether it held: each sentence of the demo's summary, checked against the simulator and the journal."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from trueup.adapters.sim_control import Mutation
from trueup.model.ids import OpId
from trueup.model.ops import EpochTaken, Failed, OpView, Record, Started, Succeeded, TaskRunning, Unresolved

_GUEST: Final = re.compile(r"/nodes/[^/]+/(?:qemu|lxc)(?:/(?P<vmid>\d+))?(?:/(?P<call>.+))?$")
_HARMLESS: Final = frozenset({"description", "digest"})
"""Fences and questions for a lock write only the marker: any number of times, on purpose."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence, and whether it held. `detail` says what was counted, or what is wrong."""

    text: str
    held: bool
    detail: str = ""


def doubled(mutations: Iterable[Mutation]) -> dict[str, int]:
    """What took effect more than once, with how often too often. Making a guest counts as one thing, however done."""
    effects: Counter[str] = Counter()
    for mutation in mutations:
        what = _what(mutation)
        if mutation.effect and what:
            effects[what] += 1
    return {what: count - 1 for what, count in effects.items() if count > 1}


def _what(mutation: Mutation) -> str:
    found = _GUEST.search(mutation.path)
    if found is None:
        return f"{mutation.method} {mutation.path}"
    vmid, call, params = found["vmid"], found["call"] or "", mutation.params
    if not vmid:
        return f"make {params.get('vmid')}"
    if call == "clone":
        return f"make {params.get('newid')}"
    if call.endswith("config"):
        given = {key: value for key, value in params.items() if key not in _HARMLESS}
        return f"configure {vmid} {sorted(given.items())}" if given else ""
    if call == "resize":
        return f"grow {vmid} {params.get('disk')} to {params.get('size')}"
    return f"{call or mutation.method} {vmid}"


def unaccounted(mutations: Iterable[Mutation], ops: Iterable[OpView]) -> list[str]:
    """Tasks that changed the cluster and that no operation of the journal, or more than one, names as its own."""
    named = Counter(op.upid for op in ops if op.upid)
    return [mutation.upid for mutation in mutations if mutation.effect and mutation.upid and named[mutation.upid] != 1]


def sent_too_early(records: Sequence[Record]) -> list[OpId]:
    """Operations journaled by an agent before it had judged all that its predecessors had left without a task.

    What PVE was still at work on is allowed to go on: its end was not due.
    """
    early: list[OpId] = []
    open_: dict[OpId, bool] = {}  # in flight -> PVE has given a task
    left: set[OpId] = set()
    for record in records:
        match record.event:
            case EpochTaken():
                left = {op_id for op_id, has_task in open_.items() if not has_task}
            case Started():
                early += [record.op_id] if left else []
                open_[record.op_id] = False
            case Succeeded() | Failed():
                open_.pop(record.op_id, None)
                left.discard(record.op_id)
            case TaskRunning():
                open_[record.op_id] = True
                left.discard(record.op_id)
            case Unresolved():
                left.discard(record.op_id)
            case _:
                pass
    return early
