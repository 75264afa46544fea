"""The gate's checks, each failing closed, in the order in which they are asked.

Size and form, payload type (`core.gate_envelope`) → signatures, people → audience → times → nonce → idempotency key →
policy → target. The engine reads what the next check needs; what follows from it is decided here.
"""

from collections.abc import Sequence

import msgspec

from trueup.core import gate_params, gate_rules
from trueup.core.gate_rules import Facts, Files
from trueup.core.kinds import KINDS, Tier
from trueup.model import limits
from trueup.model.gate import Approval, Refusal, Request, RequestState, RequestView, Ruling
from trueup.model.gate_answers import Answer, Checked, GateRefused, Go, Hold, Outcome, RunVerdict, Sighting, Stop
from trueup.model.guests import Identity
from trueup.model.ids import GuestType, OpId
from trueup.model.keyring import Keyring
from trueup.model.ops import OpState, OpView
from trueup.model.policy import RESOLVE, Policy, Rule

SLACK_MS = int(limits.CLOCK_DIFFERENCE_S * 1000)
_FREE_STATES = frozenset({RequestState.VETOED, RequestState.EXPIRED, RequestState.REFUSED})


def check_signers(keyring: Keyring, checked: Checked, now_ms: int) -> tuple[Approval, ...]:
    """The valid signatures by keys that are not revoked; at least one.

    Raises:
        GateRefused: SIGNATURE, UNKNOWN_KEY or REVOKED_KEY.
    """
    valid = gate_rules.valid_at(keyring, checked.valid, now_ms)
    if valid:
        return valid
    if checked.valid:
        raise GateRefused(Refusal.REVOKED_KEY, "the key that signed it is revoked", "sign with another key")
    if not checked.problems:
        raise GateRefused(Refusal.SIGNATURE, "nobody has signed it", "sign it with `trueup sign`")
    order = (Refusal.SIGNATURE, Refusal.UNKNOWN_KEY)
    refusal, text = min(checked.problems, key=lambda one: order.index(one[0]) if one[0] in order else len(order))
    raise GateRefused(refusal, text)


def check_requester(keyring: Keyring, requested_by: str, valid: Sequence[Approval]) -> None:
    """Who asks has signed it as well. Raises GateRefused: REQUESTER."""
    if keyring.person(requested_by) is None:
        raise GateRefused(Refusal.REQUESTER, "requested_by names nobody of the keyring")
    if not any(one.person == requested_by for one in valid):
        raise GateRefused(Refusal.REQUESTER, f"{requested_by}, who is said to ask, has not signed it")


def check_audience(ours: str, theirs: str) -> None:
    """It is meant for this cluster. Raises GateRefused: AUDIENCE."""
    if ours != theirs:
        raise GateRefused(Refusal.AUDIENCE, f"it is meant for another cluster; this one is {ours}")


def trusted_now(clock_ms: int, newest_ms: int) -> int:
    """The instant that is judged by: never before the journal's newest record.

    Raises:
        GateRefused: CLOCK: the clock is further behind the journal than clocks may differ.
    """
    if newest_ms - clock_ms > SLACK_MS:
        text = f"this machine's clock is {(newest_ms - clock_ms) // 1000} s behind the newest record of the journal"
        raise GateRefused(Refusal.CLOCK, text, "set the clock of the machine that trueup runs on")
    return max(clock_ms, newest_ms)


def check_times(not_before_ms: int, execute_by_ms: int, now_ms: int) -> None:
    """It is good now. Raises GateRefused: NOT_YET or EXPIRED."""
    if not_before_ms > now_ms + SLACK_MS:
        text = "its not_before is in the future"
        raise GateRefused(Refusal.NOT_YET, text, "wait, or compare the signer's clock with this machine's")
    if now_ms >= execute_by_ms:
        raise GateRefused(Refusal.EXPIRED, "its execute_by is over", "prepare and sign a new one")


def check_collecting(approve_by_ms: int, now_ms: int) -> None:
    """Signatures may still come in. Raises GateRefused: EXPIRED."""
    if now_ms >= approve_by_ms:
        raise GateRefused(Refusal.EXPIRED, "its approve_by is over", "prepare and sign a new one")


def same_payload(view: RequestView, payload_sha256: str) -> None:
    """A nonce binds the bytes. Raises GateRefused: REPLAY."""
    if view.payload_sha256 != payload_sha256:
        text = "its nonce was used by another request"
        raise GateRefused(Refusal.REPLAY, text, "prepare a new one; `trueup request` makes the nonce")


