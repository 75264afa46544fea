"""Errors over HTTP: RFC 9457 problem documents, each with what happened and what to do; pages get a page.

Rule kept here: nothing of a request is quoted back, and no error of ours shows its insides.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from trueup.edges.cli.output import Json
from trueup.edges.web.paths import own_path

MEDIA_TYPE: Final = "application/problem+json"
GATE_CLOSED: Final = "urn:trueup:problem:gate-closed"
REFUSED: Final = "urn:trueup:problem:refused"

_ABOUT_BLANK: Final = "about:blank"

_REMEDIES: Final = {
    HTTPStatus.UNAUTHORIZED: "send the token of [http] token_file as `Authorization: Bearer ...`, or log in on /login",
    HTTPStatus.NOT_FOUND: "see /openapi.json for what there is",
    HTTPStatus.METHOD_NOT_ALLOWED: "use one of the methods in the Allow header",
    HTTPStatus.REQUEST_TIMEOUT: "send the whole request at once",
    HTTPStatus.INTERNAL_SERVER_ERROR: "see the agent's log",
}


class Problem(HTTPException):
    """An answer that is an error. `type` is a URN of ours, or about:blank; `more` are further members."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        type: str = _ABOUT_BLANK,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Json] | None = None,
    ) -> None:
        """Keep what the document says."""
        super().__init__(status, detail, dict(headers or {}))
        self.type = type
        self.more = dict(more or {})


def ours() -> Problem:
    """Something of ours went wrong; the log says what."""
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something of ours went wrong")


def document(error: HTTPException) -> dict[str, Json]:
    """The problem document of an error."""
    status = HTTPStatus(error.status_code)
    detail = error.detail if error.detail != status.phrase else ""
    kind, more = (error.type, error.more) if isinstance(error, Problem) else (_ABOUT_BLANK, {})
    remedy = _REMEDIES.get(status, "")
    return {
        "type": kind,
        "title": "The gate is closed" if kind == GATE_CLOSED else status.phrase,
        "status": status.value,
        **({"detail": detail} if detail else {}),
        **({"remedy": remedy} if remedy else {}),
        **more,
    }


def response(error: HTTPException) -> Response:
    """The answer of an error, for programs."""
    return Response(
        msgspec.json.encode(document(error)),
        status_code=error.status_code,
        headers=error.headers,
        media_type=MEDIA_TYPE,
    )


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks, for something that is a page."""
    path = own_path(request)
    if path.startswith(("/v1/", "/static/")) or path in {"/metrics", "/openapi.json", "/healthz", "/readyz"}:
        return False
    return "text/html" in request.headers.get("accept", "")
