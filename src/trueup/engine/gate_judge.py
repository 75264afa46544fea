"""What becomes of a request that arrived, told from the journal at one moment. Nothing is awaited and nothing written.

The checks and their order are those of `core.gate_checks`; what is put together here is what they ask for.
"""

import base64
from collections.abc import Callable, Sequence

import msgspec

from trueup.core import gate_checks, gate_params, gate_rules
from trueup.core.gate_checks import Allowed, Ask
from trueup.core.gate_rules import Facts, Files
from trueup.engine.deck import Deck
from trueup.engine.gate_ports import Verifier
from trueup.model import limits
from trueup.model.gate import Approval, Approved, Lapsed, Refusal, Request, Requested, RequestState, RequestView
from trueup.model.gate_answers import OPERATION_TYPE, Answer, Envelope, GateRefused, Outcome, Sighting, Signature
from trueup.model.gate_moment import Lookup, Moment
from trueup.model.guests import Observed
from trueup.model.ids import Epoch, OpId
from trueup.model.ops import Accepted, Event, OpState, OpView

_ENDS = frozenset({Refusal.TARGET_GONE, Refusal.IDENTITY, Refusal.DIGEST})
"""What a pending request cannot get over: its signers saw another guest."""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A statement whose signatures were checked: by whom, under which files, at which instant."""

    envelope: Envelope
    files: Files
    valid: tuple[Approval, ...]
    sha256: str
    newest_ms: int
    via: str


class Arrived(msgspec.Struct, kw_only=True, eq=False):
    """A signed request, as far as it could be checked without the others; `outcome` is None until it is settled.

    `now_ms` is the instant that it is judged by. `known` is the request's id once its nonce was found in the journal.
    """

    signed: Signed
    request: Request
    sighting: Sighting
    now_ms: int
    known: str = ""
    tried: bool = False
    outcome: Answer | Exception | None = None

    def is_settled(self) -> bool:
        """See `engine.gate_together.Matter`."""
        return self.outcome is not None


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One append; the sender hears `then` once it is durable. `accepts` is the operation that it lets in."""

    request_id: OpId
    events: tuple[Event, ...]
    then: Answer | GateRefused
    accepts: OpView | None = None


class Admitted(msgspec.Struct, kw_only=True):
    """What the requests judged so far of a batch will have added to the journal; `count` is of all known requests."""

    count: int
    waiting: list[OpView]


