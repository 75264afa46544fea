"""Where signed requests come in over HTTP: the gate behind it decides, this only carries bytes and answers.

Rule kept here: transport authentication never replaces a signature. Whoever holds the HTTP token may hand in an
envelope; what it may do is said by its signatures alone.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Protocol

from trueup.core.gate_envelope import parse_envelope
from trueup.core.gate_form import parse_veto
from trueup.edges.cli.output import Json
from trueup.edges.web.problems import GATE_CLOSED, REFUSED, Problem
from trueup.model.gate import Refusal
from trueup.model.gate_answers import VETO_TYPE, Answer, GateRefused, Outcome

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


class Intake(Protocol):
    """The gate, as HTTP sees it (`engine.gate.Gate`). It takes the bytes as they came."""

    async def submit(self, content: bytes, via: str) -> Answer:
        """Any signed statement: a request, more signatures over one, a veto or a resolution."""
        ...

    async def approve(self, request_id: str, content: bytes, via: str) -> Answer:
        """More signatures over one known request."""
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
    if answer.outcome is Outcome.REFUSED:
        kind = GATE_CLOSED if answer.refusal is Refusal.NO_KEYRING else REFUSED
        code = _STATUS.get(answer.refusal, HTTPStatus.FORBIDDEN) if answer.refusal else HTTPStatus.FORBIDDEN
        refusal = answer.refusal.value if answer.refusal else None
        raise Problem(code, answer.reason, type=kind, more={**body(answer), "refusal": refusal})
    return HTTPStatus.OK if answer.outcome is Outcome.REPETITION else HTTPStatus.ACCEPTED


def require_veto(content: bytes, request_id: str) -> None:
    """Raise Problem for a well-formed statement that is no veto of this request; all else is for the gate to refuse."""
    try:
        envelope = parse_envelope(content)
        named = parse_veto(envelope.payload).request_id if envelope.payload_type == VETO_TYPE else ""
    except GateRefused:
        return
    if named != request_id:
        raise Problem(HTTPStatus.CONFLICT, "this is no veto of this request", type=REFUSED)
