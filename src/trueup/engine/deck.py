"""What all parts of the engine hold in common: the ports, the epoch, the limits."""

from dataclasses import dataclass

from trueup.model.ids import Epoch, OpId
from trueup.model.notes import Note, What
from trueup.model.ops import Draft, Event, OpView, Record
from trueup.model.settings import LimitSettings
from trueup.ports import Clock, Entropy, Journal, Pve, Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Deck:
    """The ports of one agent incarnation. `installation` names this trueup in markers; `epoch` is this incarnation."""

    journal: Journal
    pve: Pve
    clock: Clock
    entropy: Entropy
    reporter: Reporter
    epoch: Epoch
    installation: str
    limits: LimitSettings

    def draft(self, op_id: OpId | str, event: Event) -> Draft:
        """Make a record ready to be appended; its id is chosen here, so that it can be looked up afterwards."""
        now_ms = self.clock.now_ms()
        return Draft(record_id=self.entropy.uuid7(now_ms), at_ms=now_ms, op_id=OpId(op_id), event=event)

    async def record(self, op_id: OpId | str, *events: Event) -> tuple[Record, ...]:
        """Append events of one operation ('' = of the system); durable when it returns."""
        return await self.journal.append(self.epoch, [self.draft(op_id, event) for event in events])

    def tell(self, what: What, text: str, op: OpView | None = None) -> None:
        """Tell the listener."""
        self.reporter.note(Note(what=what, text=text, op=op))
