"""Several sites behind one address: each cluster's below `/c/NAME`, and before them a page that lists them.

Rule kept here: a cluster whose agent does not run takes nothing from the others. What it would have answered says why
it does not, and everything that speaks of all of them goes on without it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from prometheus_client import Metric
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from trueup.edges import metrics, standing
from trueup.edges.cli.output import Json, iso
from trueup.edges.web import api, assets, health, openapi_hall, problems
from trueup.edges.web.doors import Doors, Visitor
from trueup.edges.web.entrance import Entrance
from trueup.edges.web.guard import VISITOR, Guard
from trueup.edges.web.health import Health, Phase
from trueup.edges.web.news import News, encoded
from trueup.edges.web.problems import Problem
from trueup.edges.web.rendering import rendered
from trueup.edges.web.site import Site, app
from trueup.model.errors import TrueupError
from trueup.ports import Clock

PREFIX: Final = "/c/"
DOWN: Final = "down"

_STIR_S: Final = 5.0
"""Between two words to open start pages that something may be new."""


class Place:
    """One cluster's place in the hall. `problem` says why its agent ended, until it works again."""

    def __init__(self, name: str) -> None:
        """Nobody is there yet."""
        self.name = name
        self.root = PREFIX + name
        self.site: Site | None = None
        self.app: ASGIApp | None = None
        self.problem = ""

    @asynccontextmanager
    async def taken(self, site: Site) -> AsyncGenerator[None]:
        """The cluster's agent serves while this is open."""
        self.site, self.app = site, app(site)
        try:
            yield
        finally:
            self.site = self.app = None

    @property
    def health(self) -> Health:
        """How far its agent has come."""
        return self.site.board.health if self.site else Health()

    @property
    def phase(self) -> str:
        """The same in a word; `down` while there is no agent."""
        return DOWN if self.problem and not self.site else self.health.phase.value

    @property
    def ready(self) -> bool:
        """Whether its agent works, or stands by."""
        return self.health.leads or self.health.phase is Phase.STANDBY


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the start page says of one cluster. Numbers are None where nobody knows them."""

    place: Place
    syncs: Mapping[str, int] | None
    in_flight: int | None
    unresolved: int | None
    passed_at_ms: int
    problem: str


class Hall:
    """The hall. It is a house of its own (`web.entrance.House`): whoever was let in may go everywhere."""

    cluster = ""
    root = ""

    def __init__(self, names: Sequence[str], doors: Doors, clock: Clock, complain: Callable[[str], None]) -> None:
        """Make room for these clusters."""
        self.places = {name: Place(name) for name in names}
        self.doors = doors
        self.clock = clock
        self.complain = complain
        self.changes = News()
        self._process = metrics.of_the_process()
        self._front = self._guarded(
            [
                Route("/", self._page),
                Route("/events", self._events),
                Route("/v1/clusters", self._clusters),
                Route("/c/{name}", self._to_site),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/openapi.json", self._document),
                Route("/static/{name}", assets.answer),
                *Entrance(self).routes(),
            ]
        )
        absent = [*health.routes(Health()), Route("/{rest:path}", self._absent, methods=["GET", "POST"])]
        self._nobody = self._guarded(absent)

    def _guarded(self, routes: Sequence[Route]) -> ASGIApp:
        async def problem(request: Request, error: Exception) -> Response:
            told = error if isinstance(error, HTTPException) else problems.ours()
            if not problems.wants_page(request):
                return problems.response(told)
            said = problems.document(told)
            return rendered("error.html", told.status_code, told.headers, site=self, frame=None, problem=said)

        async def ours(_request: Request, _error: Exception) -> Response:
            return problems.response(problems.ours())  # and the guard hears of it

        handlers: dict[int | type[Exception], ExceptionHandler] = {HTTPException: problem, Exception: ours}
        inner = Starlette(routes=[*routes], exception_handlers=handlers)
        inner.router.redirect_slashes = False
        return Guard(inner, self.doors, self.complain)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request: of the hall, or of the site that its path leads to."""
        path: str = scope.get("path", "")
        name, slash, _ = path.removeprefix(PREFIX).partition("/")
        if not path.startswith(PREFIX) or not slash:
            await self._front(scope, receive, send)
            return
        place = self.places.get(name)
        below = place.app if place is not None and place.app is not None else self._nobody
        await below({**scope, "root_path": PREFIX + name}, receive, send)

    async def stir(self) -> None:
        """Let start pages that are open be read anew, for ever."""
        while True:
            await self.clock.sleep(_STIR_S)
            if self.changes.readers:
                self.changes.publish_once("changed", {})

    # -- what speaks of all --------------------------------------------------------------------------------------------

    async def rows(self) -> list[Row]:
        """How each cluster is doing, those that need a person first."""
        rows = [await _row(place) for place in self.places.values()]
        return sorted(rows, key=lambda row: not (row.problem or row.unresolved))

    async def _page(self, request: Request) -> Response:
        visitor: Visitor = request.scope[VISITOR]
        frame = {"csrf": visitor.csrf, "path": "/", "pending": 0, "section": "/"}
        ready = sum(place.ready for place in self.places.values())
        return rendered("hall.html", site=self, frame=frame, rows=await self.rows(), ready=ready)

    async def _to_site(self, request: Request) -> Response:
        return RedirectResponse(f"{request.url.path}/", HTTPStatus.TEMPORARY_REDIRECT)

    async def _events(self, request: Request) -> Response:
        return api.stream(request, self.changes, encoded("hello", {}))

    async def _clusters(self, _request: Request) -> Response:
        return api.answered({"clusters": [_json(row) for row in await self.rows()]})

    async def _document(self, _request: Request) -> Response:
        return api.answered(openapi_hall.document())

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"alive": True, "clusters": self._phases()})

    async def _readyz(self, _request: Request) -> Response:
        ready = all(place.ready for place in self.places.values())
        return JSONResponse({"ready": ready, "clusters": self._phases()}, status_code=200 if ready else 503)

    def _phases(self) -> dict[str, int]:
        """How many clusters are how far; no names, since everybody may ask."""
        phases = [place.phase for place in self.places.values()]
        return {phase: phases.count(phase) for phase in sorted(set(phases))}

    async def _metrics(self, _request: Request) -> Response:
        families = [*self._process.collect()]
        for place in self.places.values():
            families += await _measured(place)
        # Many clusters make a long answer: tens of thousands of lines that passes should not wait for.
        return api.exposed(await asyncio.to_thread(metrics.exposition, families))

    async def _absent(self, request: Request) -> Response:
        name = request.scope["root_path"].removeprefix(PREFIX)
        place = self.places.get(name)
        if place is None:
            raise Problem(HTTPStatus.NOT_FOUND, "there is no cluster of this name here; / lists them")
        why = f"its agent does not run, and is begun again: {place.problem}" if place.problem else "its agent begins"
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, why, headers={"retry-after": "5"})


