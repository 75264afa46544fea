"""The API: the same shapes as the commands' `--json`, from what the last pass saw and what the journal holds."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from trueup.edges import metrics, standing
from trueup.edges.cli import shapes
from trueup.edges.cli import story as stories
from trueup.edges.cli.output import KIND_OF, Json, iso
from trueup.edges.web import asked, intake, openapi
from trueup.edges.web.board import Board
from trueup.edges.web.news import News, encoded
from trueup.edges.web.problems import Problem
from trueup.edges.web.site import Site
from trueup.model import limits
from trueup.model.gate import RequestState, RequestView
from trueup.model.ids import VMID_MAX, VMID_MIN, OpId, Vmid
from trueup.model.ops import OpState, OpView
from trueup.ports import JournalReader

UNRESOLVED: Final = "unresolved"
OP_STATES: Final = (*(state.value for state in OpState), UNRESOLVED)

_GUEST_OPS: Final = 50
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Handler = Callable[[Request], Awaitable[Response]]


def routes(site: Site) -> list[Route]:
    """All routes of the API."""
    reads: dict[str, Callable[[Request], Awaitable[Json]]] = {
        "/openapi.json": lambda _: _document(site),
        "/v1/status": lambda _: _status(site),
        "/v1/guests": lambda _: _guests(site),
        "/v1/guests/{vmid}": lambda request: _guest(site, request),
        "/v1/plan": lambda _: _plan(site),
        "/v1/ops": lambda request: _ops(site, request),
        "/v1/ops/{op_id}": lambda request: _op(site, request),
        "/v1/requests/{request_id}": lambda request: _request(site, request),
    }
    return [
        *(Route(path, _json(read)) for path, read in reads.items()),
        Route("/v1/requests", _requests(site), methods=["GET", "POST"]),
        Route("/v1/requests/{request_id}/approvals", _approvals(site), methods=["POST"]),
        Route("/v1/requests/{request_id}/veto", _veto(site), methods=["POST"]),
        Route("/v1/events", _events(site)),
        Route("/metrics", _metrics(site)),
    ]


def answered(document: Json, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(document), status_code=status, media_type="application/json")


def _json(read: Callable[[Request], Awaitable[Json]]) -> Handler:
    async def answer(request: Request) -> Response:
        return answered(await read(request))

    return answer


async def _document(site: Site) -> Json:
    return {**openapi.document(), "servers": [{"url": site.root or "/"}]}


# -- guests ------------------------------------------------------------------------------------------------------------


async def _status(site: Site) -> Json:
    return {**standing.as_json(await site.board.status(site.journal)), **_as_of(site.board)}


async def _guests(site: Site) -> Json:
    status = await site.board.status(site.journal)
    return {"guests": [standing.guest_json(guest) for guest in status.guests], **_as_of(site.board)}


async def _guest(site: Site, request: Request) -> Json:
    vmid = vmid_of(request.path_params["vmid"])
    status = await site.board.status(site.journal)
    known = next((guest for guest in status.guests if guest.vmid == vmid), None)
    ops = await site.journal.ops(vmid=vmid, limit=_GUEST_OPS)
    if known is None and not ops:
        raise Problem(HTTPStatus.NOT_FOUND, f"nothing is known of a guest {vmid}")
    guest = known or standing.unknown(vmid, "", "no manifest declares it, and the last pass did not see it")
    plan = site.board.plan_of(vmid)
    row = site.board.survey.world.rows.get(vmid) if site.board.survey else None
    where, kind = (plan.node, plan.type) if plan else (row.node, row.type) if row else (None, None)
    return {
        **standing.guest_json(guest),
        "kind": KIND_OF[kind] if kind else None,
        "node": where,
        "plan": shapes.change(plan) if plan else None,
        "ops": shapes.ops(ops),
        **_as_of(site.board),
    }


async def _plan(site: Site) -> Json:
    if site.board.survey is None:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "no pass has been made yet, so there is no plan",
            headers={"retry-after": "2"},
        )
    return {**shapes.plan(site.board.survey.plan), **_as_of(site.board)}


def _as_of(board: Board) -> dict[str, Json]:
    """When the last pass ended: all that was seen of the cluster is of then."""
    return {"as_of": iso(board.passed_at_ms)}


def vmid_of(text: str) -> Vmid:
    """A vmid in a path. Raises Problem 404 for what can be none."""
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(VMID_MAX))
    if not digits or not VMID_MIN <= int(text) <= VMID_MAX:
        raise Problem(HTTPStatus.NOT_FOUND, f"a vmid is a number from {VMID_MIN} to {VMID_MAX}")
    return Vmid(int(text))


# -- operations --------------------------------------------------------------------------------------------------------


async def _ops(site: Site, request: Request) -> Json:
    state, vmid, limit = ops_query(request)
    return {"ops": shapes.ops(await find_ops(site.journal, state, vmid, limit))}


def ops_query(request: Request) -> tuple[str, Vmid | None, int]:
    """State ('' = any), vmid and limit, as the query gives them. Raises Problem 400."""
    query = request.query_params
    state, vmid, limit = query.get("state", ""), query.get("vmid", ""), query.get("limit", "")
    if state and state not in OP_STATES:
        raise _bad(f"'state' is one of {', '.join(OP_STATES)}")
    return (
        state,
        Vmid(_whole("vmid", vmid, range(VMID_MIN, VMID_MAX + 1))) if vmid or "vmid" in query else None,
        _whole("limit", limit, range(1, limits.OPS_PAGE_MAX + 1)) if limit or "limit" in query else limits.OPS_PAGE,
    )


async def find_ops(journal: JournalReader, state: str, vmid: Vmid | None, limit: int) -> tuple[OpView, ...]:
    """Operations, the newest first."""
    if state != UNRESOLVED:
        return await journal.ops(state=OpState(state) if state else None, vmid=vmid, limit=limit)
    found = [op for op in await journal.in_flight() if op.unresolved and vmid in {None, op.intent.vmid}]
    return tuple(reversed(found))[:limit]


async def _op(site: Site, request: Request) -> Json:
    view, story = await story_of(site, request.path_params["op_id"])
    return {**shapes.op(view), **shapes.details(view), **stories.as_json(story)}


async def story_of(site: Site, op_id: str) -> tuple[OpView, stories.Story]:
    """One operation and its story. Raises Problem 404."""
    view = await site.journal.op(OpId(op_id)) if is_id(op_id) else None
    if view is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there is no operation with this id")
    records = await site.journal.records(op_id=view.op_id)
    return view, stories.tell(view, records, agent_lives=True)


def is_id(text: str) -> bool:
    """Whether this may be an id of ours: nothing else is asked of the journal."""
    return 0 < len(text) <= _ID_MAX and text.isascii() and text.replace("-", "").isalnum()


_ID_MAX: Final = 64


def _whole(name: str, text: str, allowed: range) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(VMID_MAX)) and int(text) in allowed:
        return int(text)
    raise _bad(f"'{name}' is a whole number from {allowed.start} to {allowed.stop - 1}")


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, detail)


# -- requests ----------------------------------------------------------------------------------------------------------


def _requests(site: Site) -> Handler:
    async def answer(request: Request) -> Response:
        if request.method == "POST":
            taken = await intake.opened(site.intake).submit(await request.body(), intake.VIA)
            return answered(intake.body(taken), intake.status(taken))
        state = request.query_params.get("state", "")
        if state and state not in set(RequestState):
            raise _bad(f"'state' is one of {', '.join(RequestState)}")
        found = await site.journal.requests(state=RequestState(state) if state else None, limit=limits.OPS_PAGE)
        return answered({"requests": [asked.request(view) for view in found]})

    return answer


async def _request(site: Site, request: Request) -> Json:
    return asked.request(await _known(site, request))


def _approvals(site: Site) -> Handler:
    async def answer(request: Request) -> Response:
        gate = intake.opened(site.intake)
        known = await _known(site, request)
        taken = await gate.approve(known.request_id, await request.body(), intake.VIA)
        return answered(intake.body(taken), intake.status(taken))

    return answer


def _veto(site: Site) -> Handler:
    async def answer(request: Request) -> Response:
        gate = intake.opened(site.intake)
        known = await _known(site, request)
        content = await request.body()
        intake.require_veto(content, known.request_id)
        taken = await gate.submit(content, intake.VIA)
        return answered(intake.body(taken), intake.status(taken))

    return answer


async def _known(site: Site, request: Request) -> RequestView:
    request_id = request.path_params["request_id"]
    view = await site.journal.request(OpId(request_id)) if is_id(request_id) else None
    if view is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there is no request with this id")
    return view


# -- events and metrics ------------------------------------------------------------------------------------------------


def _events(site: Site) -> Handler:
    async def answer(request: Request) -> Response:
        return stream(request, site.news, encoded("hello", hello(site.board)))

    return answer


def hello(board: Board) -> dict[str, Json]:
    """What a new listener is told first."""
    health = board.health
    return {"phase": health.phase.value, "epoch": health.epoch or None, "head": standing.head_json(board.head)}


def stream(request: Request, news: News, first: bytes) -> Response:
    """An event stream. Raises Problem where there are too many listeners."""
    headers = {"x-accel-buffering": "no"}
    if request.method == "HEAD":
        return Response(media_type="text/event-stream", headers=headers)
    if news.readers >= limits.EVENT_STREAMS_MAX:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "there are too many listeners", headers={"retry-after": "30"})
    return StreamingResponse(_until_closed(news, first), media_type="text/event-stream", headers=headers)


async def _until_closed(news: News, first: bytes) -> AsyncGenerator[bytes]:
    reading = news.read(first)
    try:
        async for chunk in reading:
            yield chunk
    finally:
        await reading.aclose()


def exposed(body: bytes) -> Response:
    """Metrics as Prometheus reads them."""
    return Response(body, headers={"content-type": _METRICS_TYPE})


def _metrics(site: Site) -> Handler:
    process = metrics.of_the_process()

    async def answer(_request: Request) -> Response:
        own = await site.metrics.read(site.journal, site.board, site.news, site.clock.now_ms)
        return exposed(metrics.exposition([*process.collect(), *own]))

    return answer


def names(routes: Iterable[Route]) -> set[tuple[str, str]]:
    """Path and method of every route, for whoever compares them with the document."""
    return {(route.path, method) for route in routes for method in route.methods or () if method != "HEAD"}