def answer_for(view: RequestView, op: OpView | None, reason: str = "") -> Answer:
    """What the sender of something known hears: where it stands now."""
    state, text = view.state.value, reason
    if op is not None:
        state = op.state.value
        text = reason or (f"{op.reason}" if op.reason else "")
    elif view.state is RequestState.PENDING and view.ruling.missing:
        text = reason or "it waits for signatures"
    elif view.lapsed is not None:
        text = reason or view.lapsed.text
    elif view.vetoed is not None:
        text = reason or f"vetoed by {view.vetoed.approval.person}"
    return Answer(
        outcome=Outcome.REPETITION,
        state=state,
        request=view.request_id,
        op=op.op_id if op is not None else OpId(""),
        missing=view.ruling.missing if view.state is RequestState.PENDING else "",
        reason=text,
    )


def check_key(request: Request, earlier: Sequence[tuple[RequestView, OpView | None]]) -> Answer | None:
    """Who has the idempotency key: None = it is free, an answer = its holder's state, and nothing is executed.

    Raises:
        GateRefused: KEY_DIFFERS: it was given to something else.
    """
    for view, op in earlier:
        if not _same(request, view.request):
            text = "its idempotency key belongs to a request for something else"
            raise GateRefused(Refusal.KEY_DIFFERS, text, "choose another key")
        if view.state in _FREE_STATES or (op is not None and op.state is OpState.FAILED):
            continue
        if op is not None and op.state is OpState.SUCCEEDED:
            return answer_for(view, op, "a request with this idempotency key was carried out already")
        return answer_for(view, op, "a request with this idempotency key is in progress")
    return None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy is asked with. `started` and `waiting` are one-shots for the budgets."""

    files: Files
    facts: Facts
    now_ms: int
    has_token: bool
    started: tuple[OpView, ...] = ()
    waiting: tuple[OpView, ...] = ()


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """The policy lets a request in: what it says, and (once enough people have signed) when it may run."""

    ruling: Ruling
    run_from_ms: int


def check_policy(request: Request, valid: Sequence[Approval], ask: Ask, *, budget: bool = True) -> Allowed:
    """Ask the policy. With `budget` false the budget waits until the execution.

    Raises:
        GateRefused: KIND, MALFORMED, NO_RULE, NEVER, TOO_LONG, NEEDS_TOKEN, WINDOW, BUDGET or UNREADABLE.
    """
    kind = gate_params.requestable(request.kind, request.target.type)
    gate_params.check_params(kind, request.params)
    gate_rules.check_never(ask.files.policy, kind, ask.facts)
    number, rule = gate_rules.deciding_rule(ask.files.policy, kind, ask.facts)
    gate_rules.check_span(rule, request.not_before_ms, request.execute_by_ms, SLACK_MS)
    _check_token(rule, has_token=ask.has_token)
    start_ms = max(ask.now_ms, request.not_before_ms) + int(rule.grace_s * 1000)
    run_from_ms = gate_rules.start_of_run(rule, start_ms, request.execute_by_ms)
    if budget:
        gate_rules.check_budgets(ask.files.policy, kind, ask.now_ms, started=ask.started, waiting=ask.waiting)
    return Allowed(
        ruling=gate_rules.rule_on(rule, number, ask.files, request, valid),
        run_from_ms=run_from_ms if run_from_ms > ask.now_ms else 0,
    )


def check_there(request: Request, sighting: Sighting) -> None:
    """A guest that is known to be gone is said to be gone, before anybody asks for its tags.

    Raises:
        GateRefused: TARGET_GONE.
    """
    if sighting.guest is None and sighting.gone:
        raise GateRefused(Refusal.TARGET_GONE, f"there is no guest {request.target.vmid}")


def check_target(request: Request, sighting: Sighting) -> None:
    """The guest is the one that the signers saw, and as they saw it.

    Raises:
        GateRefused: UNREADABLE, TARGET_GONE, IDENTITY or DIGEST.
    """
    target, guest = request.target, sighting.guest
    check_there(request, sighting)
    if guest is None:
        text = f"guest {target.vmid} could not be read: {sighting.unreadable or 'not known why'}"
        raise GateRefused(Refusal.UNREADABLE, text, "try again when PVE answers")
    if guest.type is not target.type or guest.vmid != target.vmid or not matches(target.identity, guest.identity):
        text = f"guest {target.vmid} is another one than was signed for"
        raise GateRefused(Refusal.IDENTITY, text, "look at it, and prepare a new request")
    if (
        target.type is GuestType.LXC
        and KINDS[gate_params.requestable(request.kind, target.type)].tier is Tier.DESTRUCTIVE
    ):
        _check_container(request, sighting)
    if guest.digest != target.digest:
        text = f"guest {target.vmid} was changed since the request was prepared"
        raise GateRefused(Refusal.DIGEST, text, "look at it, and prepare a new request")


def matches(signed: Identity, seen: Identity) -> bool:
    """Whether all that was signed of an identity is there; what was left out is held by the digest."""
    pairs = (
        (signed.smbios1_uuid.lower(), seen.smbios1_uuid.lower()),
        (signed.ctime, seen.ctime),
        (signed.vmgenid.lower(), seen.vmgenid.lower()),
        (signed.marker_uid, seen.marker_uid),
        (signed.rootfs, seen.rootfs),
    )
    macs = tuple(mac.lower() for mac in signed.macs), tuple(mac.lower() for mac in seen.macs)
    return all(want in {"", have} for want, have in pairs) and (not macs[0] or macs[0] == macs[1])


def check_again(view: RequestView, valid: Sequence[Approval], ask: Ask, sighting: Sighting) -> RunVerdict:
    """Right before the execution: all that the acceptance rested on still holds.

    `valid` are the request's own approvals whose signatures were verified again with today's keyring.
    """
    request = view.request
    if view.vetoed is not None or view.state is RequestState.VETOED:
        return Stop(why=Refusal.STATE, text="it was vetoed")
    if view.state is not RequestState.ACCEPTED:
        return Stop(why=Refusal.STATE, text=f"the request is {view.state}")
    try:
        check_times(request.not_before_ms, request.execute_by_ms, ask.now_ms)
        standing = check_signers(ask.files.keyring, Checked(valid=tuple(valid)), ask.now_ms)
        check_requester(ask.files.keyring, request.requested_by, standing)
        allowed = check_policy(request, standing, ask)
        if allowed.ruling.missing:
            text = f"not enough people stand behind it any more: {allowed.ruling.missing}"
            return Stop(why=Refusal.REVOKED_KEY, text=text)
        _, rule = gate_rules.deciding_rule(ask.files.policy, request.kind, ask.facts)
        if not gate_rules.in_window(rule, ask.now_ms):
            return Hold(why=Refusal.WINDOW, text="the next window of its rule is not open yet")
        check_target(request, sighting)
    except GateRefused as no:
        later = no.refusal in {Refusal.BUDGET, Refusal.UNREADABLE, Refusal.NOT_YET}
        return (Hold if later else Stop)(why=no.refusal, text=no.what)
    return Go()


def check_resolution(files: Files, valid: Sequence[Approval], facts: Facts, span: tuple[int, int]) -> Ruling:
    """Who may close an operation by their word. `span` is the statement's not_before and execute_by.

    Raises:
        GateRefused: NO_RULE, UNREADABLE, TOO_LONG, or STATE where people are missing (a resolution never pends).
    """
    number, rule = gate_rules.deciding_rule(files.policy, RESOLVE, facts)
    gate_rules.check_span(rule, *span, SLACK_MS)
    counted = {
        files.keyring.hand(person.name): person.name
        for person in (files.keyring.owner(one.key_id) for one in valid)
        if person is not None and person.roles & rule.roles
    }
    if len(counted) < rule.people:
        text = f"a resolution needs {rule.people} with role {' or '.join(sorted(rule.roles))}, and has {len(counted)}"
        raise GateRefused(Refusal.STATE, text, "let the others sign the same file before it is submitted")
    return Ruling(
        rule=number,
        people=rule.people,
        counted=tuple(counted.values()),
        keyring_digest=files.keyring.digest,
        policy_digest=files.policy.digest,
    )


def deciding_rule_or_none(policy: Policy, kind: str, facts: Facts) -> Rule | None:
    """The rule that decides, None where there is none or it cannot be told."""
    try:
        return gate_rules.deciding_rule(policy, kind, facts)[1]
    except GateRefused:
        return None


def _check_token(rule: Rule, *, has_token: bool) -> None:
    if rule.needs_token and not has_token:
        text = "its rule asks for incarnation tokens, and this agent works without"
        raise GateRefused(Refusal.NEEDS_TOKEN, text, "set a keeper under [cluster]")


def _check_container(request: Request, sighting: Sighting) -> None:
    """A container has no uuid: our marker stands in, and nobody may have made it anew since the signing."""
    guest = sighting.guest
    if (
        guest is None
        or guest.marker is None
        or guest.marker.vmid != guest.vmid
        or not request.target.identity.marker_uid
    ):
        text = f"container {request.target.vmid} does not carry trueup's marker, which alone tells one from the next"
        raise GateRefused(Refusal.IDENTITY, text, "adopt it, look at it, and prepare a new request")
    if sighting.unreadable:
        text = f"whether container {request.target.vmid} was made anew is not known: {sighting.unreadable}"
        raise GateRefused(Refusal.UNREADABLE, text, "try again when PVE answers")
    if sighting.remade:
        text = f"container {request.target.vmid} may have been made anew since the signing: {sighting.remade}"
        raise GateRefused(Refusal.IDENTITY, text, "look at it, and prepare a new request")


def _same(one: Request, other: Request) -> bool:
    """Equal but for times, people and the digest: the guest's config may have changed in between."""
    return (one.cluster, one.kind, one.target.type, one.target.vmid, one.target.identity, dict(one.params)) == (
        other.cluster,
        other.kind,
        other.target.type,
        other.target.vmid,
        other.target.identity,
        dict(other.params),
    )
