"""The gate: everything that people sign comes in here, whichever way it came, and nothing else lets a one-shot in.

A thin loop: read what the next check needs, ask `core.gate_checks`, append. A request is let in by one append (its
nonce, its key, its signatures and its acceptance together), and all appends happen under one lock, so that two
deliveries of one request cannot both be new. The journal checks nonce and key once more.
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Sequence

import msgspec

from trueup.core import gate_checks, gate_form, gate_params, gate_rules, requests
from trueup.core.gate_checks import Allowed, Ask
from trueup.core.gate_envelope import parse_envelope
from trueup.core.gate_rules import Facts, Files
from trueup.core.one_shots import NotYet, Objection
from trueup.engine import gate_target
from trueup.engine.deck import Deck
from trueup.engine.gate_denials import Denials
from trueup.engine.gate_ports import GateFiles, Verifier
from trueup.model import limits
from trueup.model.errors import IllegalTransition
from trueup.model.gate import (
    Approval,
    Approved,
    Denied,
    Lapsed,
    Refusal,
    Request,
    Requested,
    RequestState,
    RequestView,
    Vetoed,
)
from trueup.model.gate_answers import (
    OPERATION_TYPE,
    RESOLUTION_TYPE,
    VETO_TYPE,
    Answer,
    Checked,
    Envelope,
    GateRefused,
    Go,
    Hold,
    Outcome,
    ResolvedAs,
    RunVerdict,
    Sighting,
    Signature,
)
from trueup.model.guests import Observed
from trueup.model.ids import OpId
from trueup.model.ops import Accepted, Event, Failed, OpState, OpView, Reason, Succeeded

_IN_FLIGHT = frozenset({OpState.STARTED, OpState.TASK_RUNNING})
_REASONS = {
    Refusal.EXPIRED: Reason.EXPIRED,
    Refusal.IDENTITY: Reason.NOT_AS_SIGNED,
    Refusal.DIGEST: Reason.NOT_AS_SIGNED,
    Refusal.TARGET_GONE: Reason.NOT_AS_SIGNED,
}

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


class Gate:
    """The gate of one agent incarnation. `cluster` is the audience; `has_token` tells of incarnation tokens."""

    def __init__(
        self, deck: Deck, *, cluster: str, files: GateFiles, verifier: Verifier, has_token: Callable[[], bool]
    ) -> None:
        """Open it; nothing is read before the first statement arrives."""
        self._deck = deck
        self._cluster = cluster
        self._files = files
        self._verifier = verifier
        self._has_token = has_token
        self._lock = asyncio.Lock()
        self._remembered: int | None = None  # requests whose nonces the journal knows, counted once
        self._granted: dict[OpId, int] = {}  # let go, perhaps not started yet: budgets count them too
        self.denials = Denials(deck)

    async def submit(self, content: bytes, via: str) -> Answer:
        """Take a signed statement: a request, a veto or a resolution; `via` is how it came.

        Raises:
            Stale, JournalFailed: the journal refused the record; nothing was let in.
        """
        trace: dict[str, str] = {}
        try:
            envelope = parse_envelope(content)
            trace["sha256"] = hashlib.sha256(envelope.payload).hexdigest()
            if envelope.payload_type == VETO_TYPE:
                return await self._veto(await self._signed(envelope, via), trace)
            if envelope.payload_type == RESOLUTION_TYPE:
                return await self._resolve(await self._signed(envelope, via), trace)
            return await self._operation(await self._signed(envelope, via), trace)
        except GateRefused as no:
            return await self._deny(no, via, trace)

    async def approve(self, request_id: str, content: bytes, via: str) -> Answer:
        """Take more signatures for one request; the envelope must hold that very request. Raises like `submit`."""
        view = await self._deck.journal.request(OpId(request_id))
        try:
            envelope = parse_envelope(content)
            _require_holds(envelope, view)
        except GateRefused as no:
            return await self._deny(no, via, {"request": view.request_id if view else ""})
        return await self.submit(content, via)

    async def lapse(self) -> int:
        """End the requests whose collecting is over, and write down counted refusals; how many ended."""
        now_ms = await self._now_ms()
        ended = 0
        async with self._lock:
            await self.denials.flush()
            for view in await self._deck.journal.requests(state=RequestState.PENDING):
                if now_ms >= view.request.approve_by_ms:
                    await self._lapse(view, RequestState.EXPIRED, Refusal.EXPIRED, "its approve_by is over")
                    ended += 1
        return ended

    async def may_run(self, request_id: OpId, observed: Observed) -> RunVerdict:
        """Everything once more, right before an accepted request is started; signatures too, with today's keyring.

        `observed` is the guest as it is now. Whoever gets `Go` starts at once: the budget counts it for as long as a
        request may take to be sent.
        """
        view = await self._deck.journal.request(request_id)
        files = self._files.current()
        if view is None or files is None:
            text = self._files.closed() if files is None else "its request is not in the journal"
            return Hold(why=Refusal.NO_KEYRING, text=text)
        valid = self._verify_again(view, files)
        newest_ms = await self._deck.journal.newest_ms()
        async with self._lock:
            try:
                now_ms = gate_checks.trusted_now(self._deck.clock.now_ms(), newest_ms)
            except GateRefused as no:
                return Hold(why=no.refusal, text=no.what)
            waiting = await self._granted_ops(request_id, now_ms)
            ask = await self._ask(files, view.request, observed, now_ms, waiting)
            verdict = gate_checks.check_again(view, valid, ask, Sighting(guest=observed))
            if isinstance(verdict, Go):
                self._granted[request_id] = now_ms
            return verdict

    async def check_again(self, view: OpView, observed: Observed) -> Objection | NotYet | None:
        """`may_run`, as `engine.one_shots` asks it; None = it may be sent now."""
        verdict = await self.may_run(view.op_id, observed)
        if isinstance(verdict, Go):
            return None
        if isinstance(verdict, Hold):
            return NotYet(why=verdict.text)
        return Objection(reason=_REASONS.get(verdict.why, Reason.REFUSED), why=verdict.text)

    # -- statements ----------------------------------------------------------------------------------------------------

    async def _operation(self, signed: Signed, trace: dict[str, str]) -> Answer:
        request = gate_form.parse_request(signed.envelope.payload)
        known = await self._deck.journal.request_of_nonce(request.nonce)
        if known is None:
            gate_checks.check_requester(signed.files.keyring, request.requested_by, signed.valid)
        gate_checks.check_audience(self._cluster, request.cluster)
        now_ms = gate_checks.trusted_now(self._deck.clock.now_ms(), signed.newest_ms)
        if known is None:
            gate_checks.check_times(request.not_before_ms, request.execute_by_ms, now_ms)
            gate_checks.check_collecting(request.approve_by_ms, now_ms)
        wanted = known is None or known.state is RequestState.PENDING
        sighting = await gate_target.look(self._deck.pve, self._deck.journal, request) if wanted else Sighting()
        async with self._lock:
            known = await self._deck.journal.request_of_nonce(request.nonce)
            if known is not None:
                trace["request"] = known.request_id
                gate_checks.same_payload(known, signed.sha256)
                return await self._again(known, signed, sighting, now_ms)
            await self._room_for_nonce()
            held = gate_checks.check_key(request, await self._of_key(request.idempotency_key))
            if held is not None:
                return held
            gate_checks.check_there(request, sighting)
            ask = await self._ask(signed.files, request, sighting.guest, now_ms, await self._deck.journal.accepted())
            allowed = gate_checks.check_policy(request, signed.valid, ask)
            gate_checks.check_target(request, sighting)
            await self._check_lane(request)
            return await self._admit(request, signed, allowed, sighting)

    async def _admit(self, request: Request, signed: Signed, allowed: Allowed, sighting: Sighting) -> Answer:
        now_ms = self._deck.clock.now_ms()
        request_id = OpId(self._deck.entropy.uuid7(now_ms))
        ruling = allowed.ruling
        events: list[Event] = [
            Requested(
                request=request,
                payload=base64.b64encode(signed.envelope.payload).decode(),
                payload_sha256=signed.sha256,
                ruling=ruling,
                via=signed.via,
            ),
            *(Approved(approval=_at(one, now_ms), ruling=ruling) for one in signed.valid),
        ]
        if not ruling.missing:
            events.append(await self._accepted(request, signed.sha256, allowed, sighting))
        await self._append(request_id, events)  # the commit point: nonce, key, signatures and acceptance
        self._remembered = (self._remembered or 0) + 1
        return _let_in(request_id, ruling.missing)

    async def _again(self, view: RequestView, signed: Signed, sighting: Sighting, now_ms: int) -> Answer:
        """The same request once more: perhaps with more signatures, else a question about its state."""
        op = await self._deck.journal.op(view.request_id)
        if view.state is not RequestState.PENDING:
            return gate_checks.answer_for(view, op)
        have = {one.key_id for one in view.approvals}
        new = [_at(one, now_ms) for one in signed.valid if one.key_id not in have]
        request = view.request
        if now_ms >= request.approve_by_ms:
            await self._lapse(view, RequestState.EXPIRED, Refusal.EXPIRED, "its approve_by is over")
            if new:
                gate_checks.check_collecting(request.approve_by_ms, now_ms)
            return gate_checks.answer_for(await self._request(view.request_id), None)
        before = self._verify_again(view, signed.files)
        valid = gate_rules.valid_at(signed.files.keyring, [*before, *new], now_ms)
        gate_checks.check_requester(signed.files.keyring, request.requested_by, valid)
        events: list[Event] = [Approved(approval=one) for one in new]
        try:
            gate_checks.check_there(request, sighting)
            ask = await self._ask(signed.files, request, sighting.guest, now_ms, ())
            allowed = gate_checks.check_policy(request, valid, ask, budget=False)
            ruling = allowed.ruling
            events = [Approved(approval=one, ruling=ruling) for one in new]
            if ruling.missing:
                if not new:
                    return gate_checks.answer_for(msgspec.structs.replace(view, ruling=ruling), None)
                await self._append(view.request_id, events)
                return _let_in(view.request_id, ruling.missing)
            gate_checks.check_target(request, sighting)
        except GateRefused as no:
            if no.refusal in _ENDS:
                events.append(Lapsed(state=RequestState.REFUSED, why=no.refusal, text=no.what))
                await self._append(view.request_id, events)
            raise
        events.append(await self._accepted(request, view.payload_sha256, allowed, sighting))
        await self._append(view.request_id, events)
        return _let_in(view.request_id, "")

    async def _veto(self, signed: Signed, trace: dict[str, str]) -> Answer:
        veto = gate_form.parse_veto(signed.envelope.payload)
        keyring = signed.files.keyring
        gate_checks.check_requester(keyring, veto.requested_by, signed.valid)
        gate_checks.check_audience(self._cluster, veto.cluster)
        now_ms = gate_checks.trusted_now(self._deck.clock.now_ms(), signed.newest_ms)
        gate_checks.check_times(veto.not_before_ms, veto.execute_by_ms, now_ms)
        async with self._lock:
            view = await self._deck.journal.request(OpId(veto.request_id))
            if view is None:
                raise GateRefused(Refusal.STATE, "there is no such request", "see `trueup requests`")
            trace["request"] = view.request_id
            op = await self._deck.journal.op(view.request_id)
            if view.state in requests.ENDED:
                return gate_checks.answer_for(view, op)
            if op is not None and op.state is not OpState.ACCEPTED:
                raise GateRefused(Refusal.STATE, f"it is {op.state} already: a veto is too late")
            facts = await self._facts(view.request, None)
            rule = gate_checks.deciding_rule_or_none(signed.files.policy, view.request.kind, facts)
            person = keyring.person(veto.requested_by)
            if person is None or not gate_rules.may_veto(signed.files, view.request, rule, person):
                raise GateRefused(Refusal.NO_RULE, f"{veto.requested_by} has no role that may veto this request")
            approval = next(one for one in signed.valid if one.person == veto.requested_by)
            events: list[Event] = [Vetoed(approval=_at(approval, now_ms), reason=veto.reason)]
            if op is not None:
                events.append(Failed(reason=Reason.VETOED, exit_status=f"vetoed by {veto.requested_by}"))
            await self._append(view.request_id, events)
        ended = await self._request(view.request_id)
        state = RequestState.VETOED.value
        return Answer(
            outcome=Outcome.ACCEPTED,
            state=state,
            request=ended.request_id,
            op=op.op_id if op else OpId(""),
            reason=f"vetoed by {veto.requested_by}",
        )

    async def _resolve(self, signed: Signed, trace: dict[str, str]) -> Answer:
        said = gate_form.parse_resolution(signed.envelope.payload)
        gate_checks.check_requester(signed.files.keyring, said.requested_by, signed.valid)
        gate_checks.check_audience(self._cluster, said.cluster)
        now_ms = gate_checks.trusted_now(self._deck.clock.now_ms(), signed.newest_ms)
        gate_checks.check_times(said.not_before_ms, said.execute_by_ms, now_ms)
        async with self._lock:
            op = await self._deck.journal.op(OpId(said.op_id))
            if op is None:
                raise GateRefused(Refusal.STATE, "there is no such operation", "see `trueup ops list`")
            trace["request"] = op.op_id
            if await self._was_said(op.op_id, said.nonce):
                raise GateRefused(Refusal.REPLAY, "this resolution was used already", "prepare a new one")
            if op.state not in _IN_FLIGHT or op.unresolved is None:
                state = op.state if op.state not in _IN_FLIGHT else "still being worked on"
                raise GateRefused(Refusal.STATE, f"the operation is {state}; only an unresolved one can be resolved")
            facts = await self._facts_of(op)
            span = said.not_before_ms, said.execute_by_ms
            ruling = gate_checks.check_resolution(signed.files, signed.valid, facts, span)
            evidence = {
                "by": ",".join(ruling.counted),
                "requested_by": said.requested_by,
                "reason": said.reason,
                "nonce": said.nonce,
                "payload": base64.b64encode(signed.envelope.payload).decode(),
                "payload_sha256": signed.sha256,
                "signatures": ",".join(f"{one.form}:{one.key_id}:{one.signature}" for one in signed.valid),
                "keyring_digest": ruling.keyring_digest,
                "policy_digest": ruling.policy_digest,
            }
            event = Succeeded if said.resolved_as is ResolvedAs.SUCCEEDED else Failed
            await self._append(op.op_id, [event(reason=Reason.RESOLVED_BY_OPERATOR, evidence=evidence)])
        text = f"resolved by {evidence['by']}: {said.reason}"
        return Answer(outcome=Outcome.ACCEPTED, state=said.resolved_as.value, op=op.op_id, reason=text)

    # -- what the checks need ------------------------------------------------------------------------------------------

    async def _signed(self, envelope: Envelope, via: str) -> Signed:
        files = self._files.current()
        if files is None:
            raise GateRefused(Refusal.NO_KEYRING, f"the gate is closed: {self._files.closed()}")
        newest_ms = await self._deck.journal.newest_ms()
        now_ms = max(self._deck.clock.now_ms(), newest_ms)
        checked = self._verifier.verify(envelope, files.keyring)
        return Signed(
            envelope=envelope,
            files=files,
            valid=gate_checks.check_signers(files.keyring, checked, now_ms),
            sha256=hashlib.sha256(envelope.payload).hexdigest(),
            newest_ms=newest_ms,
            via=via,
        )

    def _verify_again(self, view: RequestView, files: Files) -> tuple[Approval, ...]:
        """The approvals of the journal that today's keyring still vouches for, over the payload of the journal."""
        envelope = Envelope(
            payload=base64.b64decode(view.payload),
            payload_type=OPERATION_TYPE,
            signatures=tuple(
                Signature(key_id=one.key_id, form=one.form, raw=base64.b64decode(one.signature))
                for one in view.approvals
            ),
        )
        checked: Checked = self._verifier.verify(envelope, files.keyring)
        return checked.valid

    async def _ask(
        self, files: Files, request: Request, seen: Observed | None, now_ms: int, waiting: Sequence[OpView]
    ) -> Ask:
        since_ms = now_ms - int(gate_rules.longest_budget_s(files.policy) * 1000)
        started = await self._deck.journal.one_shots_since(since_ms) if files.policy.budgets else ()
        facts = await self._facts(request, seen)
        return Ask(
            files=files,
            facts=facts,
            now_ms=now_ms,
            has_token=self._has_token(),
            started=tuple(started),
            waiting=tuple(waiting),
        )

    async def _facts(self, request: Request, seen: Observed | None) -> Facts:
        vmid = request.target.vmid
        return Facts(vmid=vmid, labels=(await self._deck.journal.labels()).get(vmid, {}), seen=seen)

    async def _facts_of(self, op: OpView) -> Facts:
        labels = (await self._deck.journal.labels()).get(op.intent.vmid) or op.intent.labels
        return Facts(vmid=op.intent.vmid, labels=labels)

    async def _granted_ops(self, but: OpId, now_ms: int) -> tuple[OpView, ...]:
        """Requests that were let go a moment ago and have not been started: they will be."""
        horizon_ms = now_ms - int(limits.SEND_BY_S * 1000)
        self._granted = {op_id: at_ms for op_id, at_ms in self._granted.items() if at_ms >= horizon_ms}
        views = [await self._deck.journal.op(op_id) for op_id in self._granted if op_id != but]
        return tuple(view for view in views if view is not None and view.state is OpState.ACCEPTED)

    async def _of_key(self, key: str) -> list[tuple[RequestView, OpView | None]]:
        found = await self._deck.journal.requests_of_key(key)
        return [(view, await self._deck.journal.op(view.request_id)) for view in found]

    async def _room_for_nonce(self) -> None:
        """Nobody is forgotten to make room. Where it seems full it is counted anew: it may have been pruned."""
        if self._remembered is None or self._remembered >= limits.NONCES_MAX:
            self._remembered = len(await self._deck.journal.requests())
        if self._remembered >= limits.NONCES_MAX:
            text = f"the journal remembers {limits.NONCES_MAX} requests, and forgets none to make room"
            raise GateRefused(Refusal.NONCES_FULL, text, "prune the journal")

    async def _check_lane(self, request: Request) -> None:
        """A guest with an unresolved operation is left alone until somebody has looked at it."""
        for op in await self._deck.journal.in_flight():
            if op.intent.vmid == request.target.vmid and op.unresolved is not None:
                text = f"operation {op.op_id} on guest {request.target.vmid} is unresolved"
                raise GateRefused(Refusal.BLOCKED, text, f"see `trueup ops show {op.op_id}`")

    async def _was_said(self, op_id: OpId, nonce: str) -> bool:
        """An operation can be open again after it was resolved (contradicted): an old word does not close it twice."""
        records = await self._deck.journal.records(op_id=op_id)
        ends = (record.event for record in records)
        return any(end.evidence.get("nonce") == nonce for end in ends if isinstance(end, Succeeded | Failed))

    async def _accepted(self, request: Request, sha256: str, allowed: Allowed, sighting: Sighting) -> Accepted:
        guest = sighting.guest
        if guest is None:  # narrows the type; `check_target` has refused it
            raise GateRefused(Refusal.UNREADABLE, "the guest could not be read")
        op = gate_params.planned(request, guest)
        labels = (await self._deck.journal.labels()).get(guest.vmid, {})
        return Accepted(
            intent=gate_params.accepted_intent(op, guest, self._deck.pve.token, labels),
            execute_by_ms=request.execute_by_ms,
            nonce=request.nonce,
            idempotency_key=request.idempotency_key,
            payload=sha256,
            not_before_ms=allowed.run_from_ms,
        )

    async def _request(self, request_id: OpId) -> RequestView:
        view = await self._deck.journal.request(request_id)
        if view is None:
            raise GateRefused(Refusal.STATE, "there is no such request")
        return view

    async def _now_ms(self) -> int:
        return max(self._deck.clock.now_ms(), await self._deck.journal.newest_ms())

    # -- records -------------------------------------------------------------------------------------------------------

    async def _append(self, op_id: OpId, events: Sequence[Event]) -> None:
        try:
            await self._deck.record(op_id, *events)
        except IllegalTransition as no:  # the executor or another statement was faster: the journal decides
            raise GateRefused(Refusal.STATE, no.what) from None

    async def _lapse(self, view: RequestView, state: RequestState, why: Refusal, text: str) -> None:
        await self._append(view.request_id, [Lapsed(state=state, why=why, text=text)])

    async def _deny(self, no: GateRefused, via: str, trace: dict[str, str]) -> Answer:
        request_id = trace.get("request", "")
        await self.denials.note(
            Denied(
                refusal=no.refusal,
                text=no.what,
                via=via,
                payload_sha256=trace.get("sha256", ""),
                request_id=request_id,
            )
        )
        return Answer(
            outcome=Outcome.REFUSED,
            state=RequestState.REFUSED.value,
            request=OpId(request_id),
            reason=str(no),
            refusal=no.refusal,
        )


def _let_in(request_id: OpId, missing: str) -> Answer:
    if missing:
        text = "it waits for signatures"
        return Answer(outcome=Outcome.PENDING, state="pending", request=request_id, missing=missing, reason=text)
    return Answer(outcome=Outcome.ACCEPTED, state="accepted", request=request_id, op=request_id)


def _require_holds(envelope: Envelope, view: RequestView | None) -> None:
    if view is None:
        raise GateRefused(Refusal.STATE, "there is no such request", "see `trueup requests`")
    if view.payload_sha256 != hashlib.sha256(envelope.payload).hexdigest():
        raise GateRefused(Refusal.REPLAY, "the envelope holds another request", "sign that one")


def _at(approval: Approval, at_ms: int) -> Approval:
    return msgspec.structs.replace(approval, at_ms=at_ms)
