"""What is said of a keyring and a policy that make no sense together."""

import pytest

from trueup.core.gate_rules import Files
from trueup.core.gate_sense import findings, people_for
from trueup.model.keyring import Keyring, Person, PublicKey
from trueup.model.policy import ANY_KIND, Policy, Rule, Selector

NOW_MS = 1_800_000_000_000
OPERATOR, OWNER = frozenset({"operator"}), frozenset({"owner"})


def person(name: str, *roles: str, keys: int = 1, revoked: int = 0) -> Person:
    """Somebody with so many keys, the first few of which are revoked."""
    ids = [f"{name}-{number}" for number in range(keys)]
    return Person(
        name=name,
        roles=frozenset(roles),
        keys=tuple(PublicKey(key_id=one, algorithm="ed25519", public=one) for one in ids),
        revoked=dict.fromkeys(ids[:revoked], NOW_MS),
    )


def rule(*kinds: str, people: int = 1, **more: object) -> Rule:
    return Rule(kinds=frozenset(kinds), people=people, **{"roles": OPERATOR, **more})  # type: ignore[arg-type]


ANN, BEN, CAT = person("ann", "operator"), person("ben", "operator"), person("cat", "owner")


@pytest.mark.parametrize(
    ("people", "asks", "could"),
    [
        ([ANN, BEN, CAT], rule("stop"), 2),
        ([ANN, BEN, CAT], rule("stop", roles=OPERATOR | OWNER), 3),
        ([CAT], rule("stop"), 0),
        ([ANN, person("ben", "operator", revoked=1)], rule("stop"), 1),
        ([ANN, person("ben", "operator", keys=2, revoked=1)], rule("stop"), 2),
        ([ANN, person("ben", "operator", keys=0)], rule("stop"), 1),
        # who asks may not approve: best is one who asks and could not have approved anyway
        ([ANN, BEN, CAT], rule("stop", requester_may_approve=False), 2),
        ([ANN, BEN], rule("stop", requester_may_approve=False), 1),
        ([ANN, BEN, person("cat", "owner", revoked=1)], rule("stop", requester_may_approve=False), 1),
        ([ANN], rule("stop", requester_may_approve=False), 0),
        ([], rule("stop", requester_may_approve=False), 0),
    ],
)
def test_how_many_could_agree(people: list[Person], asks: Rule, could: int) -> None:
    assert people_for(asks, Keyring(people=tuple(people)), NOW_MS) == could


def test_people_who_share_a_key_are_one() -> None:
    shared = Keyring(people=(ANN, BEN, CAT), one_hand={"ann": "ann", "ben": "ann"})
    assert people_for(rule("stop"), shared, NOW_MS) == 1
    other = Keyring(people=(ANN, CAT), one_hand={"ann": "ann", "cat": "ann"})
    assert people_for(rule("stop", requester_may_approve=False), other, NOW_MS) == 0


def said(*rules: Rule, people: tuple[Person, ...] = (ANN, BEN, CAT), warnings: tuple[str, ...] = ()) -> list[str]:
    files = Files(keyring=Keyring(people=people, warnings=warnings), policy=Policy(rules=rules))
    return list(findings(files, NOW_MS))


def test_a_rule_that_nobody_can_satisfy_is_told_with_its_number() -> None:
    assert said(rule("stop", people=2), rule("start", people=3, roles=OPERATOR)) == [
        "rule 2 asks for 3 with role operator, and 2 could agree: nothing that it decides can be done"
    ]
    (text,) = said(rule("stop", people=4, roles=OPERATOR | OWNER))
    assert text.startswith("rule 1 asks for 4 with role operator or owner, and 3 could agree")


@pytest.mark.parametrize(
    ("before", "after", "never"),
    [
        (rule("stop", "start"), rule("stop"), True),
        (rule("stop"), rule("stop"), True),
        (rule(ANY_KIND), rule("stop"), True),
        (rule("stop"), rule(ANY_KIND), False),
        (rule("stop"), rule("stop", "start"), False),
        (rule("stop", guests=Selector(tags=frozenset({"web"}))), rule("stop"), False),
        (rule("stop"), rule("stop", guests=Selector(tags=frozenset({"web"}))), True),
    ],
)
def test_a_rule_behind_one_that_fits_all_that_it_fits_never_decides(before: Rule, after: Rule, *, never: bool) -> None:
    told = "rule 3 never decides: rule 2 stands before it and fits all that it fits"
    assert said(rule("destroy"), before, after) == ([told] if never else [])


def test_only_the_first_rule_that_stands_before_is_named() -> None:
    assert said(rule("stop"), rule("stop"), rule("stop")) == [
        f"rule {number} never decides: rule 1 stands before it and fits all that it fits" for number in (2, 3)
    ]


def test_roles_that_nobody_has_the_keyrings_warnings_and_a_policy_without_rules() -> None:
    texts = said(rule("stop", roles=frozenset({"boss", "admin", "operator"})), warnings=("ann has an old key",))
    assert texts == [
        "ann has an old key",
        "the policy asks for the role admin, and nobody of the keyring has it",
        "the policy asks for the role boss, and nobody of the keyring has it",
    ]
    assert said() == ["the policy has no rules: nothing that needs signatures is allowed"]
