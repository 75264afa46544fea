"""What people may do when they sign: rules of which the first that fits decides, budgets, and guests never destroyed.

No rule that fits means no.
"""

from collections.abc import Mapping

import msgspec

from trueup.model import limits
from trueup.model.windows import Window

ANY_KIND = "*"
RESOLVE = "resolve"
"""The policy's name for closing an unresolved operation by a signed statement; no operation kind has it."""


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    """Which guests are meant. What is left empty is not asked for; `vmids` are ranges with both ends included."""

    labels: Mapping[str, str] = {}
    tags: frozenset[str] = frozenset()
    vmids: tuple[tuple[int, int], ...] = ()
    pool: str = ""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Who must agree to these kinds of operation on these guests.

    `people` different ones with one of `roles`. `longest_s` is from a request's `not_before` to its `execute_by`.
    `windows` are when it may be executed (none = always), `grace_s` the wait between acceptance and execution in which
    people may veto. `needs_token`: only while the agent works with an incarnation token.
    """

    kinds: frozenset[str]
    guests: Selector = Selector()
    people: int = 1
    roles: frozenset[str]
    requester_may_approve: bool = True
    longest_s: float = limits.RULE_LONGEST_S
    windows: tuple[Window, ...] = ()
    grace_s: float = 0.0
    needs_token: bool = False


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """At most so many operations of these kinds, together, in any stretch of `per_s`."""

    kinds: frozenset[str]
    most: int
    per_s: float


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The whole policy. `digest` is the SHA-256 of the file, in hex.

    A guest that fits *any* part of `never` is never destroyed, nor overwritten by a restore.
    """

    rules: tuple[Rule, ...] = ()
    budgets: tuple[Budget, ...] = ()
    never: Selector = Selector()
    digest: str = ""
