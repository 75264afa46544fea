"""Signed requests for the simulation: appended as the gate would, once its checks are passed.

What the gate does with signatures and policy is tested elsewhere; here everything that is asked for is approved. So the
steps are the gate's own: look at the guest, make the operation of the request, journal both in one append.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.simulation.cluster import SimCluster
from trueup.core import gate_params
from trueup.engine.observer import Observer
from trueup.model.gate import Request, Requested, Ruling, Target
from trueup.model.guests import Observed
from trueup.model.ids import Epoch, OpId, Vmid
from trueup.model.ops import Accepted, Draft, Kind, OpState, OpView
from trueup.ports import Journal, Pve

HOUR_MS = 3_600_000
TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What people sign for. `params` may depend on what is there; `grace_ms` is that of the rule which decided.

    They sign anew for what has failed, `tries` times in all.
    """

    kind: Kind
    vmid: int = 301
    params: Mapping[str, str] | Callable[[SimCluster], Mapping[str, str]] = field(default_factory=dict)
    grace_ms: int = 0
    valid_ms: int = HOUR_MS
    tries: int = TRIES


@dataclass
class Signers:
    """The people, who outlive every incarnation; `ids` are the operations that they signed for."""

    ids: list[OpId] = field(default_factory=list)

    async def last(self, journal: Journal) -> OpView | None:
        """The newest one, as it stands."""
        return await journal.op(self.ids[-1]) if self.ids else None

    async def sign(self, ask: Ask, *, cluster: SimCluster, pve: Pve, journal: Journal, epoch: Epoch) -> bool:
        """Sign, unless what was signed last is open or has succeeded, or enough was tried. Tell whether they did."""
        if await journal.op(op_id_of(len(self.ids))) is not None:
            self.ids.append(op_id_of(len(self.ids)))  # it was handed in, and whoever took it died before saying so
        before = await self.last(journal)
        if before is not None and (before.state is not OpState.FAILED or len(self.ids) >= ask.tries):
            return False
        row = (await Observer(pve).rows()).get(Vmid(ask.vmid))
        if row is None:
            return False
        seen = await Observer(pve).one(row)
        params = ask.params(cluster) if callable(ask.params) else ask.params
        now_ms = int(cluster.now * 1000)
        number = len(self.ids)
        await accept(journal, epoch, request_of(ask, seen, params, now_ms, number), seen, now_ms, grace_ms=ask.grace_ms)
        self.ids.append(op_id_of(number))
        return True


def op_id_of(number: int) -> OpId:
    """The id of the n-th request."""
    return OpId(f"01900000-0000-7000-8000-{number:012x}")


def request_of(ask: Ask, seen: Observed, params: Mapping[str, str], now_ms: int, number: int) -> Request:
    """A request for the guest as it is seen."""
    target = Target(type=seen.type, vmid=seen.vmid, identity=seen.identity, digest=seen.digest)
    return Request(
        cluster="sim",
        kind=ask.kind.value,
        target=target,
        params=params,
        reason="a test",
        requested_by="alice",
        nonce=f"nonce-{number}",
        idempotency_key=f"key-{number}",
        not_before_ms=now_ms,
        approve_by_ms=now_ms + ask.valid_ms,
        execute_by_ms=now_ms + ask.valid_ms,
    )


async def accept(
    journal: Journal, epoch: Epoch, request: Request, seen: Observed, now_ms: int, *, grace_ms: int = 0
) -> None:
    """Journal a request and its acceptance in one append."""
    number = request.nonce.removeprefix("nonce-")
    op_id = op_id_of(int(number))
    payload = json.dumps({"nonce": request.nonce}).encode()
    sha256 = hashlib.sha256(payload).hexdigest()
    op = gate_params.planned(request, seen)
    accepted = Accepted(
        intent=gate_params.accepted_intent(op, seen, "agent@pve!gate", {}),  # type: ignore[arg-type]
        execute_by_ms=request.execute_by_ms,
        nonce=request.nonce,
        idempotency_key=request.idempotency_key,
        payload=sha256,
        not_before_ms=now_ms + grace_ms if grace_ms else 0,
    )
    ruling = Ruling(rule=1, people=1, counted=("alice",))
    requested = Requested(request=request, payload="e30=", payload_sha256=sha256, ruling=ruling, via="command")
    drafts = [
        Draft(record_id=f"{op_id}-{place}", at_ms=now_ms, op_id=op_id, event=event)
        for place, event in enumerate((requested, accepted))
    ]
    await journal.append(epoch, drafts)
