"""The table of all calls.

Rule kept here: what is not in this table is not simulated and is answered 501, never with a pretended success.
"""

from __future__ import annotations

from urllib.parse import unquote

from pvesim.calls_cluster import CLUSTER_ROUTES
from pvesim.calls_guests import GUEST_ROUTES
from pvesim.routing import Result, Route

__all__ = ["METHODS", "ROUTES", "Result", "Route", "find_route"]

METHODS = ("GET", "POST", "PUT", "DELETE")
ROUTES: tuple[Route, ...] = (*CLUSTER_ROUTES, *GUEST_ROUTES)


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The call for a request, with the names in its path."""
    for route in ROUTES:
        if route.method != method:
            continue
        found = route.pattern.match(path)
        if found is not None:
            names = {key: unquote(value) for key, value in found.groupdict().items()}
            return route, {**names, **route.fixed}
    return None
