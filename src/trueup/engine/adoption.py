"""Taking over guests that are there already, by an explicit act: our marker goes into their description.

Rule kept here: only guests that a manifest declares are taken, and none that anybody else may have a claim on unless
the person says so. The write is an operation like any other: journaled before it is sent, guarded by the digest that
was seen, found again after a crash.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from trueup.core import marker as markers
from trueup.core import obstacles, planner
from trueup.core.plan_context import Context
from trueup.engine.executor import Ended, LeftOpen, NotNow, Outcome
from trueup.engine.surveyor import Survey
from trueup.model.guests import Desired, Observed
from trueup.model.ids import Vmid
from trueup.model.ops import Kind, OpState
from trueup.model.plan import Diff, PlannedOp


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A guest that may be taken over.

    `claim` says what stands in the way without `take_over` ('' = nothing). `diff` is what an apply would change
    afterwards.
    """

    seen: Observed
    want: Desired
    claim: str = ""
    diff: tuple[Diff, ...] = ()


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A guest that is not taken over, and why. `ours`: since it is ours already."""

    vmid: Vmid
    name: str
    why: str
    ours: bool = False


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """What would be taken over, and what not."""

    candidates: tuple[Candidate, ...] = ()
    refusals: tuple[Refusal, ...] = ()


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended for one guest. `adopted` only on evidence; else `why` says what is known."""

    vmid: Vmid
    name: str
    adopted: bool
    why: str = ""
    op_id: str = ""


class Runner(Protocol):
    """Carries one operation out, in the guest's lane: an executor."""

    async def __call__(self, op: PlannedOp, planned_on: Observed | None) -> Outcome:
        """See `trueup.engine.executor.Executor.run`."""
        ...


def consider(survey: Survey, desired: Sequence[Desired], vmids: Sequence[Vmid] | None, *, take_over: bool) -> Adoption:
    """Sort guests into those that may be taken over and those that may not. None: all that are declared."""
    declared = {want.vmid: want for want in desired}
    candidates: list[Candidate] = []
    refusals: list[Refusal] = []
    for vmid in declared if vmids is None else dict.fromkeys(vmids):
        found = _consider(survey, declared, vmid, take_over=take_over)
        if isinstance(found, Candidate):
            candidates.append(found)
        elif vmids is not None or not (found.ours or vmid not in survey.world.rows):
            refusals.append(found)
    return Adoption(candidates=tuple(candidates), refusals=tuple(refusals))


def _consider(survey: Survey, declared: Mapping[Vmid, Desired], vmid: Vmid, *, take_over: bool) -> Candidate | Refusal:
    want, seen, row = declared.get(vmid), survey.world.guests.get(vmid), survey.world.rows.get(vmid)
    name = want.name if want else row.name if row else ""
    if want is None:
        why = f"no manifest declares it (`trueup import {vmid}` writes one)" if row else "there is no such guest"
        return Refusal(vmid=vmid, name=name, why=why)
    if seen is None:
        unread = survey.world.unread.get(vmid)
        why = f"it cannot be read: {unread}" if unread else "it does not exist yet: `trueup apply` makes it"
        return Refusal(vmid=vmid, name=name, why=why)
    if obstacles.is_ours(seen, survey.context):
        return Refusal(vmid=vmid, name=name, why="it is ours already", ours=True)
    if seen.type is not want.type:
        why = f"it is a {seen.type} guest, and {want.origin} wants {want.type} (correct `kind` there)"
        return Refusal(vmid=vmid, name=name, why=why)
    why = obstacles.circumstances(vmid, want.name, (seen.node,), survey.context) or obstacles.lock(seen)
    if why:
        return Refusal(vmid=vmid, name=name, why=why)
    claim = _claim(seen, survey.context)
    if claim and not take_over:
        return Refusal(vmid=vmid, name=name, why=claim)
    return Candidate(seen=seen, want=want, claim=claim, diff=_afterwards(want, seen, survey.context))


def _claim(seen: Observed, context: Context) -> str:
    """Who else may have a claim on the guest; '' if nobody has."""
    marker = seen.marker
    known = context.adopted.get(seen.vmid)
    again = f"`trueup adopt {seen.vmid} --take-over` takes it over"
    if marker is None:
        if known is None:
            return ""
        return f"we knew another guest by this vmid, or its description was edited: compare them first ({again})"
    if markers.is_copy(marker, seen.vmid):
        return f"it is a copy of guest {marker.vmid}, made by a clone or a restore ({again} as a guest of its own)"
    if marker.installation != context.installation:
        other = f"it belongs to another trueup, installation {marker.installation}"
        return f"{other}: take its manifest out there first ({again})"
    return f"its marker says {marker.uid} and the journal {known}: find out who replaced it ({again})"


def _afterwards(want: Desired, seen: Observed, context: Context) -> tuple[Diff, ...]:
    """What an apply would change once the guest is ours."""
    plain = msgspec.structs.replace(context, paused=frozenset[str]())
    return planner.plan_guest(want, {want.name: want}, {seen.vmid: seen}, plain).diff


async def adopt(
    candidates: Sequence[Candidate], run: Runner, told: Callable[[Result], None] | None = None
) -> tuple[Result, ...]:
    """Write the markers, as many at once as the lanes let through.

    Raises:
        Stale, JournalFailed: the journal refused a record; no request left after it.
    """

    async def one(candidate: Candidate) -> Result:
        result = await _adopt(candidate, run)
        if told is not None:
            told(result)
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(candidate)) for candidate in candidates]
    return tuple(task.result() for task in tasks)


async def _adopt(candidate: Candidate, run: Runner) -> Result:
    seen, want = candidate.seen, candidate.want
    op = PlannedOp(
        kind=Kind.CONFIGURE,
        type=seen.type,
        vmid=seen.vmid,
        node=seen.node,
        name=want.name,
        labels=want.labels,
    )
    outcome = await run(op, seen)
    match outcome:
        case NotNow(why=why):
            return Result(vmid=seen.vmid, name=want.name, adopted=False, why=f"nothing was written: {why}")
        case LeftOpen(view=view):
            why = f"whether the marker was written is not known yet: `trueup ops show {view.op_id}`"
            return Result(vmid=seen.vmid, name=want.name, adopted=False, why=why, op_id=view.op_id)
        case Ended(view=view):
            done = view.state is OpState.SUCCEEDED
            said = "" if done else f"{view.reason or ''}: {view.exit_status} (`trueup ops show {view.op_id}`)"
            return Result(vmid=seen.vmid, name=want.name, adopted=done, why=said, op_id=view.op_id)