async def _row(place: Place) -> Row:
    site = place.site
    if site is None:
        return Row(place=place, syncs=None, in_flight=None, unresolved=None, passed_at_ms=0, problem=place.problem)
    board, problem = site.board, ""
    try:
        in_flight = await site.journal.in_flight()
    except TrueupError as error:
        in_flight, problem = None, str(error)
    seen = [guest.sync for guest in standing.seen(board.survey)] if board.survey else None
    return Row(
        place=place,
        syncs={sync: seen.count(sync) for sync in standing.SYNCS if sync in seen} if seen is not None else None,
        in_flight=len(in_flight) if in_flight is not None else None,
        unresolved=sum(op.unresolved is not None for op in in_flight) if in_flight is not None else None,
        passed_at_ms=board.passed_at_ms,
        problem=problem or next(iter(reversed(board.problems)), "") or place.problem,
    )


def _json(row: Row) -> dict[str, Json]:
    place = row.place
    return {
        "name": place.name,
        "path": f"{place.root}/",
        "phase": place.phase,
        "ready": place.ready,
        "epoch": place.health.epoch or None,
        "guests": {sync: row.syncs.get(sync, 0) for sync in standing.SYNCS} if row.syncs is not None else None,
        "in_flight": row.in_flight,
        "unresolved": row.unresolved,
        "as_of": iso(row.passed_at_ms),
        "problem": row.problem or None,
    }


async def _measured(place: Place) -> Sequence[Metric]:
    site = place.site
    if site is None:
        return [metrics.down(place.name)]
    try:
        return await site.metrics.read(site.journal, site.board, site.news, site.clock.now_ms)
    except TrueupError:
        return [metrics.down(place.name)]  # its own pages say why
