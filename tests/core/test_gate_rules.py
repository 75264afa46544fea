"""What the policy says of a request, question by question; `tests/gate` asks it with whole requests."""

from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from tests.core.asking import NOW, ROLE, approval, keyring, op, person, refused, request, seen
from trueup.core import gate_rules
from trueup.core.gate_rules import Facts, Files, deciding_rule, is_kept, rule_on, selects, start_of_run
from trueup.model.gate import Refusal, Ruling
from trueup.model.gate_answers import GateRefused
from trueup.model.keyring import Keyring
from trueup.model.ops import OpState
from trueup.model.policy import Budget, Policy, Rule, Selector
from trueup.model.windows import Window

STOP = frozenset({"stop"})
MINUTE = 60_000
TAGGED = seen(config={"tags": "Web;prod, old"}, pool="dev")
KNOWN = Facts(vmid=101, labels={"tier": "web"}, seen=TAGGED)
BLIND = Facts(vmid=101, labels={"tier": "web"})


def rule(**more: Any) -> Rule:
    return Rule(**{"kinds": STOP, "roles": ROLE, **more})


def tags(*names: str) -> frozenset[str]:
    return frozenset(names)


# -- selectors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "known", "blind"),
    [
        (Selector(), True, True),
        (Selector(vmids=((101, 101),)), True, True),
        (Selector(vmids=((90, 100), (102, 110))), False, False),
        (Selector(vmids=((90, 100), (101, 110))), True, True),
        (Selector(labels={"tier": "web"}), True, True),
        (Selector(labels={"tier": "db"}), False, False),
        (Selector(labels={"tier": "web", "zone": "a"}), False, False),
        (Selector(tags=tags("web")), True, None),
        (Selector(tags=tags("web", "prod", "old")), True, None),
        (Selector(tags=tags("web", "new")), False, None),
        (Selector(pool="dev"), True, None),
        (Selector(pool="prod"), False, None),
        (Selector(pool="dev", tags=tags("new")), False, None),
        (Selector(pool="prod", tags=tags("web")), False, None),
        (Selector(vmids=((1, 2),), tags=tags("web")), False, False),
    ],
)
def test_a_selector_means_guests_that_have_all_of_it(selector: Selector, known: bool, blind: bool | None):
    assert selects(selector, KNOWN) is known
    assert selects(selector, BLIND) is blind


@pytest.mark.parametrize(
    ("never", "known", "blind"),
    [
        (Selector(), False, False),
        (Selector(vmids=((90, 100), (101, 101))), True, True),
        (Selector(vmids=((90, 100),)), False, False),
        (Selector(labels={"zone": "a", "tier": "web"}), True, True),
        (Selector(labels={"tier": "db"}), False, False),
        (Selector(tags=tags("new", "old")), True, None),
        (Selector(tags=tags("new")), False, None),
        (Selector(pool="dev"), True, None),
        (Selector(pool="prod"), False, None),
        (Selector(pool="prod", tags=tags("web")), True, None),
    ],
)
def test_a_guest_that_has_any_of_it_is_never_destroyed(never: Selector, known: bool, blind: bool | None):
    assert is_kept(never, KNOWN) is known
    assert is_kept(never, BLIND) is blind


@pytest.mark.parametrize(
    ("kind", "never", "facts", "refusal"),
    [
        ("destroy", Selector(pool="dev"), KNOWN, Refusal.NEVER),
        ("restore", Selector(pool="dev"), KNOWN, Refusal.NEVER),
        ("destroy", Selector(pool="dev"), BLIND, Refusal.UNREADABLE),
        ("destroy", Selector(pool="prod"), KNOWN, None),
        ("stop", Selector(pool="dev"), KNOWN, None),
        ("stop", Selector(pool="dev"), BLIND, None),
    ],
)
def test_what_is_kept_is_neither_destroyed_nor_overwritten(
    kind: str, never: Selector, facts: Facts, refusal: Refusal | None
):
    assert refused(gate_rules.check_never, Policy(never=never), kind, facts) is refusal


def test_a_guest_in_no_pool_is_in_no_kept_pool():
    assert is_kept(Selector(tags=tags("x")), Facts(vmid=101, seen=seen())) is False


