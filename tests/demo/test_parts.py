"""What the demo claims would be noticed if it did not hold, and its picture shows what is there."""

from io import StringIO

from rich.console import Console

from tests.core.operations import op, upid
from trueup.adapters.sim_control import Mutation, SimGuest
from trueup.edges.demo import blows, claims, drawing, findings, signed
from trueup.edges.demo.cast import CAST, MANIFESTS
from trueup.edges.demo.claims import Claim
from trueup.edges.demo.drawing import ASCII, Marks, Scene
from trueup.edges.demo.sight import Seen
from trueup.edges.demo.signed import Deed, Delivery
from trueup.edges.demo.story import Outcome
from trueup.edges.demo.teller import Phase, PlainTeller, Player, counts_line
from trueup.model.ids import Epoch, OpId, TokenId
from trueup.model.ops import (
    EpochTaken,
    Event,
    Failed,
    Kind,
    OpState,
    Reason,
    Record,
    Row,
    Started,
    Succeeded,
    TaskRunning,
    Unresolved,
)


def mutation(path: str, *, method: str = "POST", effect: bool = True, upid: str | None = None, **params: str):
    return Mutation(seq=1, method=method, path=path, params=params, effect=effect, upid=upid)


def records(*events: tuple[str, Event]) -> list[Record]:
    return [
        Record(seq=n, epoch=Epoch(1), record_id=f"r{n}", at_ms=n, op_id=OpId(op_id), event=event, prev_hash="", hash="")
        for n, (op_id, event) in enumerate(events, start=1)
    ]


EPOCH = ("", EpochTaken(epoch=Epoch(1), holder="h", token=TokenId("t@pve!a")))
STARTED = Started(intent=op().intent)
WELL = Succeeded(reason=Reason.TASK_OK, row=Row.R3)


def test_what_took_effect_twice_is_counted_however_it_was_done() -> None:
    start = mutation("/nodes/pve1/qemu/101/status/start")
    assert claims.doubled([start, start, start]) == {"status/start 101": 2}
    assert claims.doubled(
        [mutation("/nodes/pve1/qemu/9000/clone", newid="101"), mutation("/nodes/pve1/qemu", vmid="101")]
    )
    grow = mutation("/nodes/pve1/qemu/101/resize", method="PUT", disk="scsi0", size="16G")
    config = mutation("/nodes/pve1/qemu/101/config", cores="4", digest="a", description="m1")
    again = mutation("/nodes/pve1/qemu/101/config", cores="4", digest="b", description="m2")
    assert claims.doubled([grow, config]) == {}
    assert sum(claims.doubled([grow, grow, config, again]).values()) == 2


def test_what_had_no_effect_and_what_only_marks_is_no_duplicate() -> None:
    start = "/nodes/pve1/lxc/105/status/start"
    fence = mutation("/nodes/pve1/qemu/101/config", method="PUT", description="m", digest="a")
    assert claims.doubled([mutation(start), mutation(start, effect=False), fence, fence]) == {}


def test_a_task_that_changed_something_belongs_to_one_operation() -> None:
    known, unknown = upid().text, upid(pid=9).text
    done = [mutation("/nodes/pve1/qemu/101/status/start", upid=known)]
    assert claims.unaccounted(done, [op(upid=known)]) == []
    assert claims.unaccounted(done, [op(upid=known), op(upid=known)]) == [known]
    assert claims.unaccounted([mutation("/nodes/pve1/qemu/101/status/start", upid=unknown)], [op(upid=known)]) == [
        unknown
    ]
    assert claims.unaccounted([mutation("/x", upid=unknown, effect=False)], []) == []


def test_sending_before_recovery_is_noticed() -> None:
    left = (EPOCH, ("a", STARTED), EPOCH)
    assert claims.sent_too_early(records(*left, ("b", STARTED), ("a", WELL))) == ["b"]
    assert claims.sent_too_early(records(*left, ("a", WELL), ("b", STARTED))) == []
    assert claims.sent_too_early(records(*left, ("a", TaskRunning(upid="u", adopted=True)), ("b", STARTED))) == []
    unresolved = Unresolved(reason=Reason.PARTIAL, row=Row.R13, settles_by="somebody looks")
    assert claims.sent_too_early(records(*left, ("a", unresolved), ("b", STARTED))) == []
    at_work = (EPOCH, ("a", STARTED), ("a", TaskRunning(upid="u")), EPOCH)
    assert claims.sent_too_early(records(*at_work, ("b", STARTED))) == []


def test_findings_count_as_a_recovery_does() -> None:
    before = op()
    ended = {"reason": Reason.TASK_OK, "row": Row.R3}
    found = [
        findings.finding(before, _after(OpState.SUCCEEDED, adopted=True, upid="u", **ended), [WELL]),
        findings.finding(before, _after(OpState.FAILED, reason=Reason.PRESUMED_NOT_STARTED, row=Row.R12), []),
        findings.finding(before, _after(OpState.FAILED, reason=Reason.TASK_ERROR, row=Row.R5), []),
        findings.finding(op(upid="u"), op(state=OpState.TASK_RUNNING, upid="u"), []),
    ]
    counts = findings.counted(found)
    assert counts == {
        "examined": 4, "resumed": 1, "failed": 1, "rolled_back": 1, "presumed": 1,
        "still_running": 1, "unresolved": 0, "adopted": 1,
    }  # fmt: skip
    assert [one.row for one in found] == [Row.R3, Row.R12, Row.R5, Row.R2]
    assert found[3].left == "PVE was at work on it"
    assert findings.added([counts, counts])["examined"] == 8
    line = counts_line(counts)
    assert line == (
        "4 examined: 1 took effect, 1 failed, 1 never took effect, 1 still at work (1 by time alone); "
        "1 found by searching PVE's task lists"
    )


