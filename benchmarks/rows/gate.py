"""Signed requests a second that come to their record: one signature each, 64 at once, each for a guest of its own.

PVE stands still in memory here (reading a guest over HTTPS is `passes`' figure); keyring, policy, signatures and the
journal on disk are the real ones. Against it: bare verification of the same signatures, one after the other.
"""

import asyncio
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks import stage
from benchmarks.measure import Figure, Goal, Sample, Size, Stopwatch, compared, in_turn
from tests.gate import world
from trueup.model.gate_answers import OPERATION_TYPE, Outcome
from trueup.model.guests import Power, ResourceRow
from trueup.model.ids import GuestType, Vmid

AT_ONCE = 64
GOAL = Goal(bound=0.5, least=True)
POLICY = "rules:\n  - {kinds: [destroy], people: 1, roles: [operator], longest: 24h}\n"


class Still(world.World):
    """Many guests that never change."""

    def __init__(self, guests: int) -> None:
        super().__init__()
        config = self.configs[world.VM]
        self.configs = {Vmid(1000 + n): config for n in range(guests)}
        self.digests = dict.fromkeys(self.configs, world.DIGEST)
        self._rows = tuple(
            ResourceRow(type=GuestType.QEMU, vmid=vmid, node=world.NODE, status=Power.STOPPED) for vmid in self.configs
        )

    async def resources(self) -> tuple[ResourceRow, ...]:
        """All of them."""
        return self._rows


async def measure(size: Size) -> list[Figure]:
    """Accepted requests a second, and bare verifications a second."""
    count = size.of(4, 256, 512)
    identity = world.request()["target"]["identity"]  # type: ignore[index]
    envelopes: list[bytes] = []
    for number in range(count):
        target = {"type": "qemu", "vmid": 1000 + number, "identity": identity, "digest": world.DIGEST}
        envelopes.append(world.signed(world.request("destroy", target=target), "alice"))
    with stage.scratch() as folder:

        async def ours() -> float:
            return await _gate(folder, envelopes)

        async def bare() -> float:
            return _verified(envelopes)

        await ours()
        passed, verified = await in_turn(size.of(1, 3, 9), ours, bare)
    return [
        compared(
            "gate/requests",
            f"signed requests accepted a second, {min(AT_ONCE, count)} at once, journal included",
            Sample(name="trueup", values=passed, unit="/s"),
            Sample(name="bare Ed25519 verification", values=verified, unit="/s"),
            GOAL,
        )
    ]


_places = iter(range(1_000_000))


async def _gate(folder: Path, envelopes: list[bytes]) -> float:
    place = folder / f"gate-{next(_places)}"
    place.mkdir()
    scene = world.Scene(place, inline=False)
    scene.world = Still(len(envelopes))
    (place / "policy.yaml").write_text(POLICY)
    await scene.open()
    todo = iter(envelopes)
    outcomes: list[Any] = []

    async def work() -> None:
        for envelope in todo:
            outcomes.append((await scene.gate.submit(envelope, "bench")).outcome)  # noqa: PERF401 - one after the other

    with Stopwatch() as watch:
        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    accepted = len(await scene.journal.accepted())
    await scene.journal.close()
    if accepted != len(envelopes):
        raise RuntimeError(f"{accepted} of {len(envelopes)} accepted: {set(outcomes) or Outcome.ACCEPTED}")
    return len(envelopes) / watch.wall_s


def _verified(envelopes: list[bytes]) -> float:
    """What has to be done at the least: the signature over the very bytes."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
    public = key.public_key()
    bodies = [OPERATION_TYPE.encode() + envelope for envelope in envelopes]
    signatures = [key.sign(body) for body in bodies]
    with Stopwatch() as watch:
        for body, signature in zip(bodies, signatures, strict=True):
            public.verify(signature, body)
    return len(envelopes) / watch.wall_s
