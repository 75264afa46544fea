"""The page, rendered here: guests, operations, requests, the journal. It works without scripts, by reloading.

Rule kept here: every value is escaped by the template engine, and a name that a template does not know is an error.
"""

import base64
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from trueup.adapters.webauthn import ALGORITHMS
from trueup.core import lifecycle
from trueup.core.gate_webauthn import pack
from trueup.edges import standing
from trueup.edges.cli import story as stories
from trueup.edges.standing import GuestStatus, Status
from trueup.edges.web import api, assets, problems
from trueup.edges.web.doors import Visitor
from trueup.edges.web.entrance import Entrance
from trueup.edges.web.guard import VISITOR
from trueup.edges.web.news import encoded
from trueup.edges.web.next_steps import Step, next_step
from trueup.edges.web.paths import own_path
from trueup.edges.web.problems import Problem
from trueup.edges.web.rendering import rendered
from trueup.edges.web.signing import enrol
from trueup.edges.web.site import Site
from trueup.edges.web.target import Facts, Looks, same_guest
from trueup.edges.web.verifying import Verifying
from trueup.model import limits
from trueup.model.gate import RequestState, RequestView
from trueup.model.gate_answers import OPERATION_TYPE
from trueup.model.ids import OpId
from trueup.model.ops import OpView, Record
from trueup.model.plan import Bucket
from trueup.model.settings import Mode

_TAIL: Final = 50
_HISTORY: Final = 25

_Page = Callable[[Request], Awaitable[Response]]


def routes(site: Site) -> list[Route]:
    """All routes of the page."""
    pages = Pages(site)
    return [
        Route("/", pages.guests),
        Route("/guests/{vmid}", pages.guest),
        Route("/ops", pages.ops),
        Route("/ops/{op_id}", pages.op),
        Route("/requests", pages.requests),
        Route("/requests/{request_id}", pages.request),
        Route("/keys", pages.keys),
        Route("/keys/enrol", pages.enrol, methods=["POST"]),
        Route("/journal", pages.journal),
        Route("/journal/verify", pages.verify, methods=["POST"]),
        Route("/events", pages.events),
        *Entrance(site).routes(),
        Route("/static/{name}", assets.answer),
    ]


def error(site: Site, told: HTTPException) -> Response:
    """An error as a page, which shows nothing of the cluster."""
    return rendered(
        "error.html", told.status_code, told.headers, site=site, frame=None, problem=problems.document(told)
    )


