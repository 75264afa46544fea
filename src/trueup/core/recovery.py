"""Recovery: what became of an operation that was in flight. One ordered table; the first row that matches decides.

The rule in one minute:

* A request whose last byte may have left us may still take effect, at any later time. So the absence of a task proves
  nothing by itself, and neither does waiting.
* PVE's task and the guest's own state are evidence. A task that ended well, or an effect that carries our marker,
  proves success; a task that ended badly proves failure.
* "It never took effect" is recorded only after a *fence* stands, a change in PVE that makes PVE itself refuse the
  dead request, and after looking at everything once more *behind* that fence. Kinds without such a fence are those
  whose late effect the loop wants or puts right, or that rest on time and say so (`presumed_not_started`).
* Whatever remains is *unresolved*: it stays open and visible, and its guest is left alone.

The same table judges an operation after a crash, after a lost reply and at the end of its task: there is one judge.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

import msgspec

from trueup.core.kinds import KINDS, STATE_FENCES, Fence, KindSpec
from trueup.core.probes import Finding, Landing
from trueup.model.errors import require
from trueup.model.ops import Failed, Intent, OpState, OpView, Reason, Row, Succeeded, Unresolved


class Task(StrEnum):
    """What is known of the operation's task.

    NONE needs proof of sight: lists that reach back to the send and would have shown it. SEVERAL: tasks that have all
    ended, any of which could be its own or a rival's; for a convergent operation the world behind the fence then tells
    as much as without a task. UNKNOWN is everything else: unreadable, or a list that does not reach
    back.
    """

    RUNNING = "running"
    OK = "ok"
    WARNINGS = "warnings"
    ERROR = "error"
    KILLED = "killed"
    NONE = "none"
    SEVERAL = "several"
    UNKNOWN = "unknown"


class FenceState(StrEnum):
    """Where the state fence of an operation stands; NO_KIND for kinds that have none."""

    STANDS = "stands"
    MISSING = "missing"
    IMPOSSIBLE = "impossible"
    NO_KIND = "no_kind"


class Lock(StrEnum):
    """The guest's flock and config lock: FREE (nobody is at work on it now), HELD, or not known."""

    FREE = "free"
    HELD = "held"
    UNKNOWN = "unknown"


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that was seen about one operation in one look.

    `exit_status` is the task's, verbatim. `seen_behind_fence`: this look began after the fence stood. `settled`: the
    kind's settle time has passed on this agent's monotonic clock since recovery began. `children_dead`: whatever a
    killed task left running is dead for sure. `patience_over`: the kind's patience for a state behind its task.
    `late_possible`: the dead request could still arrive and be let in. `too_late`: past `execute_by`. `answered`: PVE
    itself answered this request with success, without a task.
    """

    task: Task = Task.UNKNOWN
    upid: str = ""
    exit_status: str = ""
    finding: Finding = Finding(landing=Landing.UNREADABLE)
    fence: FenceState = FenceState.NO_KIND
    seen_behind_fence: bool = False
    settled: bool = False
    lock: Lock = Lock.UNKNOWN
    children_dead: bool = False
    patience_over: bool = False
    late_possible: bool = True
    too_late: bool = False
    answered: bool = False
    leftovers: tuple[str, ...] = ()
    why_task: str = ""


class Need(StrEnum):
    """What R10 asks for before it looks again."""

    FENCE = "raise the fence"
    LOOK = "look again behind the fence"
    SETTLE = "wait for the settle time"


class Requeue(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted one-shot that was never sent goes back to the queue."""

    row: Row


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """It is still at work: leave it in flight and keep watching."""

    row: Row
    why: str


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """Not yet: do what is needed, then look at everything again."""

    row: Row
    need: Need