def _after(state: OpState, **more: object):
    from msgspec.structs import replace

    return replace(op(state=state), **more)


def test_one_claim_that_does_not_hold_fails_the_whole() -> None:
    good, bad = Claim(text="a", held=True), Claim(text="b", held=False, detail="why")

    def outcome(*some: Claim) -> Outcome:
        return Outcome(
            kills=4,
            recovery={},
            final_changes=0,
            journal_ok=True,
            duplicates=0,
            deliveries=3,
            destroyed=1,
            claims=some,
            seconds=1.0,
        )

    assert outcome(good).held
    assert not outcome(good, bad).held
    said: list[str] = []
    PlainTeller(said.append).end([good, bad], 1.0)
    assert "  FAILED b (why)" in said
    assert said[-1].startswith("IT DID NOT HOLD")


def test_the_moment_of_a_lost_answer_is_over_once_somebody_judges_it() -> None:
    lost = blows.BLOWS[-1]
    clone = op(Kind.CLONE, vmid=103)
    assert lost.near(_seen(clone), 103)
    assert lost.now(_seen(clone), 103)
    assert not lost.now(_seen(clone, pending=frozenset({"reply_lost"})), 103)
    assert not lost.near(_seen(clone), 104)
    assert not lost.near(_seen(_after(OpState.TASK_RUNNING, upid="u")), 101)


def test_a_blow_aims_at_a_guest_whose_turn_is_still_to_come() -> None:
    late = blows.BLOWS[1]
    assert late.aim(_seen()) == 102
    assert late.aim(_seen(op(Kind.CONFIGURE, vmid=102))) == 101
    assert late.aim(_seen(_after(OpState.FAILED))) == 102
    assert late.aim(_seen(), tried=102) == 101
    assert late.aim(_seen(), tried=103) is None


def _seen(*ops, pending: frozenset[str] = frozenset()) -> Seen:
    guest = SimGuest(type="qemu", vmid=101, node="pve1", status="running")
    return Seen(now_ms=5_000, at_s=1.0, guests={101: guest}, ended=frozenset(), pending=pending, ops=ops, epoch=2)


def _drawn(scene: Scene) -> str:
    console = Console(file=StringIO(), width=120, color_system=None)
    console.print(drawing.live(scene))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_picture_shows_what_is_known_and_what_is_not() -> None:
    done = _after(OpState.SUCCEEDED, reason=Reason.TASK_OK)
    never = _after(OpState.FAILED, reason=Reason.NOT_STARTED)

    def scene(phase: Phase, pid: int = 7, marks: Marks | None = None) -> Scene:
        player = Player(pid=pid, phase=phase)
        seen = _seen(done, never, op())
        return Scene(seen=seen, player=player, last=["said"], since_s=3, width=118, marks=marks or Marks())

    dead = _drawn(scene(Phase.DEAD, 0))
    assert "start ✔  start ↺  start ?" in dead
    assert "the agent is dead" in dead
    assert "start ?" in _drawn(scene(Phase.RECOVERING))  # it does not know yet either
    working = _drawn(scene(Phase.WORKING))
    assert "start ?" not in working
    assert "● running" in working
    assert all(role.name in working for role in CAST)
    assert _drawn(scene(Phase.DEAD, 0, ASCII)).count("start +  start o  start ?") == 1


def test_each_of_the_cast_is_declared_once() -> None:
    text = "\n".join(MANIFESTS.values())
    assert all(text.count(f"vmid: {role.vmid}\n") == 1 for role in CAST)
    assert text.count("kind: ") == len(CAST) == 8


def test_what_failed_is_told_with_its_reason() -> None:
    event = Failed(
        reason=Reason.NOT_STARTED, row=Row.R11, evidence={"task": "none", "probe": "not_landed", "fence": "stands"}
    )
    after = _after(OpState.FAILED, reason=Reason.NOT_STARTED, row=Row.R11)
    one = findings.finding(op(), after, [STARTED, event])
    assert one.found == "no task, the effect was not there, and behind the fence PVE refuses it"
    assert (one.count, one.verdict, one.row) == ("rolled_back", "never took effect", Row.R11)


def test_a_signed_destroy_that_was_done_twice_or_under_two_names_does_not_hold() -> None:
    def delivered(*answers: tuple[str, str]) -> Deed:
        return Deed(deliveries=[Delivery(request=op, op=op, state=state) for op, state in answers])

    once = [mutation("/nodes/pve3/qemu/108", method="DELETE", purge="1")]
    good = delivered(("a", "accepted"), ("a", "started"), ("a", "succeeded"))
    assert signed.claim(good, once).held
    assert not signed.claim(good, once * 2).held
    assert not signed.claim(good, []).held
    assert not signed.claim(delivered(("a", "accepted"), ("b", "accepted"), ("a", "succeeded")), once).held
    assert not signed.claim(delivered(("a", "accepted"), ("a", "accepted"), ("a", "succeeded")), once).held