class Pages:
    """Each page is a method."""

    def __init__(self, site: Site) -> None:
        """Render from `site`."""
        self._site = site
        self._entrance = Entrance(site)
        self._looks = Looks(site.board, site.clock)
        self._verifying = Verifying(site.journal_file, site.store, site.clock)

    async def _page(self, request: Request, name: str, **values: Any) -> Response:
        """Render a page in its frame: who asks, and what is to be seen on every page."""
        site = self._site
        visitor: Visitor = request.scope[VISITOR]
        pending = await site.journal.requests(state=RequestState.PENDING, limit=limits.OPS_PAGE)
        values.setdefault("status", await site.board.status(site.journal))
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        frame = {"csrf": visitor.csrf, "path": path, "pending": len(pending), "section": own_path(request)}
        return rendered(name, site=site, frame=frame, board=site.board, pending=pending, **values)

    # -- guests --------------------------------------------------------------------------------------------------------

    async def guests(self, request: Request) -> Response:
        """All guests, and before them what needs a person."""
        status = await self._site.board.status(self._site.journal)
        counts = [(sync, sum(1 for guest in status.guests if guest.sync == sync)) for sync in standing.SYNCS]
        first = sorted(status.guests, key=lambda guest: (_ORDER[guest.sync], guest.vmid))
        steps = {guest.vmid: self._step(guest, status) for guest in first}
        return await self._page(request, "guests.html", status=status, counts=counts, first=first, steps=steps)

    def _step(self, guest: GuestStatus, status: Status) -> Step:
        observing = status.mode == Mode.OBSERVE
        plan = self._site.board.plan_of(guest.vmid)
        return next_step(guest, plan, status.in_flight, status.pending, observing=observing)

    async def guest(self, request: Request) -> Response:
        """One guest."""
        vmid = api.vmid_of(request.path_params["vmid"])
        site = self._site
        status = await site.board.status(site.journal)
        known = next((guest for guest in status.guests if guest.vmid == vmid), None)
        ops = await site.journal.ops(vmid=vmid, limit=_HISTORY)
        if known is None and not ops:
            raise Problem(HTTPStatus.NOT_FOUND, f"nothing is known of a guest {vmid}")
        guest = known or standing.unknown(vmid, "", "no manifest declares it, and the last pass did not see it")
        plan, seen = site.board.plan_of(vmid), site.board.seen(vmid)
        return await self._page(
            request,
            "guest.html",
            status=status,
            guest=guest,
            step=self._step(guest, status),
            plan=plan,
            blocked=plan is not None and plan.bucket is Bucket.BLOCKED,
            seen=seen,
            want=site.board.want(vmid),
            ops=ops,
        )

    # -- operations ----------------------------------------------------------------------------------------------------

    async def ops(self, request: Request) -> Response:
        """Operations, unresolved ones first."""
        state, vmid, limit = _filter(request)
        ops = await api.find_ops(self._site.journal, state, vmid, limit)
        first = tuple(op for op in ops if op.unresolved is not None)
        rest = tuple(op for op in ops if op.unresolved is None)
        return await self._page(request, "ops.html", unresolved=first, ops=rest, state=state, vmid=vmid, limit=limit)

    async def op(self, request: Request) -> Response:
        """The whole story of one."""
        view, story = await api.story_of(self._site, request.path_params["op_id"])
        asked = await self._site.journal.request(view.op_id) if view.intent.one_shot else None
        ended = view.state in lifecycle.TERMINAL
        return await self._page(request, "op.html", op=view, story=story, asked=asked, ended=ended)

    # -- requests ------------------------------------------------------------------------------------------------------

    async def requests(self, request: Request) -> Response:
        """Requests, those that wait first."""
        found = await self._site.journal.requests(limit=limits.OPS_PAGE)
        others = [view for view in found if view.state is not RequestState.PENDING]
        ops = {view.request_id: op for view in others if (op := await self._op_of(view)) is not None}
        return await self._page(request, "requests.html", others=others, ops=ops)

    async def request(self, request: Request) -> Response:
        """One request: what it would do to which very guest, and who agreed."""
        request_id = request.path_params["request_id"]
        view = await self._site.journal.request(OpId(request_id)) if api.is_id(request_id) else None
        if view is None:
            raise Problem(HTTPStatus.NOT_FOUND, "there is no request with this id")
        facts = await self._looks.at(view.request.target.vmid, self._site.pve)
        signing = self._site.signing
        return await self._page(
            request,
            "request.html",
            view=view,
            facts=facts,
            same=_same(view, facts),
            op=await self._op_of(view),
            signing=signing,
            ruling=signing.ruling(view, self._site.clock.now_ms()),
            signers=signing.signers(view, self._site.clock.now_ms()),
            here=signing.is_here(request),
            statement=base64.b64decode(view.payload).decode("utf-8", "replace"),
            statement_type=OPERATION_TYPE,
        )

    async def _op_of(self, view: RequestView) -> OpView | None:
        return await self._site.journal.op(view.request_id) if view.state is RequestState.ACCEPTED else None

    # -- keys ----------------------------------------------------------------------------------------------------------

    async def keys(self, request: Request) -> Response:
        """Who may sign, with which keys; and a new security key."""
        signing = self._site.signing
        return await self._page(
            request,
            "keys.html",
            rows=signing.rows(self._site.clock.now_ms()),
            signing=signing,
            here=signing.is_here(request),
            challenge=pack(self._site.doors.challenge(request.scope[VISITOR])),
            algorithms=ALGORITHMS,
        )

    async def enrol(self, request: Request) -> Response:
        """A new security key becomes the line that the keyring's owner may add."""
        return api.answered(await enrol(request, self._site.doors, self._site.signing.party))

    # -- the journal ---------------------------------------------------------------------------------------------------

    async def journal(self, request: Request) -> Response:
        """Its end, and what a verification found."""
        head = self._site.board.head
        records = await self._site.journal.records(after_seq=max(0, head.seq - _TAIL), limit=_TAIL) if head else ()
        titles = {op_id: await self._title(op_id) for op_id in {record.op_id for record in records if record.op_id}}
        newest: list[Record] = list(reversed(records))
        return await self._page(
            request, "journal.html", head=head, records=newest, titles=titles, verified=self._verifying.last
        )

    async def _title(self, op_id: OpId) -> str:
        view = await self._site.journal.op(op_id)
        return stories.title(view) if view else ""

    async def verify(self, request: Request) -> Response:
        """Read all of it, and check it."""
        await self._entrance.checked(request)
        await self._verifying.verify()
        return RedirectResponse(f"{self._site.root}/journal", HTTPStatus.SEE_OTHER)

    # -- news ----------------------------------------------------------------------------------------------------------

    async def events(self, request: Request) -> Response:
        """Word that something is new; the page then reads itself anew."""
        return api.stream(request, self._site.changes, encoded("hello", {}))


_ORDER: Final = {sync: at for at, sync in enumerate(("blocked", "unknown", "drifted", "in_sync", "unmanaged"))}
"""What needs a person stands first."""


def _filter(request: Request) -> tuple[str, Any, int]:
    """Like the API's query; a form sends its empty fields too."""
    given = [(name, value) for name, value in request.query_params.multi_items() if value]
    scope = {**request.scope, "query_string": "&".join(f"{name}={value}" for name, value in given).encode()}
    return api.ops_query(Request(scope))


def _same(view: RequestView, facts: Facts) -> str:
    return same_guest(view.request.target, facts.guest) if facts.guest else ""
