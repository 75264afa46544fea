"""The stage of the commands, with a keyring, a policy and guests: what people do at the gate, in few words."""

import base64
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cli.stage import Stage, guest, several
from tests.operator.living import Agent, living
from trueup.adapters.signing import sign
from trueup.adapters.signing_keys import load_signer
from trueup.core.gate_envelope import render_envelope
from trueup.core.gate_form import render_instant, render_nonce
from trueup.model.gate_answers import OPERATION_TYPE, Envelope

POLICY = """\
rules:
  - {kinds: [destroy], people: 2, roles: [operator], longest: 24h}
  - {kinds: [resolve], people: 1, roles: [owner]}
  - {kinds: ["*"], people: 1, roles: [operator], longest: 4h}
never_destroy: {vmids: [104]}
"""
STAYS = guest("stays-1", 103, "power: stopped")
GUESTS = several(
    guest("vm-1", 101, "power: stopped", "labels: {tier: web}"),
    guest("ct-1", 102, "source: {clone: 9001}", "power: stopped", kind="Container"),
    STAYS,
)
VM, CT = 101, 102


@dataclass
class House(Stage):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.ok("keys", "new", "alice", "-o", "alice.key", "--role", "operator")
        self.ok("keys", "new", "bob", "-o", "bob.key", "--role", "operator")
        self.ok("keys", "new", "carol", "-o", "carol.key", "--role", "owner")
        (self.folder / "policy.yaml").write_text(POLICY)
        self.manifest(GUESTS)
        self.ok("apply", "--yes")

    def ok(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stderr}{done.stdout}"
        return done.stdout

    def without(self, *vmids: int) -> None:
        """Take manifests away."""
        kept = [text for text in GUESTS.split("---\n") if not any(f"vmid: {vmid}\n" in text for vmid in vmids)]
        self.manifest("---\n".join(kept))

    def asked(self, kind: str = "destroy", vmid: int = VM, *more: str, name: str = "request.json") -> Path:
        self.ok("request", kind, str(vmid), "-o", name, "--reason", "ticket 4711", *more)
        return self.folder / name

    def signed(self, *people: str, kind: str = "destroy", vmid: int = VM, name: str = "request.json") -> Path:
        file = self.asked(kind, vmid, name=name)
        for person in people:
            self.ok("sign", name, "--key", f"{person}.key")
        return file

    def submit(self, name: str = "request.json", code: int = 0) -> dict:
        return self.json("submit", name, code=code)

    def state(self, op_id: str) -> str:
        return self.json("ops", "show", op_id)["state"]

    def document(self, kind: str = "destroy", vmid: int = VM, /, **more: object) -> dict:
        """A request as its JSON, asked for by alice; `more` replaces fields."""
        printed = self.ok("request", kind, str(vmid), "--as", "alice", "--reason", "ticket 4711")
        return json.loads(printed) | more

    def envelope(self, document: dict, *people: str, kind: str = OPERATION_TYPE, name: str = "request.json") -> Path:
        """Signed as a program would, without the commands' own checks."""
        made = Envelope(payload=json.dumps(document).encode(), payload_type=kind, signatures=())
        for person in people:
            made = sign(made, load_signer(str(self.folder / f"{person}.key"), lambda _: None))
        return self.file(render_envelope(made), name)

    def file(self, content: bytes, name: str = "request.json") -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    @contextmanager
    def agent(self) -> Iterator[Agent]:
        """`trueup agent` beside the commands, once it takes what is signed."""
        with living(Agent(self)) as started:
            started.until_said("pass_ended")
            yield started

    def deletes(self, vmid: int = VM) -> list[dict]:
        return [row for row in self.changes() if row["method"] == "DELETE" and row["path"].endswith(f"/{vmid}")]

    def there(self, vmid: int = VM) -> bool:
        return any(guest["vmid"] == vmid for guest in self.sim.ask("/_sim/state")["guests"])

    def events(self, kind: str) -> list[dict]:
        exported = [json.loads(line) for line in self.run("journal", "export").stdout.splitlines()]
        return [one["event"] for one in exported if one["event"]["type"] == kind]

    def changes(self) -> list[dict]:
        """What PVE was asked to change since the guests were made."""
        return self.sim.mutations()

    def vmids(self) -> set[int]:
        return {row["vmid"] for row in self.json("status", code=2)["guests"]}


_chance = random.Random(5)


def nonce() -> str:
    return render_nonce(_chance.randbytes(16))


def instant(seconds: float) -> str:
    """So many seconds from now."""
    return render_instant(int((time.time() + seconds) * 1000))


def opened(path: Path) -> dict:
    return json.loads(path.read_bytes())


def payload(envelope: dict) -> dict:
    return json.loads(base64.b64decode(envelope["payload"]))


def until(what: Callable[[], object], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)
