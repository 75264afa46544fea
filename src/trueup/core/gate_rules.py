"""What the policy says of a request. Pure: files, people, guest and instant come in as values.

The first rule that fits decides, and no rule means no. A selector that cannot be judged (the guest's tags could not be
read) fits nothing and stops the search, so that a later, weaker rule never decides in its place.
"""

import re
from collections.abc import Collection, Mapping, Sequence

import msgspec

from trueup.core import windows
from trueup.core.gate_params import OVERWRITES
from trueup.model.errors import BadInput
from trueup.model.gate import Approval, Refusal, Request, Ruling
from trueup.model.gate_answers import GateRefused
from trueup.model.guests import Observed
from trueup.model.keyring import Keyring, Person
from trueup.model.ops import OpView
from trueup.model.policy import ANY_KIND, Policy, Rule, Selector
from trueup.model.windows import Window

_MINUTE_MS = 60_000
_NAMED = 8
_TAGS = re.compile(r"[;,\s]+")  # PVE takes each of them between tags


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What selectors ask about a guest. `labels` are those last applied; `seen` is None where it could not be read."""

    vmid: int
    labels: Mapping[str, str] = {}
    seen: Observed | None = None


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """The keyring and the policy that hold now."""

    keyring: Keyring
    policy: Policy


def deciding_rule(policy: Policy, kind: str, facts: Facts) -> tuple[int, Rule]:
    """The first rule that fits, with its number from 1.

    Raises:
        GateRefused: NO_RULE, or UNREADABLE where a rule asks for what is not known.
    """
    for number, rule in enumerate(policy.rules, start=1):
        if not _means(rule.kinds, kind):
            continue
        fits = selects(rule.guests, facts)
        if fits is None:
            text = f"rule {number} asks for the guest's tags or pool, and the guest could not be read"
            raise GateRefused(Refusal.UNREADABLE, text, "try again when PVE answers")
        if fits:
            return number, rule
    raise GateRefused(Refusal.NO_RULE, f"no rule of the policy allows {kind} on guest {facts.vmid}")


def selects(selector: Selector, facts: Facts) -> bool | None:
    """Whether a guest has all that a selector asks for; None = not known."""
    if selector.vmids and not any(low <= facts.vmid <= high for low, high in selector.vmids):
        return False
    if any(facts.labels.get(name) != value for name, value in selector.labels.items()):
        return False
    if not (selector.tags or selector.pool):
        return True
    if facts.seen is None:
        return None
    tags = _tags(facts.seen)
    return selector.tags <= tags and selector.pool in {"", facts.seen.pool}


def is_kept(never: Selector, facts: Facts) -> bool | None:
    """Whether any part of `never_destroy` means this guest; None = not known."""
    if any(low <= facts.vmid <= high for low, high in never.vmids):
        return True
    if any(facts.labels.get(name) == value for name, value in never.labels.items()):
        return True
    if not (never.tags or never.pool):
        return False
    if facts.seen is None:
        return None
    tags = _tags(facts.seen)
    return bool(never.tags & tags) or (bool(never.pool) and never.pool == facts.seen.pool)


def check_never(policy: Policy, kind: str, facts: Facts) -> None:
    """Hold guests that are never destroyed. Raises GateRefused: NEVER or UNREADABLE."""
    if kind not in OVERWRITES:
        return
    kept = is_kept(policy.never, facts)
    if kept is None:
        text = "never_destroy asks for tags or pool, and the guest could not be read"
        raise GateRefused(Refusal.UNREADABLE, text, "try again when PVE answers")
    if kept:
        raise GateRefused(Refusal.NEVER, f"the policy says that guest {facts.vmid} is never destroyed")


def valid_at(keyring: Keyring, approvals: Sequence[Approval], now_ms: int) -> tuple[Approval, ...]:
    """The approvals whose key is somebody's and is not revoked at this instant."""
    return tuple(one for one in approvals if _holder(keyring, one, now_ms) is not None)


def is_revoked(keyring: Keyring, key_id: str, now_ms: int) -> bool:
    """Whether a known key counts no more, for any of those who have it."""
    return any(key_id in one.revoked and now_ms >= one.revoked[key_id] for one in keyring.people)


def revoked_from(keyring: Keyring, key_id: str) -> int:
    """From which instant on (epoch ms) a key counts no more, for whomever; 0 = it does."""
    return min((one.revoked[key_id] for one in keyring.people if key_id in one.revoked), default=0)


