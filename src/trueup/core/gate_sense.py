"""Whether keyring and policy make sense together: rules that nobody can satisfy, and rules that never decide.

Pure; a finding is a sentence for whoever keeps the files. Nothing of it changes what the gate decides.
"""

from collections.abc import Iterator

from trueup.core import gate_rules
from trueup.core.gate_rules import Files
from trueup.model.keyring import Keyring, Person
from trueup.model.policy import ANY_KIND, Rule, Selector

_EVERYWHERE = Selector()


def findings(files: Files, now_ms: int) -> tuple[str, ...]:
    """What is wrong, the keyring's own warnings first."""
    return (*files.keyring.warnings, *_roles(files), *_rules(files, now_ms), *_never(files))


def people_for(rule: Rule, keyring: Keyring, now_ms: int) -> int:
    """How many different people could agree to what this rule allows; who asks has to sign in any case.

    Where the requester may not approve, the best requester is the one whose approval is missed least.
    """
    may = {
        keyring.hand(one.name) for one in keyring.people if one.roles & rule.roles and _can_sign(keyring, one, now_ms)
    }
    if rule.requester_may_approve:
        return len(may)
    others = {keyring.hand(one.name) for one in keyring.people if _can_sign(keyring, one, now_ms)} - may
    return len(may) if others else max(len(may) - 1, 0)


def _rules(files: Files, now_ms: int) -> Iterator[str]:
    for number, rule in enumerate(files.policy.rules, start=1):
        could = people_for(rule, files.keyring, now_ms)
        if could < rule.people:
            roles = " or ".join(sorted(rule.roles))
            yield (
                f"rule {number} asks for {rule.people} with role {roles}, and {could} could agree: "
                "nothing that it decides can be done"
            )
        for before, other in enumerate(files.policy.rules[: number - 1], start=1):
            if other.guests == _EVERYWHERE and (ANY_KIND in other.kinds or rule.kinds <= other.kinds):
                yield f"rule {number} never decides: rule {before} stands before it and fits all that it fits"
                break


def _roles(files: Files) -> Iterator[str]:
    had = {role for person in files.keyring.people for role in person.roles}
    asked = {role for rule in files.policy.rules for role in rule.roles}
    for role in sorted(asked - had):
        yield f"the policy asks for the role {role}, and nobody of the keyring has it"


def _never(files: Files) -> Iterator[str]:
    if not files.policy.rules:
        yield "the policy has no rules: nothing that needs signatures is allowed"


def _can_sign(keyring: Keyring, person: Person, now_ms: int) -> bool:
    return any(not gate_rules.is_revoked(keyring, key.key_id, now_ms) for key in person.keys)
