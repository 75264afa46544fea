"""Where signed requests come in over HTTP: the gate behind it decides, this only carries bytes and answers.

Rule kept here: transport authentication never replaces a signature. Whoever holds the HTTP token may hand in an
envelope; what it may do is said by its signatures alone.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Protocol

import msgspec

from trueup.edges.cli.output import Json
from trueup.edges.web.problems import GATE_CLOSED, REFUSED, Problem
from trueup.model.gate import Refusal
from trueup.model.ids import OpId

VIA: Final = "http"

CLOSED: Final = "the gate is closed: there is no keyring or no policy, or the agent does not lead yet"

_STATUS: Final[Mapping[Refusal, HTTPStatus]] = {
    Refusal.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Refusal.MALFORMED: HTTPStatus.BAD_REQUEST,
    Refusal.PAYLOAD_TYPE: HTTPStatus.BAD_REQUEST,
    Refusal.NO_KEYRING: HTTPStatus.SERVICE_UNAVAILABLE,
    Refusal.NONCES_FULL: HTTPStatus.SERVICE_UNAVAILABLE,
    Refusal.UNREADABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Refusal.REPLAY: HTTPStatus.CONFLICT,
    Refusal.KEY_TAKEN: HTTPStatus.CONFLICT,
    Refusal.KEY_DIFFERS: HTTPStatus.CONFLICT,
    Refusal.TARGET_GONE: HTTPStatus.CONFLICT,
    Refusal.IDENTITY: HTTPStatus.CONFLICT,
    Refusal.DIGEST: HTTPStatus.CONFLICT,
    Refusal.BLOCKED: HTTPStatus.CONFLICT,
    Refusal.STATE: HTTPStatus.CONFLICT,
    Refusal.BUDGET: HTTPStatus.TOO_MANY_REQUESTS,
}
"""All others are 403: somebody is not allowed to do this, or not now."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate says to one delivery.

    `request` and `op` are ids ('' = none), `state` one of accepted, pending, started, task_running, succeeded, failed,
    refused, vetoed, expired. `missing` is what is still to be signed, `reason` a sentence. `repeated`: the same was
    delivered before, and nothing was done again. `refusal` is set where the delivery itself was refused.
    """

    request: str = ""
    op: str = ""
    state: str
    missing: str = ""
    reason: str = ""
    repeated: bool = False
    refusal: Refusal | None = None


class Intake(Protocol):
    """The gate, as HTTP sees it. Each takes the bytes as they came, and never raises for what is wrong with them."""

    async def submit(self, envelope: bytes, via: str) -> Answer:
        """A request in its envelope."""
        ...

    async def approve(self, request_id: OpId, envelope: bytes, via: str) -> Answer:
        """More signatures over a request that is known."""
        ...

    async def veto(self, request_id: OpId, envelope: bytes, via: str) -> Answer:
        """A signed no."""
        ...


def opened(intake: Intake | None) -> Intake:
    """The gate. Raises Problem while it is closed."""
    if intake is None:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, CLOSED, type=GATE_CLOSED)
    return intake


def body(answer: Answer) -> dict[str, Json]:
    """What `trueup submit --json` prints, too."""
    return {
        "request": answer.request or None,
        "op": answer.op or None,
        "state": answer.state,
        "missing": answer.missing or None,
        "reason": answer.reason or None,
    }


def status(answer: Answer) -> HTTPStatus:
    """202 for what was taken, 200 for a repetition. Raises Problem for what was refused."""
    if answer.refusal is not None:
        kind = GATE_CLOSED if answer.refusal is Refusal.NO_KEYRING else REFUSED
        code = _STATUS.get(answer.refusal, HTTPStatus.FORBIDDEN)
        raise Problem(code, answer.reason, type=kind, more={**body(answer), "refusal": answer.refusal.value})
    return HTTPStatus.OK if answer.repeated else HTTPStatus.ACCEPTED
