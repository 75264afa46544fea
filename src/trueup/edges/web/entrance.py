"""How people come in and go: the token is asked for once, and a form of ours is known by its CSRF token."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from trueup.edges.web.doors import Doors, Visitor
from trueup.edges.web.guard import VISITOR
from trueup.edges.web.problems import Problem
from trueup.edges.web.rendering import rendered
from trueup.ports import Clock

_WRONG_S: Final = 0.5
"""Before a wrong token is answered: guessing is hopeless anyway, and need not be fast."""

_FORM_FIELDS_MAX: Final = 10


class House(Protocol):
    """What people come into: the site of a cluster, or the hall before several of them."""

    @property
    def doors(self) -> Doors:
        """Who lets in."""
        ...

    @property
    def clock(self) -> Clock:
        """Our clock."""
        ...

    @property
    def complain(self) -> Callable[[str], None]:
        """Writes into the log."""
        ...

    @property
    def cluster(self) -> str:
        """The cluster's name; '' = several."""
        ...

    @property
    def root(self) -> str:
        """The prefix of its paths."""
        ...


class Entrance:
    """The way in and out."""

    def __init__(self, house: House) -> None:
        """Ask for the token of `house`."""
        self._house = house

    def routes(self) -> list[Route]:
        """Both routes."""
        return [
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
        ]

    async def login(self, request: Request) -> Response:
        """Ask for the token, and let in who has it."""
        doors = self._house.doors
        if request.method != "POST":
            return self._ask(request, "", HTTPStatus.OK, request.query_params.get("after", "/"))
        given = await _form(request)
        after = _local(given.get("after", "/"))
        if not doors.may_log_in(request, given.get("csrf", "")):
            return self._ask(request, "That form was too old, or not ours. Try again.", HTTPStatus.FORBIDDEN, after)
        source = request.client.host if request.client else ""
        wait_s = doors.attempts.wait_s(source)
        if wait_s:
            wrong = f"Too many wrong tokens came from where you are. Try again in {wait_s} s."
            return self._ask(request, wrong, HTTPStatus.TOO_MANY_REQUESTS, after, {"retry-after": str(wait_s)})
        if not doors.is_token(given.get("token", "").strip()):
            doors.attempts.failed(source)  # before anything is awaited: tries at once are counted too
            self._house.complain("a login with a wrong token was refused")
            await self._house.clock.sleep(_WRONG_S)
            return self._ask(request, "That is not the token.", HTTPStatus.FORBIDDEN, after)
        doors.attempts.succeeded(source)
        return RedirectResponse(after, HTTPStatus.SEE_OTHER, {"set-cookie": doors.log_in()})

    def _ask(
        self, request: Request, wrong: str, status: HTTPStatus, after: str, more: Mapping[str, str] | None = None
    ) -> Response:
        csrf, cookie = self._house.doors.before_login(request)
        headers = {"set-cookie": cookie, **(more or {})}
        return rendered(
            "login.html", status, headers, site=self._house, frame=None, csrf=csrf, wrong=wrong, after=after
        )

    async def logout(self, request: Request) -> Response:
        """End the session."""
        visitor = await self.checked(request)
        headers = {"set-cookie": self._house.doors.log_out(visitor), "clear-site-data": '"cache"'}
        return RedirectResponse("/login", HTTPStatus.SEE_OTHER, headers)

    async def checked(self, request: Request) -> Visitor:
        """Who sent a form of ours. Raises Problem for any other form."""
        visitor: Visitor = request.scope[VISITOR]
        if not self._house.doors.may_post(request, visitor, (await _form(request)).get("csrf", "")):
            raise Problem(HTTPStatus.FORBIDDEN, "that form was too old, or not ours; reload the page and try again")
        return visitor


async def _form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "this takes a form")
    try:
        fields = parse_qs((await request.body()).decode(), keep_blank_values=True, max_num_fields=_FORM_FIELDS_MAX)
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "that is no form") from None
    return {name: values[0] for name, values in fields.items()}


def _local(path: str) -> str:
    """A path of ours to go to after a login: nothing that a browser would take for another host."""
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if plain and path.isascii() else "/"
