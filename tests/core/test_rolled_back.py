"""What proves that an older journal was brought back, and what does not."""

import pytest

from trueup.core import rolled_back
from trueup.model.guests import Marker, Observed, Power
from trueup.model.ids import Epoch, GuestType, NodeName, OpId, Vmid
from trueup.model.ops import Acknowledged, Doubted, Event, Pruned, Record

EARLY, LATE = OpId("018bcfe5-6800-7000-8000-000000000001"), OpId("018bcfe5-8b28-7000-bfff-000000000002")
EARLY_MS, LATE_MS = 1_700_000_000_000, 1_700_000_009_000


def seen(vmid: int, *, op: str = LATE, of: str = "ours", made_for: int = 0) -> Observed:
    mark = Marker(uid="u", installation=of, vmid=Vmid(made_for or vmid), op_id=OpId(op), counter=1)
    return Observed(
        type=GuestType.QEMU, vmid=Vmid(vmid), node=NodeName("n"), name="g", status=Power.STOPPED, marker=mark
    )


def record(event: Event, at_ms: int) -> Record:
    return Record(seq=1, epoch=Epoch(1), record_id="r", at_ms=at_ms, op_id=OpId(""), event=event, prev_hash="", hash="")


def test_an_id_tells_its_time() -> None:
    assert (rolled_back.began_ms(EARLY), rolled_back.began_ms(LATE)) == (EARLY_MS, LATE_MS)
    for other in ("", "o", EARLY.replace("-7", "-4", 1), EARLY + "0", EARLY.replace("-8000", "-0000")):
        assert rolled_back.began_ms(OpId(other)) is None, other


def test_only_our_own_markers_count() -> None:
    guests = [seen(100), seen(101, of="others"), seen(102, made_for=103), seen(104, op="o"), seen(105, op=EARLY)]
    unmarked = Observed(
        type=GuestType.QEMU, vmid=Vmid(106), node=NodeName("n"), name="g", status=Power.STOPPED, marker=None
    )
    assert rolled_back.writers([*guests, unmarked], "ours") == {LATE: 100, EARLY: 105}


@pytest.mark.parametrize(
    ("events", "told_from"),
    [
        ([], 0),
        ([(Doubted(what="x"), LATE_MS)], 0),
        ([(Acknowledged(), LATE_MS)], LATE_MS),
        ([(Pruned(before_ms=EARLY_MS, ops=1, records=2, gaps=()), LATE_MS)], EARLY_MS),
        ([(Acknowledged(), LATE_MS), (Pruned(before_ms=EARLY_MS, ops=1, records=2, gaps=()), LATE_MS)], LATE_MS),
    ],
)
def test_what_is_from_before_a_pruning_or_an_acknowledgement_is_not_missed(
    events: list[tuple[Event, int]], told_from: int
) -> None:
    since = rolled_back.told_from_ms([record(event, at) for event, at in events])
    assert since == told_from
    unknown = {EARLY: Vmid(100), LATE: Vmid(101)}
    assert set(rolled_back.missing(unknown, since)) == ({EARLY, LATE} if since <= EARLY_MS else {LATE})
    assert set(rolled_back.missing(unknown, LATE_MS + 1)) == set()
    assert rolled_back.missing({OpId("no time"): Vmid(100)}, 1) == {}


def test_later_tokens_are_those_of_our_prefix_with_a_number() -> None:
    names = ["a@pve!x-3", "a@pve!x-12", "a@pve!x-4", "a@pve!x-5b", "a@pve!xy-9", "b@pve!x-9", "a@pve!x-", "9"]
    assert rolled_back.later_epochs(names, "a@pve!x-", Epoch(4)) == ("a@pve!x-4", "a@pve!x-12")


def test_what_is_said() -> None:
    text = rolled_back.doubt_of_markers({OpId(str(n)): Vmid(100 + n) for n in range(5)})
    assert "100, 101, 102 and 2 more carry our marker" in text
    three = rolled_back.doubt_of_markers({OpId(str(n)): Vmid(100 + n) for n in range(3)})
    assert ": 100, 101, 102 carry our marker" in three
    assert "101 carries our marker" in rolled_back.doubt_of_markers({EARLY: Vmid(101)})