class Judge:
    """Judges requests of one agent incarnation."""

    def __init__(self, deck: Deck, *, verifier: Verifier, has_token: Callable[[], bool]) -> None:
        """`has_token` tells whether this agent works with an incarnation token of its own."""
        self._deck = deck
        self._verifier = verifier
        self._has_token = has_token

    def judge(self, arrived: Arrived, moment: Moment, admitted: Admitted) -> Answer | Write:
        """Judge one; `admitted` are those before it.

        Raises:
            GateRefused: it is not let in, and nothing is to be written of it but that.
        """
        known = moment.of_nonce.get(arrived.request.nonce)
        if known is not None:
            arrived.known = known.request_id
            gate_checks.same_payload(known, arrived.signed.sha256)
            return self._again(known, moment.ops.get(known.request_id), arrived, moment)
        return self._new(arrived, moment, admitted)

    def verify_again(self, view: RequestView, files: Files) -> tuple[Approval, ...]:
        """The approvals of the journal that today's keyring still vouches for, over the payload of the journal."""
        envelope = Envelope(
            payload=base64.b64decode(view.payload),
            payload_type=OPERATION_TYPE,
            signatures=tuple(
                Signature(key_id=one.key_id, form=one.form, raw=base64.b64decode(one.signature))
                for one in view.approvals
            ),
        )
        return self._verifier.verify(envelope, files.keyring).valid

    def ask(
        self, files: Files, request: Request, seen: Observed | None, now_ms: int, moment: Moment, *more: OpView
    ) -> Ask:
        """What the policy is asked with; `more` are one-shots that wait beside those of the journal's moment."""
        return Ask(
            files=files,
            facts=facts_of(request, seen, moment),
            now_ms=now_ms,
            has_token=self._has_token(),
            started=moment.started,
            waiting=(*moment.accepted, *more),
        )

    def _new(self, arrived: Arrived, moment: Moment, admitted: Admitted) -> Answer | Write:
        request, sighting, signed = arrived.request, arrived.sighting, arrived.signed
        if admitted.count >= limits.NONCES_MAX:
            text = f"the journal remembers {limits.NONCES_MAX} requests, and forgets none to make room"
            raise GateRefused(Refusal.NONCES_FULL, text, "`trueup journal prune` forgets those that are over for long")
        with_key = moment.of_key.get(request.idempotency_key, ())
        held = gate_checks.check_key(request, [(view, moment.ops.get(view.request_id)) for view in with_key])
        if held is not None:
            return held
        gate_checks.check_there(request, sighting)
        ask = self.ask(signed.files, request, sighting.guest, arrived.now_ms, moment, *admitted.waiting)
        allowed = gate_checks.check_policy(request, signed.valid, ask)
        gate_checks.check_target(request, sighting)
        _check_lane(request, moment)
        return self._admit(arrived, allowed, moment)

    def _admit(self, arrived: Arrived, allowed: Allowed, moment: Moment) -> Write:
        request, signed, ruling = arrived.request, arrived.signed, allowed.ruling
        now_ms = self._deck.clock.now_ms()
        request_id = OpId(self._deck.entropy.uuid7(now_ms))
        events: list[Event] = [
            Requested(
                request=request,
                payload=base64.b64encode(signed.envelope.payload).decode(),
                payload_sha256=signed.sha256,
                ruling=ruling,
                via=signed.via,
            ),
            *(Approved(approval=at(one, now_ms), ruling=ruling) for one in signed.valid),
        ]
        if ruling.missing:
            return Write(request_id=request_id, events=tuple(events), then=_pending(request_id, ruling.missing))
        accepted = self._accepted(request, signed.sha256, allowed, arrived.sighting, moment)
        return _let_in(request_id, (*events, accepted), accepted)

    def _again(self, view: RequestView, op: OpView | None, arrived: Arrived, moment: Moment) -> Answer | Write:
        """The same request once more: perhaps with more signatures, else a question about its state."""
        signed, sighting, now_ms = arrived.signed, arrived.sighting, arrived.now_ms
        if view.state is not RequestState.PENDING:
            return gate_checks.answer_for(view, op)
        have = {one.key_id for one in view.approvals}
        new = [at(one, now_ms) for one in signed.valid if one.key_id not in have]
        request = view.request
        if now_ms >= request.approve_by_ms:
            return _too_late(view, now_ms, more=bool(new))
        before = self.verify_again(view, signed.files)
        valid = gate_rules.valid_at(signed.files.keyring, [*before, *new], now_ms)
        gate_checks.check_requester(signed.files.keyring, request.requested_by, valid)
        events: list[Event] = [Approved(approval=one) for one in new]
        try:
            gate_checks.check_there(request, sighting)
            ask = self.ask(signed.files, request, sighting.guest, now_ms, moment)
            allowed = gate_checks.check_policy(request, valid, ask, budget=False)
            ruling = allowed.ruling
            events = [Approved(approval=one, ruling=ruling) for one in new]
            if ruling.missing:
                if not new:
                    return gate_checks.answer_for(msgspec.structs.replace(view, ruling=ruling), None)
                then = _pending(view.request_id, ruling.missing)
                return Write(request_id=view.request_id, events=tuple(events), then=then)
            gate_checks.check_target(request, sighting)
        except GateRefused as no:
            if no.refusal not in _ENDS:
                raise
            end = Lapsed(state=RequestState.REFUSED, why=no.refusal, text=no.what)
            return Write(request_id=view.request_id, events=(*events, end), then=no)
        accepted = self._accepted(request, view.payload_sha256, allowed, sighting, moment)
        return _let_in(view.request_id, (*events, accepted), accepted)

    def _accepted(
        self, request: Request, sha256: str, allowed: Allowed, sighting: Sighting, moment: Moment
    ) -> Accepted:
        guest = sighting.guest
        if guest is None:  # narrows the type; `check_target` has refused it
            raise GateRefused(Refusal.UNREADABLE, "the guest could not be read")
        op = gate_params.planned(request, guest)
        labels = moment.labels.get(guest.vmid, {})
        return Accepted(
            intent=gate_params.accepted_intent(op, guest, self._deck.pve.token, labels),
            execute_by_ms=request.execute_by_ms,
            nonce=request.nonce,
            idempotency_key=request.idempotency_key,
            payload=sha256,
            not_before_ms=allowed.run_from_ms,
        )


