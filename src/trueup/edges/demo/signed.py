"""The destroy that two people sign: prepared, signed and handed in with trueup's own commands, three times over."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from trueup.adapters.keyring_edit import write_key
from trueup.adapters.signing_keys import new_private
from trueup.adapters.sim_control import Mutation
from trueup.edges.demo.claims import Claim
from trueup.edges.demo.stage import Stage
from trueup.model.errors import TrueupError
from trueup.model.ops import OpState

VMID: Final = 108
MANIFEST: Final = "pxe.yaml"
PEOPLE: Final = ("alice", "bob")
POLICY: Final = "rules: [{kinds: [destroy], people: 2, roles: [operator]}]\n"
_FILE: Final = "retire-pxe-1.json"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What `trueup submit --json` answered."""

    request: str | None
    op: str | None
    state: str


class Deed(msgspec.Struct, kw_only=True):
    """What was asked for, and every answer to it."""

    deliveries: list[Delivery]

    @property
    def op(self) -> str:
        """The one operation that all deliveries were about; '' if they were not."""
        ops = {one.op for one in self.deliveries}
        return next(iter(ops)) or "" if len(ops) == 1 else ""


def people(folder: Path) -> None:
    """Keys for two people, and a policy that wants both. Raises BadInput."""
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    for person in PEOPLE:
        private, public = new_private()
        key = folder / f"{person}.key"
        key.touch(mode=0o600)
        key.write_bytes(private)
        write_key(folder / "keyring.yaml", person, public, ("operator",))


async def sign(stage: Stage) -> None:
    """Take the guest's manifest away, prepare the request, and let both sign it. Raises TrueupError."""
    (stage.folder / "manifests" / MANIFEST).unlink()
    await _done(stage, "request", "destroy", str(VMID), "--reason", "pxe-1 is no longer needed", "-o", _FILE)
    for person in PEOPLE:
        await _done(stage, "sign", _FILE, "--key", f"{person}.key")


async def deliver(stage: Stage, deed: Deed) -> Delivery:
    """Hand it in, once more. Raises TrueupError."""
    out = await _done(stage, "submit", _FILE, "--json")
    answer = msgspec.convert(json.loads(out), type=Delivery)
    deed.deliveries.append(answer)
    return answer


def claim(deed: Deed, mutations: Sequence[Mutation]) -> Claim:
    """Whether it was done exactly once, for three deliveries."""
    done = executed(mutations)
    states = [one.state for one in deed.deliveries]
    wanted = [OpState.ACCEPTED.value, OpState.STARTED.value, OpState.SUCCEEDED.value]
    return Claim(
        text=f"What two people signed was delivered {len(states)} times and done once",
        held=done == 1 and bool(deed.op) and states == wanted,
        detail=f"answered: {', '.join(states)}",
    )


def executed(mutations: Sequence[Mutation]) -> int:
    """How often the guest was destroyed."""
    end = f"/qemu/{VMID}"
    return sum(1 for row in mutations if row.method == "DELETE" and row.path.endswith(end) and row.effect)


async def _done(stage: Stage, *arguments: str) -> str:
    code, out = await stage.ask(*arguments)
    if code:
        raise TrueupError(what=f"`trueup {' '.join(arguments)}` ended with {code}")
    return out
