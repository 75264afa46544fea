"""One HTTP exchange with PVE, as a protocol: all that is foreign about HTTP lies behind it.

Rule kept here: an exchange either gives a complete answer or raises `Broken`, which says whether a byte of the request
may have been written. Whoever implements it never repeats a mutation. The client above (`adapters.pve`) is the same
over real TLS and over a simulated cluster in virtual time.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from trueup.model.ids import NodeName

API = "/api2/json"
HERE = NodeName("")
"""The node that was asked, whichever it is: for calls that PVE answers for the whole cluster."""


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request.

    `endpoint` is `https://host:port`. `node` is the node which does the work, for calls that name one. `path` starts
    behind `base` and is quoted. `params` go as a form (POST, PUT) or as the query (GET, DELETE: PVE answers a
    body there with 501). `mutation`: on a connection of its own, sent at most once. `send_by` is on the monotonic
    clock: past it the first byte is not written (0 = no bound). A longer answer than `max_bytes` is `Broken`.
    """

    endpoint: str
    node: NodeName = HERE
    method: str
    path: str
    base: str = API
    params: Mapping[str, str] = {}
    mutation: bool = False
    send_by: float = 0.0
    max_bytes: int


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A complete answer. `date_s` is its Date header in epoch seconds (0 = none); `endpoint` is who gave it."""

    status: int
    reason: str = ""
    date_s: int = 0
    body: bytes = b""
    endpoint: str = ""


class Break(StrEnum):
    """How an exchange broke; EXPIRED to UNUSABLE are before the first byte, the others may be after it."""

    EXPIRED = "expired"
    UNREACHABLE = "unreachable"
    UNTRUSTED = "untrusted"
    UNUSABLE = "unusable"
    TIMEOUT = "timeout"
    LOST = "lost"
    GARBAGE = "garbage"
    TOO_LARGE = "too large"


class Broken(Exception):
    """There is no complete answer.

    `sent` is false only if not one byte of the request was written. `what` is one line without secrets.
    """

    def __init__(self, *, kind: Break, sent: bool, what: str, remedy: str = "") -> None:
        """Keep what is known."""
        self.kind = kind
        self.sent = sent
        self.what = what
        self.remedy = remedy
        super().__init__(what)


class Transport(Protocol):
    """The way to the endpoints of one cluster, with one API token.

    Concurrency: any number of exchanges at once. Durability: none. Cancelling an exchange closes its connection; the
    request may have been sent.
    """

    async def exchange(self, request: HttpRequest) -> HttpAnswer:
        """Send one request and return its whole answer.

        A mutation goes out on a fresh connection, at most once; a read may be sent again on another connection if
        a kept one turns out to be stale.

        Raises:
            Broken: no complete answer.
        """
        ...
