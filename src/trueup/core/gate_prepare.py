"""Preparing what people will sign: a request that is bound to the guest as it is now, a veto, a resolution.

A prepared request passes the gate's own form and params before it is handed out, so that nobody signs what would be
refused for its form.
"""

from collections.abc import Mapping

import msgspec

from trueup.core import gate_form, gate_params
from trueup.model import limits
from trueup.model.gate import Request, Target
from trueup.model.gate_answers import Resolution, ResolvedAs, Veto
from trueup.model.guests import Observed


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks for. `idempotency_key` '' = one of its own, so that nothing is taken for a repetition."""

    cluster: str
    kind: str
    params: Mapping[str, str] = {}
    reason: str = ""
    requested_by: str
    idempotency_key: str = ""


def prepare_request(
    wish: Wish, guest: Observed, *, now_ms: int, chance: bytes, longest_s: float = limits.RULE_LONGEST_S
) -> Request:
    """Make a request for this very guest, good for an hour, or for its rule's `longest` if that is shorter.

    Args:
        wish: what is asked for.
        guest: as it is now; its identity and digest are what the signers see.
        now_ms: our clock.
        chance: 16 bytes for the nonce (`adapters.system`).
        longest_s: the rule's.

    Raises:
        GateRefused: KIND or MALFORMED: nobody can ask for this.
    """
    kind = gate_params.requestable(wish.kind, guest.type)
    params = gate_params.check_params(kind, wish.params)
    nonce = gate_form.render_nonce(chance)
    now_ms -= now_ms % 1000  # instants are read by people
    end_ms = now_ms + int(min(limits.REQUEST_VALID_S, longest_s) * 1000)
    request = Request(
        cluster=wish.cluster,
        kind=kind.value,
        target=Target(type=guest.type, vmid=guest.vmid, identity=guest.identity, digest=guest.digest),
        params=params,
        reason=wish.reason,
        requested_by=wish.requested_by,
        nonce=nonce,
        idempotency_key=wish.idempotency_key or f"{kind.value}-{guest.vmid}-{nonce[:8].lower()}",
        not_before_ms=now_ms,
        approve_by_ms=end_ms,
        execute_by_ms=end_ms,
    )
    return gate_form.parse_request(gate_form.render_request(request))


class No(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's no to a request."""

    cluster: str
    request_id: str
    reason: str
    by: str


def prepare_veto(no: No, *, now_ms: int, chance: bytes) -> Veto:
    """Make a veto, good for an hour. Raises GateRefused (MALFORMED)."""
    now_ms -= now_ms % 1000
    veto = Veto(
        cluster=no.cluster,
        request_id=no.request_id,
        reason=no.reason,
        requested_by=no.by,
        nonce=gate_form.render_nonce(chance),
        not_before_ms=now_ms,
        execute_by_ms=now_ms + int(limits.REQUEST_VALID_S * 1000),
    )
    return gate_form.parse_veto(gate_form.render_veto(veto))


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """How somebody says that an operation ended."""

    cluster: str
    op_id: str
    resolved_as: ResolvedAs
    reason: str
    by: str


def prepare_resolution(word: Word, *, now_ms: int, chance: bytes) -> Resolution:
    """Make a resolution, good for an hour. Raises GateRefused (MALFORMED)."""
    now_ms -= now_ms % 1000
    resolution = Resolution(
        cluster=word.cluster,
        op_id=word.op_id,
        resolved_as=word.resolved_as,
        reason=word.reason,
        requested_by=word.by,
        nonce=gate_form.render_nonce(chance),
        not_before_ms=now_ms,
        execute_by_ms=now_ms + int(limits.REQUEST_VALID_S * 1000),
    )
    return gate_form.parse_resolution(gate_form.render_resolution(resolution))
