"""What the gate needs from outside besides the ports of `trueup.ports`: who may sign, and who has signed."""

from typing import Protocol

from trueup.core.gate_rules import Files
from trueup.model.gate_answers import Checked, Envelope
from trueup.model.keyring import Keyring


class Verifier(Protocol):
    """Checks signatures. Pure computing; a few milliseconds for each signature at the most."""

    def verify(self, envelope: Envelope, keyring: Keyring) -> Checked:
        """Tell which keys of the keyring signed exactly this payload, and what is wrong with the other signatures.

        It never raises for what an envelope holds.
        """
        ...


class GateFiles(Protocol):
    """Keyring and policy as they hold now. Changes are noticed; a broken file keeps the last good one, loudly."""

    def current(self) -> Files | None:
        """What holds now; None: the gate is closed."""
        ...

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the files, one line each."""
        ...

    def closed(self) -> str:
        """Why the gate is closed; '' = it is open."""
        ...
