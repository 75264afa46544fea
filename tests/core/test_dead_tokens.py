"""Which tokens an epoch may delete."""

from trueup.core import dead_tokens
from trueup.model.ids import Epoch, NodeName, OpId, TokenId
from trueup.model.ops import Event, Record, TokenPlanned, TokenRetired


def record(epoch: int, event: Event) -> Record:
    return Record(seq=1, epoch=Epoch(epoch), record_id="r", at_ms=1, op_id=OpId(""), event=event, prev_hash="", hash="")


def planned(epoch: int, name: str) -> Record:
    return record(epoch, TokenPlanned(token=TokenId(name)))


def test_only_those_of_earlier_epochs() -> None:
    records = [planned(1, "a!x-1"), planned(2, "a!x-2"), planned(3, "a!x-3"), planned(4, "a!x-4")]
    assert dead_tokens.of_earlier_epochs(records, Epoch(3)) == {"a!x-1", "a!x-2"}


def test_the_name_does_not_count_a_lost_epoch_is_deleted_by_the_next() -> None:
    """An older journal came to epoch 3 and named what PVE had of epochs 4 and 5; prefixes change, too."""
    records = [planned(1, "a!y-12"), planned(3, "a!x-3"), planned(3, "a!x-4"), planned(3, "a!x-5")]
    assert dead_tokens.of_earlier_epochs(records, Epoch(3)) == {"a!y-12"}
    assert dead_tokens.of_earlier_epochs(records, Epoch(4)) == {"a!y-12", "a!x-3", "a!x-4", "a!x-5"}


def test_one_that_was_planned_again_belongs_to_its_last_epoch() -> None:
    records = [
        planned(3, "a!x-5"),
        planned(5, "a!x-5"),
        record(5, TokenRetired(token=TokenId("n"), nodes=(NodeName("p"),))),
    ]
    assert dead_tokens.of_earlier_epochs(records, Epoch(5)) == set()
    assert dead_tokens.of_earlier_epochs(list(reversed(records)), Epoch(5)) == set()