def test_the_first_rule_that_fits_decides_and_a_blind_one_stops_the_search():
    strict, weak = rule(guests=Selector(tags=tags("web"))), rule(kinds=frozenset({"*"}))
    other = rule(kinds=frozenset({"start"}))
    assert deciding_rule(Policy(rules=(other, strict, weak)), "stop", KNOWN) == (2, strict)
    assert deciding_rule(Policy(rules=(other, strict, weak)), "destroy", BLIND) == (3, weak)
    assert refused(deciding_rule, Policy(rules=(strict, weak)), "stop", BLIND) is Refusal.UNREADABLE
    assert refused(deciding_rule, Policy(rules=(other, strict)), "destroy", KNOWN) is Refusal.NO_RULE
    elsewhere = rule(guests=Selector(vmids=((1, 2),)))
    assert deciding_rule(Policy(rules=(elsewhere, weak)), "stop", KNOWN) == (2, weak)


# -- people -----------------------------------------------------------------------------------------------------------


def counted(ring: Keyring, *names: str, asks: str = "alice", **more: Any) -> Ruling:
    files = Files(keyring=ring, policy=Policy(digest="pd"))
    return rule_on(rule(**more), 3, files, request(requested_by=asks), [approval(name) for name in names])


def test_people_are_counted_once_and_those_with_a_role_only():
    ring = keyring(person("alice"), person("bob"), person("carol", roles=frozenset({"guest"})))
    ruling = counted(ring, "alice", "alice", "carol", "mallory", people=2)
    assert (ruling.rule, ruling.people, ruling.counted) == (3, 2, ("alice",))
    assert ruling.missing == "1 more with role operator: bob"
    assert (ruling.keyring_digest, ruling.policy_digest) == ("kd", "pd")
    enough = counted(ring, "alice", "bob", people=2, grace_s=5.0, needs_token=True)
    assert (enough.missing, enough.counted, enough.grace_s, enough.needs_token) == ("", ("alice", "bob"), 5.0, True)
    assert counted(ring, "alice", "bob", people=1).missing == ""


def test_who_asks_may_be_kept_from_approving_and_so_is_who_shares_a_key_with_them():
    ring = keyring(person("alice"), person("bob"), person("carol"))
    alone = counted(ring, "alice", requester_may_approve=False)
    assert (alone.counted, alone.missing) == ((), "1 more with role operator: bob, carol")
    assert counted(ring, "alice", "bob", requester_may_approve=False).counted == ("bob",)
    assert counted(ring).missing == "1 more with role operator: alice, bob, carol"
    shared = replace(ring, one_hand={"alice": "alice", "bob": "alice"})
    both = counted(shared, "alice", "bob", requester_may_approve=False)
    assert (both.counted, both.missing) == ((), "1 more with role operator: carol")
    assert counted(shared, "alice", "bob", people=2).counted == ("alice",)


def test_who_could_still_sign_is_named_up_to_eight():
    many = keyring(*(person(f"p{number}") for number in range(9)))
    assert counted(many, asks="nobody").missing.endswith("p6, p7 and others")
    eight = keyring(*(person(f"p{number}") for number in range(8)))
    assert counted(eight, asks="nobody").missing.endswith("p6, p7")
    nobody = keyring(person("alice", keys=()), person("bob", roles=frozenset({"guest"})))
    assert counted(nobody, roles=frozenset({"owner", "operator"})).missing == (
        "1 more with role operator or owner: nobody is left"
    )


def test_a_revoked_key_counts_no_more_from_its_instant_on_for_whoever_has_it():
    ring = keyring(person("alice"), person("bob", keys=(), revoked={"k-alice": NOW, "k-old": NOW + 5}))
    assert [gate_rules.is_revoked(ring, "k-alice", NOW + late) for late in (-1, 0, 1)] == [False, True, True]
    assert not gate_rules.is_revoked(ring, "k-bob", NOW)
    assert gate_rules.valid_at(ring, (approval("alice"),), NOW - 1) == (approval("alice"),)
    assert gate_rules.valid_at(ring, (approval("alice"), approval("mallory")), NOW) == ()
    earlier = keyring(person("alice", revoked={"k-alice": NOW - 9}), person("bob", revoked={"k-alice": NOW}))
    assert gate_rules.revoked_from(earlier, "k-alice") == NOW - 9
    assert gate_rules.revoked_from(earlier, "k-bob") == 0


