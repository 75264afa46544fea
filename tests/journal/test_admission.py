"""Appends that share a group see what was admitted before them, and nothing of what was refused."""

from tests.journal.samples import failed, requested, running, signed, started, vetoed
from trueup.adapters.journal_admission import Append, Known, admit
from trueup.adapters.journal_standing import Standings
from trueup.core import codec
from trueup.model.errors import IllegalTransition
from trueup.model.ids import Epoch, OpId
from trueup.model.ops import Reason

HEAD = codec.Head(seq=1, epoch=Epoch(1))
NOTHING = Known(record_ids=frozenset(), standings=Standings(), upids={}, claims=())


def verdicts(*appends) -> list[type]:
    group = admit(HEAD, NOTHING, [Append.of(Epoch(1), drafts) for drafts in appends])
    return [type(verdict) for verdict in group.verdicts]


def test_a_nonce_and_a_key_are_taken_within_a_group():
    assert verdicts(signed("a"), [requested("b", 102, nonce="n-a")]) == [tuple, IllegalTransition]
    assert verdicts(signed("a"), [requested("b", 102, idempotency_key="k-a")]) == [tuple, IllegalTransition]


def test_a_key_is_free_again_within_a_group():
    again = [requested("b", 102, idempotency_key="k-a")]
    assert verdicts(signed("a"), [vetoed("a"), failed("a", Reason.VETOED)], again) == [tuple, tuple, tuple]


def test_what_was_refused_takes_nothing():
    broken = [requested("a"), requested("b", 102, nonce="n-a")]
    assert verdicts(broken, [requested("c", 103, nonce="n-a", idempotency_key="k-a")]) == [IllegalTransition, tuple]


def test_what_was_refused_leaves_no_trace():
    """Neither in the chain nor in what stands, and its record ids, its task and its place are free."""
    begun, other = started("a"), started("b", 102)
    broken = [begun, running("a", "UPID:x"), running("c", "UPID:y")]
    appends = [
        Append.of(Epoch(1), drafts) for drafts in (signed("s"), broken, [other, running("b", "UPID:x")], [begun])
    ]
    group = admit(HEAD, NOTHING, appends)
    assert [type(verdict) for verdict in group.verdicts] == [tuple, IllegalTransition, tuple, tuple]
    head = HEAD
    for record, line in group.lines:
        head = codec.link(head, codec.decode(line))
        assert codec.decode(line) == record
    assert head == group.head
    assert [record.op_id for record, _ in group.lines] == ["s", "s", "s", "b", "b", "a"]
    assert {op_id: placed.first_seq for op_id, placed in group.standings.ops.items()} == {"s": 4, "b": 5, "a": 7}
    assert (group.standings.ops[OpId("b")].view.upid, group.standings.ops[OpId("a")].view.upid) == ("UPID:x", "")
    assert set(group.standings.requests) == set(group.standings.claims) == {"s"}


def test_only_what_changed_is_told():
    first = admit(HEAD, NOTHING, [Append.of(Epoch(1), signed("s")), Append.of(Epoch(1), [started("a", 102)])])
    known = Known(
        record_ids=frozenset(), standings=first.standings, upids={}, claims=tuple(first.standings.claims.values())
    )
    second = admit(first.head, known, [Append.of(Epoch(1), [running("a")])])
    assert set(second.standings.ops) == {"a"}
    assert (second.standings.requests, second.standings.claims) == ({}, {})
