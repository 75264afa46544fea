"""What the agent knows at this moment, for its readers: the agent writes it, HTTP only reads it.

Rule kept here: a reader is shown the last pass, with its time, and never causes a look at the cluster of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from trueup.edges import standing
from trueup.edges.journal_head import Head, newest_record
from trueup.edges.standing import GuestStatus, Leader, Status
from trueup.edges.web.health import Health
from trueup.engine.surveyor import Survey
from trueup.model.gate import RequestState
from trueup.model.guests import Desired, Observed
from trueup.model.ids import Vmid
from trueup.model.plan import GuestPlan
from trueup.model.settings import Mode
from trueup.ports import JournalReader

_PROBLEMS_KEPT: Final = 20


@dataclass(slots=True, kw_only=True)
class Board:
    """The board. `passed_at_ms` is when the last pass ended (0 = none yet), `problems` why a later one was not made."""

    health: Health
    mode: Callable[[], Mode]
    holder: str
    head: Head | None = None
    survey: Survey | None = None
    desired: Mapping[str, Desired] = field(default_factory=dict[str, Desired])
    passed_at_ms: int = 0
    problems: tuple[str, ...] = ()

    def passed(self, survey: Survey | None, at_ms: int) -> None:
        """A pass has ended."""
        self.survey, self.passed_at_ms, self.problems = survey, at_ms, ()

    def wanted(self, desired: Sequence[Desired]) -> None:
        """The manifests were read."""
        self.desired = {want.name: want for want in desired}

    def alarm(self, text: str) -> None:
        """Something is wrong that belongs to no operation."""
        self.problems = (*self.problems, *text.splitlines())[-_PROBLEMS_KEPT:]

    def plan_of(self, vmid: Vmid) -> GuestPlan | None:
        """One guest's part of the last plan."""
        guests = self.survey.plan.guests if self.survey else ()
        return next((guest for guest in guests if guest.vmid == vmid), None)

    def seen(self, vmid: Vmid) -> Observed | None:
        """One guest as the last pass saw it, if it looked closely."""
        return self.survey.world.guests.get(vmid) if self.survey else None

    def want(self, vmid: Vmid) -> Desired | None:
        """What the manifests say about it."""
        return next((want for want in self.desired.values() if want.vmid == vmid), None)

    async def status(self, journal: JournalReader) -> Status:
        """How everything stands."""
        in_flight = await journal.in_flight()
        leads = self.health.epoch > 0
        return Status(
            guests=tuple(await self._guests(journal)),
            in_flight=standing.unresolved_first(in_flight),
            leader=Leader(epoch=self.health.epoch, holder=self.holder, alive=True) if leads else await _other(journal),
            paused=tuple(sorted(await journal.paused())),
            mode=self.mode().value,
            problems=self.problems,
            doubts=await journal.doubts(),
            head=self.head if leads else await newest_record(journal),
            pending=await journal.requests(state=RequestState.PENDING),
        )

    async def _guests(self, journal: JournalReader) -> list[GuestStatus]:
        if self.survey is not None:
            return standing.seen(self.survey)
        names = {want.vmid: want.name for want in self.desired.values()}
        vmids = sorted({*names, *await journal.adopted()})
        return [standing.unknown(vmid, names.get(vmid, ""), "no pass has been made yet") for vmid in vmids]


async def _other(journal: JournalReader) -> Leader | None:
    """Who leads while this agent does not; with a journal on this machine, nobody."""
    return await standing.leader_of(journal, await journal.epochs()) if isinstance(journal, standing.Leased) else None
