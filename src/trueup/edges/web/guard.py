"""What every request passes: who asks, how much it sends, how long it takes; and what every answer carries.

Rule kept here: nobody who was not let in learns anything but that; nothing runs in a browser that is not ours.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trueup.edges.web import problems
from trueup.edges.web.doors import CSRF_HEADER, Doors
from trueup.edges.web.paths import own_path
from trueup.edges.web.problems import Problem
from trueup.model import limits

VISITOR: Final = "trueup.visitor"
FORMS: Final = frozenset({"/login", "/logout", "/journal/verify"})
"""Paths that take a form of ours: their CSRF token is a field, and they check it themselves."""

_OPEN: Final = frozenset({"/healthz", "/readyz", "/login"})
_STREAMS: Final = frozenset({"/v1/events", "/events"})
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """The first of our own code that a request meets."""

    def __init__(self, app: ASGIApp, doors: Doors, complain: Callable[[str], None]) -> None:
        """Guard `app`; `complain` hears of our own mistakes."""
        self._app = app
        self._doors = doors
        self._complain = complain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(raw=message["headers"])
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        request = Request(scope)
        try:
            await self._serve(request, receive, answer)
            return
        except Problem as error:
            problem = error
        except TimeoutError:
            problem = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the answer took too long; the agent is busy")
        except Exception as error:  # noqa: BLE001 - the one broad guard of a request: the agent goes on
            self._complain(f"{request.method} {request.url.path}: {type(error).__name__}: {error}")
            problem = problems.ours()
        if not started:
            await problems.response(problem)(scope, receive, answer)

    async def _serve(self, request: Request, receive: Receive, answer: Send) -> None:
        scope = request.scope
        refused = self._refused(request)
        if refused is not None:
            await refused(scope, receive, answer)
            return
        body = _bounded(receive, Headers(scope=scope))
        if request.method in _READS and own_path(request) not in _STREAMS:
            async with asyncio.timeout(limits.HTTP_REQUEST_TIMEOUT_S):
                await self._app(scope, body, answer)
        else:
            await self._app(scope, body, answer)  # what is handed in is not broken off half-way

    def _refused(self, request: Request) -> Response | None:
        """The answer to somebody who is not let in; None for everybody else."""
        path = own_path(request)
        visitor = self._doors.visitor(request)
        request.scope[VISITOR] = visitor
        if _length(request) > limits.HTTP_BODY_MAX_BYTES:
            return problems.response(_too_large())
        if path in _OPEN or path.startswith("/static/"):
            return None
        if visitor is None:
            return _log_in_first(request)
        if request.method not in _READS and path not in FORMS:
            given = request.headers.get(CSRF_HEADER, "")
            if not self._doors.may_post(request, visitor, given):
                what = f"a browser has to send its page's token in {CSRF_HEADER}"
                return problems.response(Problem(HTTPStatus.FORBIDDEN, what))
        return None


def _log_in_first(request: Request) -> Response:
    if problems.wants_page(request) and request.method in _READS:
        after = quote(request.url.path + (f"?{request.url.query}" if request.url.query else ""), safe="/")
        to = "/login" if after == "/" else f"/login?after={after}"
        if "hx-request" in request.headers:
            return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": "/login"})
        return RedirectResponse(to, status_code=HTTPStatus.SEE_OTHER)
    return problems.response(
        Problem(HTTPStatus.UNAUTHORIZED, "a token is needed", headers={"www-authenticate": 'Bearer realm="trueup"'})
    )


def _length(request: Request) -> int:
    given = request.headers.get("content-length", "0")
    return int(given) if given.isascii() and given.isdigit() else 0


def _bounded(receive: Receive, headers: Headers) -> Receive:
    """The body, as far as it is not too large and comes in time."""
    got = 0
    expects_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    ends: float | None = None

    async def bounded() -> Message:
        nonlocal got, ends
        if not expects_body:
            return await receive()
        now = asyncio.get_running_loop().time()
        ends = ends or now + limits.HTTP_REQUEST_TIMEOUT_S
        try:
            async with asyncio.timeout_at(ends):
                message = await receive()
        except TimeoutError:
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time", headers=_HANG_UP) from None
        got += len(message.get("body", b""))
        if got > limits.HTTP_BODY_MAX_BYTES:
            raise _too_large()
        return message

    return bounded


_HANG_UP: Final = {"connection": "close"}


def _too_large() -> Problem:
    most = limits.HTTP_BODY_MAX_BYTES // 1024
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {most} KiB", headers=_HANG_UP)
