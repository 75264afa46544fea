"""What a call is: method and path, who serves it, who may make it, its parameters, the function that does it.

Rule kept here: rights are looked at before parameters and before any proxying, as PVE does, so that a stranger
learns nothing from a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pvesim.kernel import Command
from pvesim.machine import Call, Machine
from pvesim.schema import Finder, Params, check
from pvesim.wire import Json, Listing

Result: TypeAlias = "Json | Listing"
Handler: TypeAlias = Callable[[Machine, Call], "Result | Generator[Command, object, Json]"]
NO_PARAMS: Params = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A right: all of the privileges on the path, or one of them; `{name}` stands for a part of the call's path."""

    path: str
    privileges: tuple[str, ...]
    any_of: bool = False


def need(path: str, *privileges: str, any_of: bool = False) -> Need:
    """A right that a call demands."""
    return Need(path=path, privileges=privileges, any_of=any_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One call; `protected` ones are served by pvedaemon, of which a node has few workers."""

    method: str
    path: str
    pattern: re.Pattern[str]
    handler: Handler
    protected: bool = False
    params: Params
    more: Finder | None = None
    demands: Need | None = None
    fixed: Mapping[str, str]

    def checked(self, call: Call) -> dict[str, str]:
        """The call's parameters, or 400."""
        return check(call.raw, call.names, self.params, self.more)

    def allow(self, call: Call) -> None:
        """The check that needs nothing but the path, or 403."""
        if self.demands is None:
            return
        path = self.demands.path.format_map(call.names)
        if self.demands.any_of:
            call.who.need(path, *self.demands.privileges)
        else:
            for privilege in self.demands.privileges:
                call.who.need(path, privilege)


def route(
    spec: str,
    handler: Handler,
    params: Params = NO_PARAMS,
    more: Finder | None = None,
    demands: Need | None = None,
    **fixed: str,
) -> Route:
    """`spec` is the method, `!` for protected calls, and the path with {names}."""
    method, _, path = spec.partition(" ")
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.replace("{volume}", "(?P<volume>.+)"))
    return Route(
        method=method.rstrip("!"), protected=method.endswith("!"), path=path, pattern=re.compile(f"^{pattern}$"),
        handler=handler, params=params, more=more, demands=demands, fixed=fixed,
    )  # fmt: skip