@pytest.mark.parametrize(
    ("name", "decides", "may"),
    [
        ("alice", rule(roles=frozenset({"owner"})), True),  # it was her request
        ("bob", rule(), True),
        ("bob", rule(roles=frozenset({"owner"})), False),
        ("bob", None, True),
        ("dave", rule(), False),
        ("dave", None, False),
        ("twin", rule(roles=frozenset({"owner"})), True),
    ],
)
def test_who_may_say_no(name: str, decides: Rule | None, may: bool):
    people = {one: person(one) for one in ("alice", "bob", "twin")} | {"dave": person("dave", roles=frozenset())}
    ring = replace(keyring(*people.values()), one_hand={"alice": "alice", "twin": "alice"})
    files = Files(keyring=ring, policy=Policy())
    assert gate_rules.may_veto(files, request(), decides, people[name]) is may


# -- times and budgets ------------------------------------------------------------------------------------------------


def test_a_request_is_good_for_as_long_as_its_rule_allows_and_the_clocks_may_differ():
    hour = rule(longest_s=3600)
    assert refused(gate_rules.check_span, hour, NOW, NOW + 3_600_010, 10) is None
    with pytest.raises(GateRefused, match="good for 3600 s, and its rule allows 3600 s") as no:
        gate_rules.check_span(hour, NOW, NOW + 3_600_011, 10)
    assert no.value.refusal is Refusal.TOO_LONG


OPEN_LATER = rule(windows=(Window.parse("Fri 09:00-10:00 UTC"),))  # NOW is a Friday, 08:00
UNKNOWN_ZONE = rule(windows=(Window.parse("Fri 07:00-09:00 Mars/Base"),))


def test_a_run_starts_with_the_minute_in_which_its_window_opens():
    hour = 60 * MINUTE
    assert start_of_run(rule(), NOW + 5, NOW + 6) == NOW + 5
    assert start_of_run(OPEN_LATER, NOW + 5, NOW + hour + 1) == NOW + hour
    assert start_of_run(OPEN_LATER, NOW + hour + 5, NOW + 2 * hour) == NOW + hour + 5
    assert refused(start_of_run, OPEN_LATER, NOW, NOW + hour) is Refusal.WINDOW
    assert refused(start_of_run, rule(), NOW, NOW) is Refusal.WINDOW


def test_a_window_in_a_zone_that_nobody_knows_is_never_open():
    assert gate_rules.in_window(rule(), NOW)
    assert not gate_rules.in_window(OPEN_LATER, NOW)
    assert not gate_rules.in_window(UNKNOWN_ZONE, NOW)
    assert gate_rules.in_window(rule(windows=(*UNKNOWN_ZONE.windows, Window.parse("08:00-09:00 UTC"))), NOW)


def test_a_budget_counts_what_was_started_in_its_stretch_and_what_will_be():
    budget = Policy(budgets=(Budget(kinds=STOP, most=2, per_s=60),))
    stopped = [replace(op(OpState.SUCCEEDED), started_at_ms=NOW - back) for back in (59_999, 60_000, 61_000)]
    waiting = [op(OpState.ACCEPTED)]

    def full(policy: Policy, kind: str, **ops: Any) -> bool:
        ask = partial(gate_rules.check_budgets, policy, kind, NOW, **{"started": (), **ops})
        return refused(ask) is Refusal.BUDGET

    assert not full(budget, "stop", started=stopped)
    assert full(budget, "stop", started=stopped, waiting=waiting)
    assert full(budget, "stop", started=[stopped[0], stopped[0]])
    assert not full(budget, "stop", waiting=waiting)
    assert full(budget, "stop", waiting=[*waiting, *waiting])
    assert not full(budget, "start", started=[stopped[0], stopped[0]])
    others = Policy(budgets=(Budget(kinds=frozenset({"start"}), most=2, per_s=60),))
    assert not full(others, "start", started=[stopped[0]] * 3, waiting=waiting * 3)
    last = Policy(budgets=(*others.budgets, *budget.budgets))
    assert full(last, "stop", waiting=waiting * 2)


def test_a_budget_that_is_used_up_is_named():
    none = Policy(budgets=(Budget(kinds=STOP, most=0, per_s=60),))
    with pytest.raises(GateRefused, match="at most 0 in 60 s"):
        gate_rules.check_budgets(none, "stop", NOW, started=())


def test_budgets_look_back_as_far_as_the_longest_of_them():
    assert gate_rules.longest_budget_s(Policy()) == 0.0
    two = (Budget(kinds=STOP, most=1, per_s=60), Budget(kinds=STOP, most=1, per_s=5))
    assert gate_rules.longest_budget_s(Policy(budgets=two)) == 60
