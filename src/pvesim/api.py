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


def _by_shape() -> dict[tuple[str, int], list[Route]]:
    """The calls by method and number of parts of their path; 0 for those whose last part may have slashes."""
    found: dict[tuple[str, int], list[Route]] = {}
    for route in ROUTES:
        parts = 0 if route.path.endswith("{volume}") else route.path.count("/")
        found.setdefault((route.method, parts), []).append(route)
    return found


_SHAPES = _by_shape()


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The call for a request, with the names in its path."""
    for route in (*_SHAPES.get((method, path.count("/")), ()), *_SHAPES.get((method, 0), ())):
        found = route.pattern.match(path)
        if found is not None:
            names = {key: unquote(value) for key, value in found.groupdict().items()}
            return route, {**names, **route.fixed}
    return None
