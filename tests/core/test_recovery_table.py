"""The recovery table over all its inputs.

The product of all inputs has some ten billion members, and rules read a few fields of each. So a field gets its values
the moment somebody first asks for it: every path through the rules (and through the test's own question) is walked
once, and stands for all inputs that differ only in what nobody asked. Nothing is left out. The table is compared for
all kinds; each promise is asked of one kind of each sort, since a test shows that rules read nothing but the sort.

Evidence is well formed here: a fence state fits the kind. The last tests ask what happens if it does not.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tests.core.operations import op, upid
from trueup.core import codec, recovery
from trueup.core.kinds import KINDS
from trueup.core.probes import Finding, Landing
from trueup.core.recovery import (
    RULES,
    Again,
    Case,
    Close,
    Evidence,
    FenceState,
    Lock,
    Need,
    Open,
    Requeue,
    Task,
    Verdict,
    Watch,
    decide,
)
from trueup.model.errors import InvariantBroken
from trueup.model.ops import (
    Failed,
    Fenced,
    Fencing,
    Intent,
    Kind,
    OpState,
    OpView,
    Reason,
    Row,
    Succeeded,
)

EVERY_KIND = tuple(Kind)
ONE_OF_EACH_SORT = tuple(
    {(spec.fence, spec.one_shot_fence, spec.end_is_end): kind for kind, spec in KINDS.items()}.values()
)
YES_NO = (False, True)
UPID = upid().text

OPEN_STATES = (OpState.ACCEPTED, OpState.STARTED, OpState.TASK_RUNNING)
OF_THE_OP: Mapping[str, Sequence[Any]] = {
    "state": OPEN_STATES,
    "upid": ("", UPID),
    "fencing": (None, Fencing(counter=5, digest=cast("Any", "d1"))),
    "fenced": (None, Fenced(digest=cast("Any", "d2"))),
}
OF_THE_FINDING: Mapping[str, Sequence[Any]] = {"landing": tuple(Landing), "attributable": YES_NO}
OF_THE_EVIDENCE: Mapping[str, Sequence[Any]] = {
    "task": tuple(Task),
    "fence": tuple(FenceState),
    "seen_behind_fence": YES_NO,
    "settled": YES_NO,
    "lock": tuple(Lock),
    "children_dead": YES_NO,
    "patience_over": YES_NO,
    "late_possible": YES_NO,
    "too_late": YES_NO,
    "answered": YES_NO,
}
TEXTS: Mapping[str, Any] = {"exit_status": "", "leftovers": (), "why_task": "a reason", "why": "a sight"}

# From the design, on purpose not from the registry: which kinds have which fence, and whose state comes behind a task.
BY_DIGEST = {Kind.CONFIGURE, Kind.TAG, Kind.GROW, Kind.DETACH, Kind.DISK_REMOVE}
BY_PROTECTION = {Kind.DESTROY}
WITH_STATE_FENCE = BY_DIGEST | BY_PROTECTION
STATE_BEHIND_TASK = {
    Kind.CLONE,
    Kind.POOL,
    Kind.START,
    Kind.SHUTDOWN,
    Kind.STOP,
    Kind.REBOOT,
    Kind.MIGRATE,
    Kind.DESTROY,
}
ENDED = {Task.OK, Task.WARNINGS, Task.ERROR, Task.KILLED}
ROLLED_BACK = {Reason.NOT_STARTED, Reason.PRESUMED_NOT_STARTED}


class Asked:
    """One path: which field was asked in which order, and which of its values it got."""

    def __init__(self, path: Sequence[int], kinds: Sequence[Kind], *, well_formed: bool) -> None:
        self._path = path
        self._kinds = kinds
        self._well_formed = well_formed
        self.trail: list[tuple[int, int]] = []
        self.known: dict[str, Any] = {}

    def __call__(self, field: str, options: Sequence[Any]) -> Any:
        if field == "fence" and self._well_formed:
            options = self._fences()
        if field not in self.known:
            place = len(self.trail)
            choice = self._path[place] if place < len(self._path) else 0
            self.trail.append((choice, len(options)))
            self.known[field] = options[choice]
        return self.known[field]

    def _fences(self) -> Sequence[FenceState]:
        if self("kind", self._kinds) in WITH_STATE_FENCE:
            return (FenceState.STANDS, FenceState.MISSING, FenceState.IMPOSSIBLE)
        return (FenceState.NO_KIND,)

    def next_path(self) -> list[int] | None:
        trail = list(self.trail)
        while trail and trail[-1][0] + 1 == trail[-1][1]:
            trail.pop()
        if not trail:
            return None
        return [choice for choice, _ in trail[:-1]] + [trail[-1][0] + 1]


class Asking:
    """Stands for a value of the model; its fields are chosen when they are asked for, and unknown ones do not exist."""

    def __init__(self, asked: Asked, options: Mapping[str, Sequence[Any]], **parts: Any) -> None:
        self.__dict__.update(parts, _asked=asked, _options=options)

    def __getattr__(self, name: str) -> Any:
        if name in TEXTS:
            return TEXTS[name]
        if name not in self._options:
            raise AttributeError(f"no rule may read {name}")
        return self._asked(name, self._options[name])


class Except:
    """The same value but for some fields."""

    def __init__(self, value: Any, **fields: Any) -> None:
        self.__dict__.update(fields, _value=value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)


def every_input(kinds: Sequence[Kind] = EVERY_KIND, *, well_formed: bool = True) -> Iterator[tuple[Any, Any]]:
    path: list[int] | None = []
    while path is not None:
        asked = Asked(path, kinds, well_formed=well_formed)
        view = Asking(asked, OF_THE_OP, intent=Asking(asked, {"kind": kinds, "one_shot": YES_NO}))
        evidence = Asking(asked, OF_THE_EVIDENCE, finding=Asking(asked, OF_THE_FINDING))
        yield view, evidence
        path = asked.next_path()


def every_verdict(kinds: Sequence[Kind] = ONE_OF_EACH_SORT) -> Iterator[tuple[Any, Any, Verdict]]:
    for view, evidence in every_input(kinds):
        yield view, evidence, decide(view, evidence)


def reason(verdict: Verdict) -> Reason | None:
    return verdict.event.reason if isinstance(verdict, Close) else None


def succeeded(verdict: Verdict) -> bool:
    return isinstance(verdict, Close) and isinstance(verdict.event, Succeeded)


def say(verdict: Verdict) -> tuple[Row, str]:
    match verdict:
        case Requeue():
            return verdict.row, "queue again"
        case Watch():
            return verdict.row, "leave in flight"
        case Again():
            return verdict.row, f"again: {verdict.need.value}"
        case Open():
            return verdict.row, "unresolved"
        case Close(event=Succeeded()):
            return verdict.row, f"succeeded({verdict.event.reason.value})"
        case Close():
            return verdict.row, f"failed({verdict.event.reason.value})"


def restated(view: Any, seen: Any) -> tuple[Row, str]:  # noqa: PLR0911 - a return for each line of the table
    """The design's table once more, as plainly as it can be said."""
    kind, one_shot, landing = view.intent.kind, view.intent.one_shot, seen.finding.landing
    if view.state == "accepted":
        return (Row.R1, "failed(expired)") if seen.too_late else (Row.R1, "queue again")
    if seen.task == "running":
        return Row.R2, "leave in flight"
    if seen.task in ("ok", "warnings"):
        if kind not in STATE_BEHIND_TASK or landing in ("landed", "unknowable"):
            return Row.R3, f"succeeded(task_{seen.task})"
        return (Row.R4, "unresolved") if seen.patience_over else (Row.R4, "leave in flight")
    if seen.task == "error":
        return unprotected(view, seen, Row.R5) or (Row.R5, "failed(task_error)")
    if seen.task == "killed":
        if not seen.children_dead or landing == "unreadable":
            return Row.R6, "unresolved"
        if landing == "landed":
            return Row.R6, "succeeded(observed)"
        return unprotected(view, seen, Row.R6) or (Row.R6, "failed(killed)")

    # From here on no task is known: none, several, or not to be told.
    if landing == "landed" and (seen.finding.attributable or seen.answered):
        if kind in BY_PROTECTION and seen.late_possible:
            return Row.R7, "unresolved"
        return Row.R7, "succeeded(observed)"
    if seen.task == "unknown":
        return Row.R8, "unresolved"
    if seen.task == "several" and one_shot:
        return Row.R8, "unresolved"

    # From here on there is none. (Of several that have all ended, none matters to an operation that may be repeated.)
    if view.upid and seen.lock == "free" and landing == "not_landed":
        return unprotected(view, seen, Row.R9) or (Row.R9, "failed(observed)")
    if kind in WITH_STATE_FENCE:
        if seen.fence == "missing":
            return Row.R10, "again: raise the fence"
        if seen.fence == "stands":
            if not seen.seen_behind_fence:
                return Row.R10, "again: look again behind the fence"
            if landing == "not_landed":
                return Row.R11, "failed(not_started)"
    else:
        if not seen.settled:
            return Row.R10, "again: wait for the settle time"
        if landing == "not_landed" and seen.lock == "free":
            return Row.R12, "failed(presumed_not_started)"
    if landing == "landed" and not one_shot:
        return Row.R13, "failed(superseded)"
    return Row.R13, "unresolved"


