"""Appends that share a group see what was admitted before them, and nothing of what was refused."""

from tests.journal.samples import failed, requested, signed, vetoed
from trueup.adapters.journal_admission import Append, Known, admit
from trueup.adapters.journal_standing import Standings
from trueup.core import codec
from trueup.model.errors import IllegalTransition
from trueup.model.ids import Epoch
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
