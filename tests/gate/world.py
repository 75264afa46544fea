"""A gate with real signatures and a real journal, in front of a world of two guests that stands still."""

import asyncio
import base64
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner  # pyright: ignore[reportPrivateImportUsage]

from trueup.adapters.gate_files import GateFiles
from trueup.adapters.signing import DsseVerifier, sign
from trueup.adapters.signing_keys import public_line, public_of
from trueup.adapters.sqlite import open_journal
from trueup.core import gate_form, sighting
from trueup.core import marker as markers
from trueup.core.gate_envelope import render_envelope
from trueup.engine.deck import Deck
from trueup.engine.gate import Gate
from trueup.model.errors import Absent, ReadFailed
from trueup.model.gate import RequestView
from trueup.model.gate_answers import OPERATION_TYPE, RESOLUTION_TYPE, VETO_TYPE, Envelope
from trueup.model.guests import Marker, Observed, Power, ResourceRow
from trueup.model.ids import GuestType, NodeName, OpId, TokenId, Upid, Vmid
from trueup.model.keyring import RelyingParty
from trueup.model.ops import Adopted, OpView
from trueup.model.pve import ClusterState, ConfigRead, NodeState, TaskList, TaskRow
from trueup.model.settings import LimitSettings

NOW_MS = 1_800_000_000_000  # a Friday, 2027-01-15T08:00:00Z
HOUR_MS = 3_600_000
NODE = NodeName("pve1")
TOKEN = TokenId("trueup@pve!agent")
DIGEST = "a" * 40
VM, CT, KEPT = Vmid(101), Vmid(201), Vmid(9000)

_SEEDS = {"alice": 1, "bob": 2, "carol": 3, "mallory": 4, "alice2": 5, "dave": 6}
KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for name, seed in _SEEDS.items()}

POLICY = """\
rules:
  - {kinds: [destroy, restore], guests: {labels: {tier: web}}, people: 2, roles: [operator], longest: 24h}
  - {kinds: [stop], people: 1, roles: [operator], longest: 4h, windows: ["Sat 02:00-04:00 UTC"]}
  - {kinds: [start], people: 1, roles: [operator], needs_token: true}
  - {kinds: [resolve], people: 1, roles: [owner]}
  - {kinds: [rollback], people: 2, roles: [operator], requester_may_approve: false, longest: 4h}
  - {kinds: [unlock], guests: {vmids: [200-299]}, people: 1, roles: [operator]}
  - {kinds: [snapshot-delete], people: 1, roles: [operator], longest: 24h, grace: 1h}
  - {kinds: [destroy, shutdown, template], people: 1, roles: [operator], longest: 4h}
budgets:
  - {kinds: [template], most: 1, per: 1h}
never_destroy: {vmids: [9000], tags: [keep]}
"""


def ssh_line(name: str) -> str:
    return f"{public_line(public_of(KEYS[name].public_key()))} {name}@laptop"


def key_id(name: str) -> str:
    return public_of(KEYS[name].public_key()).key_id


def keyring_text(**revoked: str) -> str:
    """Alice (two keys), bob and carol are operators; carol an owner too; dave has no role."""
    lines = ["people:"]
    for name, roles, keys in (
        ("alice", "operator", ("alice", "alice2")),
        ("bob", "operator", ("bob",)),
        ("carol", "operator, owner", ("carol",)),
        ("dave", "", ("dave",)),
    ):
        gone = ", ".join(f'"{key_id(key)}": {revoked[key]}' for key in keys if key in revoked)
        listed = ", ".join(f'"{ssh_line(key)}"' for key in keys)
        lines.append(f"  {name}: {{roles: [{roles}], keys: [{listed}]{', revoked: {' + gone + '}' if gone else ''}}}")
    return "\n".join(lines) + "\n"


class Clock:
    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class Entropy:
    def __init__(self) -> None:
        self._random = random.Random(7)

    def uuid7(self, at_ms: int) -> str:
        head, tail = f"{at_ms:012x}", f"{self._random.getrandbits(76):019x}"
        return f"{head[:8]}-{head[8:]}-7{tail[:3]}-{tail[3:7]}-{tail[7:]}"

    def jitter(self) -> float:
        return 0.5


