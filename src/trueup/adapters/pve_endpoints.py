"""Which endpoint to ask: the one that worked last, the others in turn when it does not.

Rule kept here: deterministic; time comes in as a number. An endpoint that failed is asked last for a while, but it is
asked: with every endpoint marked, the one marked first is as good as any.
"""

from collections.abc import Sequence
from typing import Final

from trueup.model.errors import BadInput

ENDPOINT_REST_S: Final = 30.0
"""How long an endpoint that failed goes behind the others: a node that reboots takes minutes, and one read each half
minute finds out that it is back."""


class Endpoints:
    """The endpoints of one cluster, with the present one and the marks of those that failed."""

    def __init__(self, urls: Sequence[str]) -> None:
        """Start with the first. Raises BadInput if there is none."""
        if not urls:
            raise BadInput(what="no endpoint given", remedy="name at least one, e.g. https://pve1.example.org:8006")
        self._urls = tuple(dict.fromkeys(url.rstrip("/") for url in urls))
        self._present = self._urls[0]
        self._rests_until: dict[str, float] = {}

    @property
    def all(self) -> tuple[str, ...]:
        """All of them, in the order given."""
        return self._urls

    def order(self, now: float) -> tuple[str, ...]:
        """In which order to try: the present one, the others as given, those that failed a moment ago last."""

        def rank(url: str) -> tuple[float, bool, int]:
            rests = self._rests_until.get(url, 0.0)
            return (rests if rests > now else 0.0, url != self._present, self._urls.index(url))

        return tuple(sorted(self._urls, key=rank))

    def worked(self, url: str) -> None:
        """Stay with this one."""
        self._present = url
        self._rests_until.pop(url, None)

    def failed(self, url: str, now: float) -> None:
        """Let this one rest."""
        self._rests_until[url] = now + ENDPOINT_REST_S