def unprotected(view: Any, seen: Any, row: Row) -> tuple[Row, str] | None:
    """A destroy that failed says so only once its guest is protected again, if it is still that guest."""
    there = seen.finding.landing not in ("landed", "unknowable")
    if view.intent.kind not in BY_PROTECTION or not there or seen.fence == "stands":
        return None
    return (row, "again: raise the fence") if seen.fence == "missing" else (row, "unresolved")


def test_no_destroy_ends_badly_and_leaves_its_guest_unprotected():
    for view, seen, verdict in every_verdict():
        if view.intent.kind is not Kind.DESTROY or view.state is OpState.ACCEPTED or not isinstance(verdict, Close):
            continue
        if isinstance(verdict.event, Failed) and seen.finding.landing not in {Landing.LANDED, Landing.UNKNOWABLE}:
            assert seen.fence is FenceState.STANDS


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out of the walk what verdicts only quote; `test_every_verdict_quotes_its_evidence` looks at that."""
    if "quotes" not in request.node.name:
        monkeypatch.setattr(recovery, "_facts", lambda _case: {})


# -- the table as a whole ---------------------------------------------------------------------------------------------


def test_the_rows_stand_in_order_and_each_says_why():
    assert [rule.row for rule in RULES] == list(Row)
    assert all(len(rule.why.split()) > 3 for rule in RULES)


def test_every_input_has_a_verdict_and_it_is_that_of_the_first_row_that_matches():
    for view, evidence, verdict in every_verdict(EVERY_KIND):
        case = Case(view=view, evidence=evidence)
        assert verdict.row is next(rule.row for rule in RULES if rule.when(case))


def test_the_last_row_takes_everything():
    for view, evidence in every_input():
        assert RULES[-1].when(Case(view=view, evidence=evidence))


def test_the_same_input_always_gets_the_same_verdict():
    for view, evidence, verdict in every_verdict():
        assert decide(view, evidence) == verdict


def test_every_row_is_reached():
    assert {verdict.row for _, _, verdict in every_verdict()} == set(Row)


def test_the_table_decides_as_its_plain_restatement():
    for view, evidence, verdict in every_verdict(EVERY_KIND):
        assert say(verdict) == restated(view, evidence), vars(evidence)["_asked"].known


def test_values_of_the_model_are_judged_like_the_walk_says():
    chance = random.Random(7)  # the walk uses stand-ins; this uses the real thing
    for _ in range(5_000):
        view, evidence = real(chance.choice)
        assert say(decide(view, evidence)) == restated(view, evidence)


def real(choose: Callable[[Sequence[Any]], Any]) -> tuple[OpView, Evidence]:
    kind = choose(tuple(Kind))
    fields = {name: choose(options) for name, options in OF_THE_EVIDENCE.items()}
    fields["fence"] = (
        choose((FenceState.STANDS, FenceState.MISSING, FenceState.IMPOSSIBLE))
        if kind in WITH_STATE_FENCE
        else FenceState.NO_KIND
    )
    finding = Finding(landing=choose(tuple(Landing)), attributable=choose(YES_NO), why="a sight")
    view = op(kind, choose(OPEN_STATES), upid=choose(("", UPID)), one_shot=choose(YES_NO))
    return view, Evidence(finding=finding, leftovers=("lock: clone",), exit_status="text", why_task="w", **fields)


@pytest.mark.parametrize("state", [OpState.SUCCEEDED, OpState.FAILED])
def test_a_closed_operation_is_never_judged_again(state: OpState):
    with pytest.raises(InvariantBroken):
        decide(op(state=state), Evidence())


@pytest.mark.parametrize("kind", list(Kind), ids=str)
def test_evidence_closes_nothing_by_what_nobody_looked_for(kind: Kind):
    assert isinstance(decide(op(kind), Evidence()), Open)
    not_there = Evidence(task=Task.NONE, finding=Finding(landing=Landing.NOT_LANDED), settled=True)
    assert not isinstance(decide(op(kind), not_there), Close)
    gone = Evidence(task=Task.NONE, finding=Finding(landing=Landing.LANDED, attributable=True))
    assert isinstance(decide(op(kind), gone), Close) == (kind is not Kind.DESTROY)


# -- promises ---------------------------------------------------------------------------------------------------------


def test_nothing_is_rolled_back_while_its_task_runs_or_cannot_be_told():
    for _, seen, verdict in every_verdict():
        if reason(verdict) in ROLLED_BACK:
            assert seen.task not in {Task.RUNNING, Task.UNKNOWN}


def test_nothing_is_rolled_back_after_a_task_that_was_surely_its_own():
    for _, seen, verdict in every_verdict():
        if reason(verdict) in ROLLED_BACK:
            assert seen.task not in ENDED


def test_nothing_is_rolled_back_whose_effect_is_there_or_half_there():
    for _, seen, verdict in every_verdict():
        if reason(verdict) in ROLLED_BACK:
            assert seen.finding.landing is Landing.NOT_LANDED


def test_not_started_is_said_only_after_a_look_behind_a_standing_fence():
    for view, seen, verdict in every_verdict():
        if reason(verdict) is Reason.NOT_STARTED:
            assert verdict.row is Row.R11
            assert view.intent.kind in WITH_STATE_FENCE
            assert seen.fence is FenceState.STANDS
            assert seen.seen_behind_fence


def test_a_presumption_is_made_only_where_no_fence_exists_and_time_has_passed_and_nobody_is_at_work():
    for view, seen, verdict in every_verdict():
        if reason(verdict) is Reason.PRESUMED_NOT_STARTED:
            assert verdict.row is Row.R12
            assert view.intent.kind not in WITH_STATE_FENCE
            assert seen.settled
            assert seen.lock is Lock.FREE


def test_time_alone_decides_nothing_where_a_fence_exists():
    for view, seen, verdict in every_verdict():
        if view.intent.kind in WITH_STATE_FENCE:
            assert decide(view, cast("Evidence", Except(seen, settled=not seen.settled))) == verdict


def test_success_needs_a_task_that_ended_well_or_the_effect_in_the_world():
    for _, seen, verdict in every_verdict():
        if succeeded(verdict):
            assert seen.task in {Task.OK, Task.WARNINGS} or seen.finding.landing is Landing.LANDED


def test_an_observed_success_without_a_task_carries_our_own_mark():
    for _, seen, verdict in every_verdict():
        if succeeded(verdict) and seen.task not in ENDED:
            assert reason(verdict) is Reason.OBSERVED
            assert seen.finding.attributable or seen.answered


def test_a_start_that_only_queues_is_no_success_before_the_guest_runs():
    for view, seen, verdict in every_verdict():
        if succeeded(verdict) and view.intent.kind in STATE_BEHIND_TASK:
            assert seen.finding.landing in {Landing.LANDED, Landing.UNKNOWABLE}
            assert seen.finding.landing is Landing.LANDED or seen.task in {Task.OK, Task.WARNINGS}


def test_a_killed_task_decides_nothing_while_its_children_may_live():
    for view, seen, verdict in every_verdict():
        if view.state is not OpState.ACCEPTED and seen.task is Task.KILLED and not seen.children_dead:
            assert isinstance(verdict, Open)
            assert verdict.event.reason is Reason.CHILDREN_MAY_LIVE


def test_a_destroy_without_a_task_is_no_success_while_its_request_may_still_arrive():
    for view, seen, verdict in every_verdict():
        if view.intent.kind is Kind.DESTROY and seen.task not in ENDED and succeeded(verdict):
            assert not seen.late_possible


def test_what_people_signed_is_never_superseded():
    for view, _, verdict in every_verdict():
        if reason(verdict) is Reason.SUPERSEDED:
            assert not view.intent.one_shot


def test_what_people_signed_stays_open_when_one_of_several_tasks_could_be_its_own():
    for view, seen, verdict in every_verdict():
        if view.state is OpState.ACCEPTED or not view.intent.one_shot or seen.task is not Task.SEVERAL:
            continue
        if not (seen.finding.landing is Landing.LANDED and (seen.finding.attributable or seen.answered)):
            assert isinstance(verdict, Open)


def test_nothing_is_closed_on_a_guest_that_could_not_be_read_unless_its_task_ended():
    for view, seen, verdict in every_verdict():
        blind = seen.finding.landing in {Landing.UNREADABLE, Landing.UNKNOWABLE}
        if isinstance(verdict, Close) and blind and view.state is not OpState.ACCEPTED:
            assert seen.task in ENDED


def test_an_unreadable_task_list_closes_nothing_but_an_effect_with_our_mark():
    for view, seen, verdict in every_verdict():
        if isinstance(verdict, Close) and view.state is not OpState.ACCEPTED and seen.task is Task.UNKNOWN:
            assert reason(verdict) is Reason.OBSERVED
            assert verdict.row is Row.R7


def test_a_running_task_is_left_alone_whatever_else_is_seen():
    for view, seen, verdict in every_verdict():
        if view.state is not OpState.ACCEPTED and seen.task is Task.RUNNING:
            assert isinstance(verdict, Watch)


def test_a_refused_fence_never_closes_as_not_started():
    for _, seen, verdict in every_verdict():
        if seen.fence is FenceState.IMPOSSIBLE:
            assert reason(verdict) not in ROLLED_BACK


def test_only_what_was_accepted_and_never_sent_is_queued_again():
    for view, _, verdict in every_verdict():
        if isinstance(verdict, Requeue):
            assert view.state is OpState.ACCEPTED


def test_only_what_was_never_sent_expires():
    for view, seen, verdict in every_verdict():
        if reason(verdict) is Reason.EXPIRED:
            assert view.state is OpState.ACCEPTED
            assert seen.too_late


MET = {
    Need.FENCE: {"fence": FenceState.STANDS},
    Need.LOOK: {"seen_behind_fence": True},
    Need.SETTLE: {"settled": True},
}


def test_whoever_does_what_is_asked_for_is_not_asked_for_it_again():
    for view, seen, verdict in every_verdict():
        if isinstance(verdict, Again):
            after = decide(view, cast("Evidence", Except(seen, **MET[verdict.need])))
            assert not (isinstance(after, Again) and after.need is verdict.need)


def test_a_fence_is_asked_for_only_where_one_exists_and_waiting_only_where_none_does():
    for view, _, verdict in every_verdict():
        if isinstance(verdict, Again):
            assert (verdict.need is not Need.SETTLE) == (view.intent.kind in WITH_STATE_FENCE)


def test_what_stays_open_says_what_would_settle_it():
    for _, _, verdict in every_verdict():
        if isinstance(verdict, Open):
            assert len(verdict.event.settles_by) > 10
        if isinstance(verdict, Watch):
            assert verdict.why


def everything(evidence: Evidence) -> dict[str, str]:
    return {
        "task": evidence.task.value,
        "task_search": evidence.why_task,
        "probe": evidence.finding.landing.value,
        "seen": evidence.finding.why,
        "fence": evidence.fence.value,
        "lock": evidence.lock.value,
    }


def test_every_verdict_quotes_its_evidence_and_its_row_for_the_journal():
    chance = random.Random(11)
    for _ in range(3_000):
        view, evidence = real(chance.choice)
        verdict = decide(view, evidence)
        if isinstance(verdict, Close | Open):
            assert verdict.event.row is verdict.row
            kept = verdict.event.evidence
            assert kept.items() <= everything(evidence).items()
            assert kept.keys() >= {"task", "task_search", "probe", "seen"}
            assert ("lock" in kept) == (evidence.lock is not Lock.UNKNOWN)
            told = evidence.task in {Task.NONE, Task.SEVERAL} and evidence.fence is not FenceState.NO_KIND
            assert ("fence" in kept) == told, "where the task decides, nobody has looked for a fence"
            assert codec.encode_event(verdict.event)
        if isinstance(verdict, Close):
            assert verdict.event.exit_status == "text"
        if isinstance(verdict, Close) and isinstance(verdict.event, Failed):
            assert verdict.event.leftovers == ("lock: clone",)


def test_the_page_names_every_outcome_of_every_row():
    page = (Path(__file__).parents[2] / "docs" / "lifecycle.md").read_text()
    shown = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| R")}
    for _, _, verdict in every_verdict():
        match verdict:
            case Close() | Open():
                assert f"`{verdict.event.reason.value}`" in shown[verdict.row]
            case Again():
                assert verdict.need.value in shown[verdict.row]
            case Watch():
                assert "keep watching" in shown[verdict.row]
            case Requeue():
                assert "queue it again" in shown[verdict.row]


# -- what is not read -------------------------------------------------------------------------------------------------


def test_a_kind_is_judged_by_its_fence_and_by_whether_its_tasks_end_is_its_end(monkeypatch: pytest.MonkeyPatch):
    class Narrow:
        def __init__(self, kind: Kind) -> None:
            self.end_is_end = recovery.KINDS[kind].end_is_end
            self.fence_for: Callable[[Intent], Any] = recovery.KINDS[kind].fence_for

    monkeypatch.setattr(recovery, "KINDS", {kind: Narrow(kind) for kind in Kind})
    assert {verdict.row for _, _, verdict in every_verdict(EVERY_KIND)} == set(Row)


def test_the_journals_own_word_about_a_fence_is_not_trusted():
    asked: set[str] = set()
    for _, evidence, _ in every_verdict():
        asked |= set(vars(evidence)["_asked"].known)
    assert asked.isdisjoint({"fencing", "fenced"}), "whether it stands is seen in the guest"


# -- evidence that contradicts the registry ---------------------------------------------------------------------------


def test_whatever_the_evidence_it_is_judged():
    for view, evidence in every_input(well_formed=False):
        assert decide(view, evidence).row in set(Row)


def test_evidence_of_a_fence_that_a_kind_cannot_have_never_shortens_its_way():
    for view, seen in every_input(ONE_OF_EACH_SORT, well_formed=False):
        verdict = decide(view, seen)
        if reason(verdict) is Reason.NOT_STARTED:
            assert view.intent.kind in WITH_STATE_FENCE
            assert seen.seen_behind_fence
        if reason(verdict) is Reason.PRESUMED_NOT_STARTED:
            assert seen.settled