def rule_on(rule: Rule, number: int, files: Files, request: Request, valid: Sequence[Approval]) -> Ruling:
    """Count the people; `valid` are approvals that `valid_at` let through.

    Whoever shares a key with somebody is one with them, and so are the requester and who shares a key with them.
    """
    keyring = files.keyring
    requester = keyring.hand(request.requested_by)
    counted: dict[str, str] = {}
    for one in valid:
        person = keyring.owner(one.key_id)
        if person is None or not (person.roles & rule.roles):
            continue
        hand = keyring.hand(person.name)
        if hand == requester and not rule.requester_may_approve:
            continue
        counted.setdefault(hand, person.name)
    lacking = rule.people - len(counted)
    return Ruling(
        rule=number,
        people=rule.people,
        counted=tuple(counted.values()),
        missing=_missing(rule, keyring, request, counted, lacking) if lacking > 0 else "",
        grace_s=rule.grace_s,
        needs_token=rule.needs_token,
        keyring_digest=keyring.digest,
        policy_digest=files.policy.digest,
    )


def check_span(rule: Rule, not_before_ms: int, execute_by_ms: int, slack_ms: int) -> None:
    """Refuse what is good for longer than its rule allows. Raises GateRefused: TOO_LONG."""
    span_ms = execute_by_ms - not_before_ms
    if span_ms > rule.longest_s * 1000 + slack_ms:
        text = f"the request is good for {span_ms // 1000} s, and its rule allows {rule.longest_s:g} s"
        raise GateRefused(Refusal.TOO_LONG, text, "sign a new one with an earlier execute_by")


def start_of_run(rule: Rule, from_ms: int, execute_by_ms: int) -> int:
    """The first instant from `from_ms` on at which the rule's windows and its grace allow the execution.

    Raises:
        GateRefused: WINDOW: there is none before `execute_by`.
    """
    at_ms = from_ms
    while at_ms < execute_by_ms:
        if in_window(rule, at_ms):
            return at_ms
        at_ms = at_ms - at_ms % _MINUTE_MS + _MINUTE_MS
    raise GateRefused(
        Refusal.WINDOW,
        "the rule's windows and its grace leave no time for the execution before execute_by",
        "sign a request that is good until the next window",
    )


def in_window(rule: Rule, now_ms: int) -> bool:
    """Whether a window of the rule is open; a zone that this system does not know is never open."""
    return not rule.windows or any(_open(window, now_ms) for window in rule.windows)


def check_budgets(
    policy: Policy, kind: str, now_ms: int, *, started: Sequence[OpView], waiting: Sequence[OpView] = ()
) -> None:
    """Refuse what would be one too many. `started` are one-shots that were started, `waiting` those that will be.

    Raises:
        GateRefused: BUDGET.
    """
    for budget in policy.budgets:
        if not _means(budget.kinds, kind):
            continue
        since_ms = now_ms - budget.per_s * 1000
        used = sum(1 for op in started if op.started_at_ms > since_ms and _means(budget.kinds, op.intent.kind))
        used += sum(1 for op in waiting if _means(budget.kinds, op.intent.kind))
        if used >= budget.most:
            text = f"the policy's budget is used up: at most {budget.most} in {budget.per_s:g} s"
            raise GateRefused(Refusal.BUDGET, text, "wait, or change the budget")


def longest_budget_s(policy: Policy) -> float:
    """How far back budgets look."""
    return max((budget.per_s for budget in policy.budgets), default=0.0)


def may_veto(files: Files, request: Request, rule: Rule | None, person: Person) -> bool:
    """Whether somebody's no ends this request: they asked for it, or have a role of the rule that decides.

    Where no rule decides any more, everybody with a role may: a no never does harm.
    """
    if files.keyring.hand(person.name) == files.keyring.hand(request.requested_by):
        return True
    return bool(person.roles & rule.roles) if rule is not None else bool(person.roles)


def _holder(keyring: Keyring, approval: Approval, now_ms: int) -> Person | None:
    person = keyring.owner(approval.key_id)
    return None if person is None or is_revoked(keyring, approval.key_id, now_ms) else person


def _missing(rule: Rule, keyring: Keyring, request: Request, counted: Collection[str], lacking: int) -> str:
    requester = keyring.hand(request.requested_by)
    could = [
        person.name
        for person in keyring.people
        if person.roles & rule.roles
        and person.keys
        and keyring.hand(person.name) not in counted
        and (rule.requester_may_approve or keyring.hand(person.name) != requester)
    ]
    named = ", ".join(could[:_NAMED]) + (" and others" if len(could) > _NAMED else "")
    roles = " or ".join(sorted(rule.roles))
    return (
        f"{lacking} more with role {roles}: {named}" if could else f"{lacking} more with role {roles}: nobody is left"
    )


def _means(kinds: Collection[str], kind: str) -> bool:
    return ANY_KIND in kinds or kind in kinds


def _tags(guest: Observed) -> frozenset[str]:
    return frozenset(tag for tag in _TAGS.split(guest.config.get("tags", "").lower()) if tag)


def _open(window: Window, now_ms: int) -> bool:
    try:
        return windows.is_open(window, now_ms)
    except BadInput:
        return False