def lookup_for(arrived: Sequence[Arrived], *, counted: bool) -> Lookup:
    """What has to be known to judge these together."""
    budgets = [one for one in arrived if one.signed.files.policy.budgets]
    return Lookup(
        nonces=frozenset([one.request.nonce for one in arrived]),
        keys=frozenset([one.request.idempotency_key for one in arrived]),
        guests=frozenset([one.request.target.vmid for one in arrived]),
        started_since_ms=min((budgets_since(one.signed.files, one.now_ms) for one in budgets), default=None),
        accepted=bool(budgets),
        counted=counted,
    )


def budgets_since(files: Files, now_ms: int) -> int:
    """The instant from which on budgets count."""
    return now_ms - int(gate_rules.longest_budget_s(files.policy) * 1000)


def facts_of(request: Request, seen: Observed | None, moment: Moment) -> Facts:
    """What selectors ask about a request's guest."""
    vmid = request.target.vmid
    return Facts(vmid=vmid, labels=moment.labels.get(vmid, {}), seen=seen)


def at(approval: Approval, at_ms: int) -> Approval:
    """An approval with the instant at which it came."""
    return msgspec.structs.replace(approval, at_ms=at_ms)


def _check_lane(request: Request, moment: Moment) -> None:
    """A guest with an unresolved operation is left alone until somebody has looked at it."""
    vmid = request.target.vmid
    if vmid in moment.unresolved:
        op_id = moment.unresolved[vmid]
        text = f"operation {op_id} on guest {vmid} is unresolved"
        raise GateRefused(Refusal.BLOCKED, text, f"see `trueup ops show {op_id}`")


def _too_late(view: RequestView, now_ms: int, *, more: bool) -> Write:
    """The collecting is over: the request ends, and whoever brought more signatures hears that they came too late."""
    end = Lapsed(state=RequestState.EXPIRED, why=Refusal.EXPIRED, text="its approve_by is over")
    ended = msgspec.structs.replace(view, state=RequestState.EXPIRED, lapsed=end)
    then: Answer | GateRefused = gate_checks.answer_for(ended, None)
    if more:
        try:
            gate_checks.check_collecting(view.request.approve_by_ms, now_ms)
        except GateRefused as no:
            then = no
    return Write(request_id=view.request_id, events=(end,), then=then)


def _pending(request_id: OpId, missing: str) -> Answer:
    text = "it waits for signatures"
    return Answer(outcome=Outcome.PENDING, state="pending", request=request_id, missing=missing, reason=text)


def _let_in(request_id: OpId, events: Sequence[Event], accepted: Accepted) -> Write:
    then = Answer(outcome=Outcome.ACCEPTED, state="accepted", request=request_id, op=request_id)
    view = OpView(op_id=request_id, state=OpState.ACCEPTED, intent=accepted.intent, started_at_ms=0, epoch=Epoch(0))
    return Write(request_id=request_id, events=tuple(events), then=then, accepts=view)
