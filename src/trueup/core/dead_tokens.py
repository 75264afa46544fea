"""Which incarnation tokens an epoch may delete: those that were planned in epochs before its own, and no others.

An agent that stood still may wake when another one leads, and read the journal with the other's token in it. So it is
the epoch of the record that counts: nothing that was planned at or after the reader's own epoch is ever its to delete.
A token is planned again when its epoch is taken a second time (an older journal was brought back); the last one counts.
"""

from collections.abc import Iterable

from trueup.model.ids import Epoch, TokenId
from trueup.model.ops import Record, TokenPlanned


def of_earlier_epochs(records: Iterable[Record], epoch: Epoch) -> frozenset[TokenId]:
    """The tokens that were planned before this epoch, and not since; `records` are the journal's system records."""
    planned: dict[TokenId, Epoch] = {}
    for record in records:
        if isinstance(record.event, TokenPlanned):
            token = record.event.token
            planned[token] = max(record.epoch, planned.get(token, record.epoch))
    return frozenset(token for token, at in planned.items() if at < epoch)