class Quiet:
    def note(self, note) -> None:
        pass


def marker(vmid: int) -> Marker:
    return Marker(uid=f"uid-{vmid}", installation="inst", vmid=Vmid(vmid), op_id=OpId("op-0"), counter=1)


class World:
    """PVE as the gate sees it: reads only. Tests change its fields."""

    def __init__(self) -> None:
        self.token = TOKEN
        self.lists_all = True
        self.sees_tasks = True
        self.broken = False
        self.tasks_of: list[TaskRow] = []
        uid = markers.render("", marker(CT))
        self.configs: dict[Vmid, dict[str, str]] = {
            VM: {
                "name": "web-1",
                "smbios1": "uuid=11111111-2222-3333-4444-555555555555",
                "meta": "creation-qemu=9.0,ctime=1767225600",
                "vmgenid": "99999999-2222-3333-4444-555555555555",
            },
            CT: {
                "hostname": "ct-1",
                "description": uid,
                "rootfs": "local:201/vm-201-disk-0.raw,size=4G",
                "net0": "name=eth0,hwaddr=AA:BB:CC:00:00:01",
            },
            KEPT: {"name": "golden", "smbios1": "uuid=77777777-2222-3333-4444-555555555555"},
        }
        self.digests = dict.fromkeys(self.configs, DIGEST)

    async def resources(self) -> tuple[ResourceRow, ...]:
        self._read()
        return tuple(ResourceRow(type=_type(vmid), vmid=vmid, node=NODE, status=Power.STOPPED) for vmid in self.configs)

    async def sees_all_guests(self) -> bool:
        return self.lists_all

    async def config(self, node, guest, vmid) -> ConfigRead:
        self._read()
        if vmid not in self.configs:
            raise Absent(what="no such guest")
        return ConfigRead(config=dict(self.configs[vmid]), digest=self.digests[vmid])

    async def running(self, node, guest, vmid) -> bool:
        return False

    async def snapshots(self, node, guest, vmid):
        return ()

    async def cluster(self, **_) -> ClusterState:
        return ClusterState(quorate=True, nodes=(NodeState(name=NODE, online=True),))

    async def tasks(self, node) -> TaskList:
        return TaskList(node=NODE, rows=tuple(self.tasks_of), sees_all=self.sees_tasks, index_bytes=100)

    def observed(self, vmid: Vmid = VM) -> Observed:
        row = ResourceRow(type=_type(vmid), vmid=vmid, node=NODE, status=Power.STOPPED)
        return sighting.observed(row, ConfigRead(config=dict(self.configs[vmid]), digest=self.digests[vmid]))

    def task(self, kind: str, vmid: int, at_ms: int) -> None:
        upid = Upid.parse(f"UPID:pve1:00001000:00001000:{at_ms // 1000:08X}:{kind}:{vmid}:root@pam:")
        self.tasks_of.append(TaskRow(upid=upid, status="OK", endtime=at_ms // 1000 + 1))

    def _read(self) -> None:
        if self.broken:
            raise ReadFailed(what="PVE does not answer")


def _type(vmid: Vmid) -> GuestType:
    return GuestType.LXC if vmid == CT else GuestType.QEMU


_nonces = random.Random(11)


def request(kind: str = "destroy", vmid: int = VM, **more: object) -> dict[str, object]:
    """A request as its JSON; `more` replaces fields. Guest 101 has the label tier=web."""
    identity: dict[str, object] = {
        VM: {"smbios1_uuid": "11111111-2222-3333-4444-555555555555", "ctime": 1767225600},
        CT: {"marker": "uid-201", "rootfs": "local:201/vm-201-disk-0.raw", "macs": ["AA:BB:CC:00:00:01"]},
        KEPT: {"smbios1_uuid": "77777777-2222-3333-4444-555555555555"},
    }[Vmid(vmid)]
    nonce = base64.b32encode(_nonces.randbytes(16)).decode().rstrip("=")
    found: dict[str, object] = {
        "cluster": "lab",
        "kind": kind,
        "target": {"type": _type(Vmid(vmid)).value, "vmid": vmid, "identity": identity, "digest": DIGEST},
        "params": {},
        "reason": "customer left, ticket 4711",
        "requested_by": "alice",
        "nonce": nonce,
        "idempotency_key": f"key-{nonce}",
        "not_before": instant(0),
        "approve_by": instant(1),
        "execute_by": instant(2),
    }
    return found | more


def instant(hours: float) -> str:
    return gate_form.render_instant(NOW_MS + int(hours * HOUR_MS))


def payload_of(document: Mapping[str, object]) -> bytes:
    return json.dumps(document).encode()


def envelope_of(payload: bytes, *signers: str, kind: str = OPERATION_TYPE) -> Envelope:
    envelope = Envelope(payload=payload, payload_type=kind, signatures=())
    for name in signers:
        envelope = sign(envelope, CryptoSigner(KEYS[name]))
    return envelope


def signed(document: Mapping[str, object], *signers: str, kind: str = OPERATION_TYPE) -> bytes:
    return render_envelope(envelope_of(payload_of(document), *signers, kind=kind))


def veto(request_id: str, who: str = "bob", **more: object) -> bytes:
    document = {
        "cluster": "lab",
        "request_id": request_id,
        "reason": "not today",
        "requested_by": who,
        "nonce": base64.b32encode(_nonces.randbytes(16)).decode().rstrip("="),
        "not_before": instant(0),
        "execute_by": instant(1),
    }
    return signed(document | more, who, kind=VETO_TYPE)


def resolution(op_id: str, who: str = "carol", **more: object) -> bytes:
    document = {
        "cluster": "lab",
        "op_id": op_id,
        "as": "succeeded",
        "reason": "looked at it: the disk is gone",
        "requested_by": who,
        "nonce": base64.b32encode(_nonces.randbytes(16)).decode().rstrip("="),
        "not_before": instant(0),
        "execute_by": instant(1),
    }
    return signed(document | more, who, kind=RESOLUTION_TYPE)


class Scene:
    """All that a test needs: the gate, and the world, files, clock and journal behind it."""

    def __init__(self, folder: Path, *, inline: bool) -> None:
        self.folder = folder
        self.world = World()
        self.clock = Clock()
        self.has_token = False
        self.party = RelyingParty()
        (folder / "keyring.yaml").write_text(keyring_text())
        (folder / "policy.yaml").write_text(POLICY)
        self.files = GateFiles(folder / "keyring.yaml", folder / "policy.yaml")
        self.journal = open_journal(folder / "journal.db", inline=inline)

    async def open(self) -> "Scene":
        epoch = await self.journal.take_epoch(holder="test", token=TOKEN, record_id="epoch-1", at_ms=NOW_MS - HOUR_MS)
        self.deck = Deck(
            journal=self.journal,
            pve=self.world,  # pyright: ignore[reportArgumentType]
            clock=self.clock,
            entropy=Entropy(),
            reporter=Quiet(),
            epoch=epoch,
            installation="inst",
            limits=LimitSettings(),
        )
        await self.deck.record("", Adopted(vmid=VM, uid="uid-101", labels={"tier": "web"}))
        self.gate = self.new_gate()
        return self

    def new_gate(self) -> Gate:
        return Gate(
            self.deck,
            cluster="lab",
            files=self.files,
            verifier=DsseVerifier(self.party),
            has_token=lambda: self.has_token,
        )

    async def op(self, op_id: str) -> OpView:
        view = await self.journal.op(OpId(op_id))
        assert view is not None
        return view

    async def request(self, request_id: str) -> RequestView:
        view = await self.journal.request(OpId(request_id))
        assert view is not None
        return view

    async def events(self, kind: type) -> list:
        return [record.event for record in await self.journal.records() if isinstance(record.event, kind)]


def play(
    folder: Path, story: Callable[[Any], Awaitable[None]], *, inline: bool = True, scene: type[Scene] = Scene
) -> None:
    """Run one story against a fresh gate. With a journal that is not inline, calls at once really overlap."""
    kind = scene

    async def run() -> None:
        scene = await kind(folder, inline=inline).open()
        try:
            await story(scene)
        finally:
            await scene.journal.close()

    asyncio.run(run())


def openssh(name: str) -> bytes:
    return KEYS[name].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