class Close(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome is known; `event` is its terminal record."""

    row: Row
    event: Succeeded | Failed


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """It cannot be told; the operation stays in flight."""

    row: Row
    event: Unresolved


Verdict = Requeue | Watch | Again | Close | Open


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One operation and the evidence about it, with the questions that the rows ask."""

    view: OpView
    evidence: Evidence

    @property
    def intent(self) -> Intent:
        """What was asked of PVE."""
        return self.view.intent

    @property
    def spec(self) -> KindSpec:
        """The registry entry of its kind."""
        return KINDS[self.view.intent.kind]

    @property
    def landing(self) -> Landing:
        """What the probe found."""
        return self.evidence.finding.landing

    @property
    def landed(self) -> bool:
        """The effect is in the world."""
        return self.landing is Landing.LANDED

    @property
    def ended_well(self) -> bool:
        """The task ended as PVE counts success: OK, or WARNINGS (pve-common, status_is_error)."""
        return self.evidence.task in {Task.OK, Task.WARNINGS}

    @property
    def state_fence(self) -> bool:
        """The kind has a fence in PVE's own state."""
        return self.spec.fence_for(self.intent) in STATE_FENCES


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A row: when it applies, what it decides, and why that is right."""

    row: Row
    when: Callable[[Case], bool]
    then: Callable[[Case], Verdict]
    why: str


def _facts(case: Case) -> Mapping[str, str]:
    """The evidence as the journal keeps it, for `trueup ops show`."""
    seen = case.evidence
    facts = {"task": seen.task.value, "task_search": seen.why_task}
    if seen.finding.why:  # '' = not looked at, since the task decides
        facts |= {"probe": seen.finding.landing.value, "seen": seen.finding.why}
    if seen.task in {Task.NONE, Task.SEVERAL} and seen.fence is not FenceState.NO_KIND:
        facts["fence"] = seen.fence.value
    if seen.lock is not Lock.UNKNOWN:
        facts["lock"] = seen.lock.value
    return {key: value for key, value in facts.items() if value}


def _succeed(case: Case, row: Row, reason: Reason) -> Verdict:
    event = Succeeded(reason=reason, row=row, exit_status=case.evidence.exit_status, evidence=_facts(case))
    return Close(row=row, event=event)


def _fail(case: Case, row: Row, reason: Reason) -> Verdict:
    event = Failed(
        reason=reason,
        row=row,
        exit_status=case.evidence.exit_status,
        leftovers=case.evidence.leftovers,
        evidence=_facts(case),
    )
    return Close(row=row, event=event)


def _open(case: Case, row: Row, reason: Reason, settles_by: str) -> Verdict:
    return Open(row=row, event=Unresolved(reason=reason, row=row, settles_by=settles_by, evidence=_facts(case)))


def _r1(case: Case) -> Verdict:
    return _fail(case, Row.R1, Reason.EXPIRED) if case.evidence.too_late else Requeue(row=Row.R1)


def _r3(case: Case) -> Verdict:
    reason = Reason.TASK_OK if case.evidence.task is Task.OK else Reason.TASK_WARNINGS
    return _succeed(case, Row.R3, reason)


def _r4(case: Case) -> Verdict:
    if not case.evidence.patience_over:
        return Watch(row=Row.R4, why=f"the task ended, {case.evidence.finding.why or 'its effect does not show yet'}")
    return _open(
        case, Row.R4, Reason.GOAL_NOT_REACHED, "the guest reaches the state, or somebody finds out why it does not"
    )


def _r6(case: Case) -> Verdict:
    if not case.evidence.children_dead:
        return _open(
            case, Row.R6, Reason.CHILDREN_MAY_LIVE, "the guest's lock becomes free, or the node has been rebooted"
        )
    if case.landing is Landing.UNREADABLE:
        return _open(case, Row.R6, Reason.UNREADABLE, "the guest can be read")
    if case.landed:
        return _succeed(case, Row.R6, Reason.OBSERVED)
    return _fail(case, Row.R6, Reason.KILLED)


def _r7(case: Case) -> Verdict:
    if case.spec.fence_for(case.intent) is Fence.PROTECTION and case.evidence.late_possible:
        # A second DELETE would destroy whoever is given this vmid next.
        return _open(case, Row.R7, Reason.LATE_REQUEST_POSSIBLE, "the API token of that request is known to be dead")
    return _succeed(case, Row.R7, Reason.OBSERVED)


def _r8(case: Case) -> Verdict:
    return _open(case, Row.R8, Reason.TASK_UNKNOWN, f"the task list becomes readable: {case.evidence.why_task}")


def _r10_applies(case: Case) -> bool:
    seen = case.evidence
    if seen.task not in {Task.NONE, Task.SEVERAL}:
        return False
    if not case.state_fence:
        return not seen.settled
    if seen.fence is FenceState.STANDS:
        return not seen.seen_behind_fence
    return seen.fence is not FenceState.IMPOSSIBLE


def _r10(case: Case) -> Verdict:
    if not case.state_fence:
        return Again(row=Row.R10, need=Need.SETTLE)
    stands = case.evidence.fence is FenceState.STANDS
    return Again(row=Row.R10, need=Need.LOOK if stands else Need.FENCE)


def _r13(case: Case) -> Verdict:
    """The rest, each with what would settle it."""
    if case.landed and not case.intent.one_shot:
        # Whoever did it, the goal is reached: nothing is left to do, and nothing is claimed.
        return _fail(case, Row.R13, Reason.SUPERSEDED)
    if case.evidence.fence is FenceState.IMPOSSIBLE:
        return _open(case, Row.R13, Reason.FENCE_IMPOSSIBLE, "the guest can be written again, or somebody looks")
    reason, settles = {
        Landing.LANDED: (Reason.NOT_ATTRIBUTABLE, "somebody tells who did it"),
        Landing.PARTIAL: (Reason.PARTIAL, "the work goes on or is cleaned up; see the guest's lock"),
        Landing.UNKNOWABLE: (Reason.UNKNOWABLE, "somebody looks: nothing in PVE can tell"),
        Landing.UNREADABLE: (Reason.UNREADABLE, "the guest can be read"),
        Landing.NOT_LANDED: (Reason.LOCK_HELD, "whoever holds the guest's lock lets it go"),
    }[case.landing]
    return _open(case, Row.R13, reason, settles)


RULES: tuple[Rule, ...] = (
    Rule(
        row=Row.R1,
        when=lambda c: c.view.state is OpState.ACCEPTED,
        then=_r1,
        why="Accepted and never sent: nothing can have happened. It is queued again, or too late by its own terms.",
    ),
    Rule(
        row=Row.R2,
        when=lambda c: c.evidence.task is Task.RUNNING,
        then=lambda _: Watch(row=Row.R2, why="its task is running"),
        why="PVE is at work on it. Sending again would do it twice.",
    ),
    Rule(
        row=Row.R3,
        when=lambda c: c.ended_well and (c.spec.end_is_end or c.landing in {Landing.LANDED, Landing.UNKNOWABLE}),
        then=_r3,
        why="The task ended well, and where that is not the end (a start that only queues), the state is there too,"
        " if there is a state that could tell.",
    ),
    Rule(
        row=Row.R4,
        when=lambda c: c.ended_well,
        then=_r4,
        why="The task ended well but its effect does not show: HA works behind its task. Wait, then say so.",
    ),
    Rule(
        row=Row.R5,
        when=lambda c: c.evidence.task is Task.ERROR,
        then=lambda c: _fail(c, Row.R5, Reason.TASK_ERROR),
        why="PVE says it failed. It may have done a part of it: locks, volumes and missing disks are named.",
    ),
    Rule(
        row=Row.R6,
        when=lambda c: c.evidence.task is Task.KILLED,
        then=_r6,
        why="A killed task is not the end of its effect: its children may finish the work. Once they are dead, look.",
    ),
    Rule(
        row=Row.R7,
        when=lambda c: c.landed and (c.evidence.finding.attributable or c.evidence.answered),
        then=_r7,
        why="No task, but the effect is there and carries our own mark, or PVE itself said so: it was this operation.",
    ),
    Rule(
        row=Row.R8,
        when=lambda c: c.evidence.task is Task.UNKNOWN or (c.evidence.task is Task.SEVERAL and c.intent.one_shot),
        then=_r8,
        why="Whether there is a task, or which, cannot be told, so neither can the outcome.",
    ),
    Rule(
        row=Row.R9,
        when=lambda c: bool(c.view.upid) and c.evidence.lock is Lock.FREE and c.landing is Landing.NOT_LANDED,
        then=lambda c: _fail(c, Row.R9, Reason.OBSERVED),
        why="It had a task, which PVE has forgotten; nobody is at work on the guest, and the effect is not there.",
    ),
    Rule(
        row=Row.R10,
        when=_r10_applies,
        then=_r10,
        why="No task: the request may still be on its way. Raise the fence, or wait, then look at everything again.",
    ),
    Rule(
        row=Row.R11,
        when=lambda c: c.state_fence and c.evidence.fence is FenceState.STANDS and c.landing is Landing.NOT_LANDED,
        then=lambda c: _fail(c, Row.R11, Reason.NOT_STARTED),
        why="Behind the fence nothing has landed, and PVE refuses what may still come.",
    ),
    Rule(
        row=Row.R12,
        when=lambda c: not c.state_fence and c.landing is Landing.NOT_LANDED and c.evidence.lock is Lock.FREE,
        then=lambda c: _fail(c, Row.R12, Reason.PRESUMED_NOT_STARTED),
        why="No fence exists for this kind: time has passed, nobody is at work, nothing landed. Presumed, and watched.",
    ),
    Rule(row=Row.R13, when=lambda _: True, then=_r13, why="Anything else is not guessed."),
)


def decide(view: OpView, evidence: Evidence) -> Verdict:
    """Judge one operation on one look at the world.

    Raises:
        InvariantBroken: the operation is neither accepted nor in flight.
    """
    require(view.state in {OpState.ACCEPTED, OpState.STARTED, OpState.TASK_RUNNING}, "only open operations are judged")
    case = Case(view=view, evidence=evidence)
    return _protected(case, next(rule for rule in RULES if rule.when(case)).then(case))


def _protected(case: Case, verdict: Verdict) -> Verdict:
    """A destroy that did not come to its end puts `protection` back before its end is recorded."""
    failed = isinstance(verdict, Close) and isinstance(verdict.event, Failed)
    if not failed or case.view.state is OpState.ACCEPTED or case.spec.fence_for(case.intent) is not Fence.PROTECTION:
        return verdict
    if case.landing in {Landing.LANDED, Landing.UNKNOWABLE} or case.evidence.fence is FenceState.STANDS:
        return verdict  # the guest is protected, or is no longer there
    if case.evidence.fence is FenceState.MISSING:
        return Again(row=verdict.row, need=Need.FENCE)
    return _open(case, verdict.row, Reason.FENCE_IMPOSSIBLE, "the guest can be written again, or somebody looks")
