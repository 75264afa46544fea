"""The agent's HTTP, put together: what it is made of as one value, and the application over it."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler

from trueup.edges.metrics import Metrics
from trueup.edges.parts import JournalFile
from trueup.edges.web import problems
from trueup.edges.web.board import Board
from trueup.edges.web.doors import Doors
from trueup.edges.web.guard import Guard
from trueup.edges.web.intake import Intake
from trueup.edges.web.news import News
from trueup.edges.web.problems import Problem
from trueup.edges.web.signing import Signing
from trueup.model.errors import Corrupt, JournalFailed, TrueupError
from trueup.model.settings import StoreSettings
from trueup.ports import Clock, JournalReader, Pve


@dataclass(slots=True, kw_only=True)
class Site:
    """What HTTP is made of.

    `journal` is a reader of our own, beside the writer's. `changes` tells pages that something is new, without saying
    what. `intake` is the gate, None while it is closed; `pve` is for looks at single guests, None before there is one.
    `complain` writes into the log. `signing` is what the page knows of keys. `root` is the prefix of its paths where
    one agent has several sites ('' = it is the only one).
    """

    board: Board
    doors: Doors
    journal: JournalReader
    journal_file: JournalFile
    store: StoreSettings
    clock: Clock
    metrics: Metrics
    news: News
    changes: News
    complain: Callable[[str], None]
    cluster: str
    signing: Signing
    root: str = ""
    intake: Intake | None = None
    pve: Pve | None = None


def app(site: Site) -> ASGIApp:
    """The application."""
    from trueup.edges.web import api, health, pages

    async def problem(request: Request, error: Exception) -> Response:
        told = error if isinstance(error, HTTPException) else _told(error)
        return pages.error(site, told) if problems.wants_page(request) else problems.response(told)

    async def ours(_request: Request, _error: Exception) -> Response:
        return problems.response(problems.ours())  # and the guard hears of it

    handlers: dict[int | type[Exception], ExceptionHandler] = {
        HTTPException: problem,
        TrueupError: problem,
        Exception: ours,
    }
    routes = [*health.routes(site.board.health), *api.routes(site), *pages.routes(site)]
    inner = Starlette(routes=routes, exception_handlers=handlers)
    inner.router.redirect_slashes = False
    return Guard(inner, site.doors, site.complain)


def _told(error: Exception) -> Problem:
    """An error of ours that a reader should hear of: the journal cannot be read, as a rule."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, Corrupt | JournalFailed):
        return Problem(status, str(error))
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
