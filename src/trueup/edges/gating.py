"""The gate of an agent that runs: made of the settings, kept alive beside the loop, and open to all ways in.

Rule kept here: HTTP, spool, socket and standard input reach one and the same `Gate`; none of them decides anything.
"""

from collections.abc import Callable
from typing import Final

from trueup.adapters.gate_files import GateFiles
from trueup.edges.spool import Spool
from trueup.engine.deck import Deck
from trueup.engine.gate import Gate
from trueup.engine.gate_ports import Verifier
from trueup.model import limits
from trueup.model.gate_answers import Answer, Checked, Envelope, GateRefused, Outcome
from trueup.model.keyring import Keyring, RelyingParty
from trueup.model.settings import Settings

LAPSE_S: Final = 5.0
"""Between two looks at requests whose time may be over."""

Say = Callable[[str], None]


class _Verifier:
    """`DsseVerifier`, loaded with the first envelope: what signs and verifies is a third of the start of a command."""

    def __init__(self, party: RelyingParty) -> None:
        self._party = party
        self._verifier: Verifier | None = None

    def verify(self, envelope: Envelope, keyring: Keyring) -> Checked:
        """See `trueup.engine.gate_ports.Verifier`."""
        if self._verifier is None:
            from trueup.adapters.signing import DsseVerifier

            self._verifier = DsseVerifier(self._party)
        return self._verifier.verify(envelope, keyring)


def open_gate(deck: Deck, settings: Settings, *, own_token: bool) -> tuple[Gate, GateFiles]:
    """The gate of this incarnation, and the files by which it judges. Nothing is read yet."""
    files = GateFiles(settings.gate.keyring, settings.gate.policy)
    gate = Gate(
        deck,
        cluster=settings.cluster.name,
        files=files,
        verifier=_Verifier(settings.http.relying_party),
        has_token=lambda: own_token,
    )
    return gate, files


class Gatekeeper:
    """The gate of an agent or an `apply`, with its spool; wakes the loop when something was let in."""

    def __init__(self, deck: Deck, settings: Settings, *, own_token: bool, warn: Say) -> None:
        """Open the gate. `warn` is told what is wrong with the gate's files, and with files in the spool."""
        self.gate, self._files = open_gate(deck, settings, own_token=own_token)
        self._clock = deck.clock
        self._warn = warn
        self._said: tuple[str, ...] = ()
        self._lapse_at = float("-inf")
        self.spool = Spool(settings.gate.spool, self, deck.clock, warn)
        self.wake: Callable[[], None] | None = None
        """Called when there may be work for the loop."""

    def closed(self) -> str:
        """Why the gate is closed; '' = it is open."""
        return "" if self._files.current() is not None else self._files.closed()

    async def submit(self, content: bytes, via: str) -> Answer:
        """See `trueup.engine.gate.Gate.submit`."""
        return self._heard(await self.gate.submit(content, via))

    async def approve(self, request_id: str, content: bytes, via: str) -> Answer:
        """See `trueup.engine.gate.Gate.approve`."""
        return self._heard(await self.gate.approve(request_id, content, via))

    async def look(self, *, settled: bool = False) -> None:
        """One look: files, requests whose time is over, the spool (`settled`: see there).

        Raises:
            Stale, JournalFailed: the journal refused a record.
        """
        self._tell_problems()
        now = self._clock.monotonic()
        if now >= self._lapse_at:
            self._lapse_at = now + LAPSE_S
            try:
                await self.gate.lapse()
            except GateRefused as lost:  # another statement was faster; the next look sees what became of it
                self._warn(f"a request that is over was not ended: {lost}")
        await self.spool.look(settled=settled)

    async def keep(self) -> None:
        """Look again and again, for ever. Raises Stale or JournalFailed."""
        while True:
            await self.look()
            await self._clock.sleep(limits.SPOOL_LOOK_S)

    def _heard(self, answer: Answer) -> Answer:
        if answer.outcome in {Outcome.ACCEPTED, Outcome.PENDING} and self.wake is not None:
            self.wake()  # a pending one changes the plan too: its guest is left alone
        return answer

    def _tell_problems(self) -> None:
        """Say what is wrong with keyring and policy whenever that changes."""
        self._files.current()
        problems = self._files.problems()
        if problems == self._said:
            return
        for problem in problems:
            if problem not in self._said:
                self._warn(problem)
        if self._said and not problems:
            self._warn("keyring and policy are in order again")
        self._said = problems
