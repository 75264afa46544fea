"""`policy.yaml`: from its text to a `Policy`, or to complaints with their lines."""

import re
from typing import Final

from trueup.adapters.gate_yaml import Reading
from trueup.adapters.yaml_positions import MapNode, Node, Scalar
from trueup.adapters.zones import zone_exists
from trueup.core.gate_form import NAME
from trueup.core.gate_params import PARAMS
from trueup.model import limits
from trueup.model.durations import parse_duration
from trueup.model.errors import BadInput
from trueup.model.ids import VMID_MAX, VMID_MIN
from trueup.model.policy import ANY_KIND, RESOLVE, Budget, Policy, Rule, Selector
from trueup.model.windows import Window

_RULE: Final = (
    "kinds",
    "guests",
    "people",
    "roles",
    "requester_may_approve",
    "longest",
    "windows",
    "grace",
    "needs_token",
)
_SELECTOR: Final = ("labels", "tags", "vmids", "pool")
_KINDS: Final = (*sorted(PARAMS), RESOLVE, ANY_KIND)
_RANGE: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", re.ASCII)


def parse_policy(text: str, shown: str, digest: str = "") -> Policy:
    """Read a policy. An empty file allows nothing.

    Raises:
        BadInput: something is wrong; `ManyProblems` if several things are.
    """
    reading = Reading(shown)
    root = reading.root(text)
    fields = reading.map(root, "the policy", ("rules", "budgets", "never_destroy"))
    rules = reading.list(fields.get("rules"), "rules")
    budgets = reading.list(fields.get("budgets"), "budgets")
    if root is not None and max(len(rules), len(budgets)) > limits.RULES_MAX:
        reading.tell(root, f"more than {limits.RULES_MAX} rules or budgets")
    never_node = fields.get("never_destroy")
    policy = Policy(
        rules=tuple(_rule(reading, node) for node in rules),
        budgets=tuple(_budget(reading, node) for node in budgets),
        never=_selector(reading, never_node, "never_destroy"),
        digest=digest,
    )
    reading.done()
    return policy


def _rule(reading: Reading, node: Node) -> Rule:
    fields = reading.map(node, "a rule", _RULE)
    roles = frozenset(_names(reading, fields.get("roles"), "roles"))
    if not roles:
        reading.tell(node, "a rule without roles", "write roles: [operator]; whose agreement counts must be said")
    people = reading.number(fields.get("people"), "people", 1, most=limits.PEOPLE_MAX)
    return Rule(
        kinds=_kinds(reading, node, fields.get("kinds")),
        guests=_selector(reading, fields.get("guests"), "guests"),
        people=people,
        roles=roles,
        requester_may_approve=reading.truth(
            fields.get("requester_may_approve"), "requester_may_approve", fallback=True
        ),
        longest_s=_duration(reading, fields.get("longest"), "longest", limits.RULE_LONGEST_S),
        windows=tuple(
            window
            for window in (
                reading.parsed(one, _window, "a window") for one in reading.list(fields.get("windows"), "windows")
            )
            if window is not None
        ),
        grace_s=_duration(reading, fields.get("grace"), "grace", 0.0),
        needs_token=reading.truth(fields.get("needs_token"), "needs_token", fallback=False),
    )


def _budget(reading: Reading, node: Node) -> Budget:
    fields = reading.map(node, "a budget", ("kinds", "most", "per"))
    for name in ("most", "per"):
        if isinstance(node, MapNode) and name not in fields:
            reading.tell(node, f"a budget without {name!r}", "write {kinds: [destroy], most: 5, per: 1h}")
    return Budget(
        kinds=_kinds(reading, node, fields.get("kinds")),
        most=reading.number(fields.get("most"), "most", 0, least=0, most=1_000_000),
        per_s=_duration(reading, fields.get("per"), "per", 3600.0),
    )


def _kinds(reading: Reading, owner: Node, node: Node | None) -> frozenset[str]:
    kinds = frozenset(_names(reading, node, "kinds", _KINDS))
    if not kinds and isinstance(owner, MapNode):
        reading.tell(owner, "no kinds are named", f'write kinds: [destroy], or ["*"]; known: {", ".join(_KINDS)}')
    return kinds


def _names(reading: Reading, node: Node | None, what: str, known: tuple[str, ...] | None = None) -> list[str]:
    names: list[str] = []
    for item in reading.list(node, what):
        name = reading.text(item, f"an item of {what}")
        if known is not None and name not in known:
            reading.tell(
                item, f"{name[:60]!r} is none of the kinds that can be requested", f"known: {', '.join(known)}"
            )
        elif known is None and (len(name) > limits.REQUEST_NAME_MAX or NAME.fullmatch(name) is None):
            reading.tell(item, f"{name[:60]!r} is no name", "use letters, digits and . _ @ + -")
        names.append(name)
    return names


def _selector(reading: Reading, node: Node | None, what: str) -> Selector:
    fields = reading.map(node, what, _SELECTOR)
    if isinstance(node, MapNode) and not fields:
        reading.tell(node, f"{what} selects nothing", "leave it out, or name labels, tags, vmids or a pool")
    labels = {
        name: reading.text(value, f"label {name[:60]!r}")
        for name, value in reading.map(fields.get("labels"), "labels").items()
    }
    tags = (reading.text(one, "a tag").lower() for one in reading.list(fields.get("tags"), "tags"))
    ranges = (_range(reading, one) for one in reading.list(fields.get("vmids"), "vmids"))
    for name in ("labels", "tags", "vmids"):
        part = fields.get(name)
        if part is not None and part.size == 1 and not isinstance(part, Scalar):
            reading.tell(part, f"{name} is empty", "leave it out: an empty selection would mean every guest")
    return Selector(
        labels=labels,
        tags=frozenset(tags),
        vmids=tuple(one for one in ranges if one is not None),
        pool=reading.text(fields.get("pool"), "pool"),
    )


def _range(reading: Reading, node: Node) -> tuple[int, int] | None:
    found = _RANGE.fullmatch(reading.text(node, "a vmid"))
    if found is not None:
        low, high = int(found[1]), int(found[2] or found[1])
        if VMID_MIN <= low <= high <= VMID_MAX:
            return low, high
    reading.tell(node, "not a vmid, and no range of them", 'write 101, or "200-299"')
    return None


def _duration(reading: Reading, node: Node | None, what: str, fallback: float) -> float:
    if node is None:
        return fallback
    found = reading.parsed(node, parse_duration, what)
    if found is None:
        return fallback
    if found > limits.RULE_LONGEST_MAX_S:
        reading.tell(node, f"{what} is longer than {limits.RULE_LONGEST_MAX_S / 86400:g} days")
    return found


def _window(text: str) -> Window:
    window = Window.parse(text.strip())
    if not zone_exists(window.zone):
        raise BadInput(
            what=f"time zone {window.zone[:60]!r} is not known here",
            remedy='write a name like "Europe/Berlin"; if it is right, install tzdata',
        )
    return window
