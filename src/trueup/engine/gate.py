"""The gate: everything that people sign comes in here, whichever way it came, and nothing else lets a one-shot in.

A thin loop: read what the next check needs, ask `core.gate_checks`, append. All appends happen under one lock, so that
two deliveries of one request cannot both be new; requests that wait for it are let in together (`gate_admission`).
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Collection, Sequence

import msgspec

from trueup.core import gate_checks, gate_form, gate_rules, requests
from trueup.core.gate_envelope import parse_envelope
from trueup.core.gate_rules import Facts, Files
from trueup.core.one_shots import NotYet, Objection
from trueup.engine import gate_target
from trueup.engine.deck import Deck
from trueup.engine.gate_admission import Admission
from trueup.engine.gate_denials import Denials
from trueup.engine.gate_judge import Arrived, Judge, Signed, at, budgets_since, facts_of
from trueup.engine.gate_ports import GateFiles, Verifier
from trueup.engine.gate_together import Together
from trueup.model import limits
from trueup.model.errors import IllegalTransition
from trueup.model.gate import Denied, Lapsed, Refusal, Request, RequestState, RequestView, Vetoed
from trueup.model.gate_answers import (
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
)
from trueup.model.gate_moment import Lookup, Moment
from trueup.model.guests import Observed
from trueup.model.ids import OpId
from trueup.model.ops import Event, Failed, OpState, OpView, Reason, Succeeded

_IN_FLIGHT = frozenset({OpState.STARTED, OpState.TASK_RUNNING})
_REASONS = {
    Refusal.EXPIRED: Reason.EXPIRED,
    Refusal.IDENTITY: Reason.NOT_AS_SIGNED,
    Refusal.DIGEST: Reason.NOT_AS_SIGNED,
    Refusal.TARGET_GONE: Reason.NOT_AS_SIGNED,
}


class _Question(msgspec.Struct, kw_only=True, eq=False):
    """What a statement has to know before it may wait for its turn; `nonce` is '' where it does not matter."""

    nonce: str
    moment: Moment | None = None

    def is_settled(self) -> bool:
        """See `engine.gate_together.Matter`."""
        return self.moment is not None


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
        self._lock = asyncio.Lock()
        self._judge = Judge(deck, verifier=verifier, has_token=has_token)
        self._admission = Admission(deck, self._judge, self._lock)
        self._questions: Together[_Question] = Together(self._tell, asyncio.Lock(), most=limits.GATE_BATCH_MAX)
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
            return await self._operation(envelope, via, trace)
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
        before = await self._deck.journal.moment(Lookup(ids=frozenset({request_id})))
        view, files = before.requests.get(request_id), self._files.current()
        if view is None or files is None:
            text = self._files.closed() if files is None else "its request is not in the journal"
            return Hold(why=Refusal.NO_KEYRING, text=text)
        valid = self._judge.verify_again(view, files)
        async with self._lock:
            try:
                now_ms = gate_checks.trusted_now(self._deck.clock.now_ms(), before.newest_ms)
            except GateRefused as no:
                return Hold(why=no.refusal, text=no.what)
            horizon_ms = now_ms - int(limits.SEND_BY_S * 1000)
            self._granted = {op_id: at_ms for op_id, at_ms in self._granted.items() if at_ms >= horizon_ms}
            others = self._granted.keys() - {request_id}
            since_ms = budgets_since(files, now_ms) if files.policy.budgets else None
            guests = frozenset({view.request.target.vmid})
            moment = await self._deck.journal.moment(
                Lookup(ids=frozenset(others), guests=guests, started_since_ms=since_ms)
            )
            ask = self._judge.ask(files, view.request, observed, now_ms, moment, *_unsent(moment, others))
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

    async def _operation(self, envelope: Envelope, via: str, trace: dict[str, str]) -> Answer:
        files, checked = self._verified(envelope)
        parsed = _parsed(envelope.payload)  # what is wrong with it is said after what is wrong with its signers
        moment = await self._moment(parsed.nonce if isinstance(parsed, Request) else "")
        signed = self._counted(envelope, via, files, checked, moment.newest_ms)
        if isinstance(parsed, GateRefused):
            raise parsed
        request, known = parsed, moment.of_nonce.get(parsed.nonce)
        if known is None:
            gate_checks.check_requester(signed.files.keyring, request.requested_by, signed.valid)
        gate_checks.check_audience(self._cluster, request.cluster)
        now_ms = gate_checks.trusted_now(self._deck.clock.now_ms(), signed.newest_ms)
        if known is None:
            gate_checks.check_times(request.not_before_ms, request.execute_by_ms, now_ms)
            gate_checks.check_collecting(request.approve_by_ms, now_ms)
        wanted = known is None or known.state is RequestState.PENDING
        sighting = await gate_target.look(self._deck.pve, self._deck.journal, request) if wanted else Sighting()
        arrived = Arrived(signed=signed, request=request, sighting=sighting, now_ms=now_ms)
        try:
            return await self._admission.take(arrived)
        finally:
            if arrived.known:
                trace["request"] = arrived.known

    async def _veto(self, signed: Signed, trace: dict[str, str]) -> Answer:
        veto = gate_form.parse_veto(signed.envelope.payload)
        keyring = signed.files.keyring
        gate_checks.check_requester(keyring, veto.requested_by, signed.valid)
        gate_checks.check_audience(self._cluster, veto.cluster)
        now_ms = gate_checks.trusted_now(self._deck.clock.now_ms(), signed.newest_ms)
        gate_checks.check_times(veto.not_before_ms, veto.execute_by_ms, now_ms)
        async with self._lock:
            moment = await self._deck.journal.moment(Lookup(ids=frozenset({OpId(veto.request_id)})))
            view = moment.requests.get(OpId(veto.request_id))
            if view is None:
                raise GateRefused(Refusal.STATE, "there is no such request", "see `trueup requests`")
            trace["request"] = view.request_id
            op = moment.ops.get(view.request_id)
            if view.state in requests.ENDED:
                return gate_checks.answer_for(view, op)
            if op is not None and op.state is not OpState.ACCEPTED:
                raise GateRefused(Refusal.STATE, f"it is {op.state} already: a veto is too late")
            facts = facts_of(view.request, None, moment)
            rule = gate_checks.deciding_rule_or_none(signed.files.policy, view.request.kind, facts)
            person = keyring.person(veto.requested_by)
            if person is None or not gate_rules.may_veto(signed.files, view.request, rule, person):
                raise GateRefused(Refusal.NO_RULE, f"{veto.requested_by} has no role that may veto this request")
            approval = next(one for one in signed.valid if one.person == veto.requested_by)
            events: list[Event] = [Vetoed(approval=at(approval, now_ms), reason=veto.reason)]
            if op is not None:
                events.append(Failed(reason=Reason.VETOED, exit_status=f"vetoed by {veto.requested_by}"))
            await self._append(view.request_id, events)
        return Answer(
            outcome=Outcome.ACCEPTED,
            state=RequestState.VETOED.value,
            request=view.request_id,
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
            moment = await self._deck.journal.moment(Lookup(ids=frozenset({OpId(said.op_id)})))
            op = moment.ops.get(OpId(said.op_id))
            if op is None:
                raise GateRefused(Refusal.STATE, "there is no such operation", "see `trueup ops list`")
            trace["request"] = op.op_id
            if await self._was_said(op.op_id, said.nonce):
                raise GateRefused(Refusal.REPLAY, "this resolution was used already", "prepare a new one")
            if op.state not in _IN_FLIGHT or op.unresolved is None:
                state = op.state if op.state not in _IN_FLIGHT else "still being worked on"
                raise GateRefused(Refusal.STATE, f"the operation is {state}; only an unresolved one can be resolved")
            labels = moment.labels.get(op.intent.vmid) or op.intent.labels
            facts = Facts(vmid=op.intent.vmid, labels=labels)
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

    def _verified(self, envelope: Envelope) -> tuple[Files, Checked]:
        """Who signed it, by the files that hold now; what nobody signed is refused before anything is read for it."""
        files = self._files.current()
        if files is None:
            raise GateRefused(Refusal.NO_KEYRING, f"the gate is closed: {self._files.closed()}")
        checked = self._verifier.verify(envelope, files.keyring)
        if not checked.valid:
            gate_checks.check_signers(files.keyring, checked, self._deck.clock.now_ms())
        return files, checked

    async def _moment(self, nonce: str) -> Moment:
        """The journal's newest instant, and the request that used this nonce ('' = does not matter)."""
        question = _Question(nonce=nonce)
        await self._questions.through(question)
        return question.moment or Moment()

    async def _tell(self, questions: Sequence[_Question]) -> None:
        nonces = frozenset([one.nonce for one in questions if one.nonce])
        moment = await self._deck.journal.moment(Lookup(nonces=nonces))
        for one in questions:
            one.moment = moment

    async def _signed(self, envelope: Envelope, via: str) -> Signed:
        files, checked = self._verified(envelope)
        moment = await self._moment("")
        return self._counted(envelope, via, files, checked, moment.newest_ms)

    def _counted(self, envelope: Envelope, via: str, files: Files, checked: Checked, newest_ms: int) -> Signed:
        """The statement with those signatures that count now."""
        now_ms = max(self._deck.clock.now_ms(), newest_ms)
        return Signed(
            envelope=envelope,
            files=files,
            valid=gate_checks.check_signers(files.keyring, checked, now_ms),
            sha256=hashlib.sha256(envelope.payload).hexdigest(),
            newest_ms=newest_ms,
            via=via,
        )

    async def _was_said(self, op_id: OpId, nonce: str) -> bool:
        """An operation can be open again after it was resolved (contradicted): an old word does not close it twice."""
        records = await self._deck.journal.records(op_id=op_id)
        ends = (record.event for record in records)
        return any(end.evidence.get("nonce") == nonce for end in ends if isinstance(end, Succeeded | Failed))

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


def _parsed(payload: bytes) -> Request | GateRefused:
    try:
        return gate_form.parse_request(payload)
    except GateRefused as no:
        return no


def _unsent(moment: Moment, ids: Collection[OpId]) -> list[OpView]:
    """Of these operations, those that were accepted and have not been started."""
    return [view for op_id, view in moment.ops.items() if op_id in ids and view.state is OpState.ACCEPTED]


def _require_holds(envelope: Envelope, view: RequestView | None) -> None:
    if view is None:
        raise GateRefused(Refusal.STATE, "there is no such request", "see `trueup requests`")
    if view.payload_sha256 != hashlib.sha256(envelope.payload).hexdigest():
        raise GateRefused(Refusal.REPLAY, "the envelope holds another request", "sign that one")
