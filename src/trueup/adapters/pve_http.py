"""HTTP to PVE with aiohttp: the one place that knows it, its errors included.

Rule kept here: a mutation is sent once, on a connection that nobody used before. aiohttp sends a PUT or a DELETE a
second time when the server hangs up, so a middleware inside its loop lets a request through once, and `_OneShot`, at
the line before the first byte, again once. Only there is `send_by` checked and a request noted as sent: after TLS,
with no await between the note and the write. What failed before that line has left no byte with anybody.
"""

import re
import ssl
from asyncio import sslproto
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from yarl import URL

from trueup.adapters.http_client import Connection, aiohttp
from trueup.adapters.pve import PveClient
from trueup.adapters.pve_api import PveApi
from trueup.adapters.pve_errors import FOREIGN, broken
from trueup.adapters.pve_keeper import PveKeeper
from trueup.adapters.pve_wire import Break, Broken, HttpAnswer, HttpRequest
from trueup.model.errors import BadInput, require
from trueup.model.ids import TokenId
from trueup.model.limits import (
    CONNECT_TIMEOUT_S,
    ENDPOINTS_MAX,
    MUTATION_TIMEOUT_S,
    READ_TIMEOUT_S,
    SLOTS_PER_NODE,
)
from trueup.model.settings import CaFile, Fingerprint, Insecure, Secret, Trust
from trueup.ports import Clock

KEEP_ALIVE_S: Final = 4.0
"""How long an idle connection is kept: PVE closes its end after 5 s, and a read on a closed one has to be repeated."""

HEADER_MAX_BYTES: Final = 64 * 1024
"""Longest status line or header that is read. PVE's reason phrases carry whole error texts."""

TLS_BUFFER_BYTES: Final = 32 * 1024
"""What is set aside for each connection to read into: two records of TLS (RFC 8446, 5.1), an eighth of asyncio's."""

sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES  # 64 connections would take 16 MB; no parameter leads there

_TOKEN: Final = re.compile(r"[^\s:/@!=]+@[A-Za-z0-9.\-_]+![A-Za-z0-9.\-_]+")
_SECRET: Final = re.compile(r"[!-~]+")
_BODY_METHODS: Final = frozenset({"POST", "PUT"})
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}

_Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Where PVE is, whom to trust there, and who we are. `endpoints` are `https://host:port`, at least one."""

    endpoints: Sequence[str]
    trust: Trust
    token: TokenId
    secret: Secret


@asynccontextmanager
async def connect(
    login: Login, clock: Clock, *, slots_per_node: int = SLOTS_PER_NODE
) -> AsyncGenerator[PveClient, None]:
    """Make a client of a cluster. Nothing is sent yet; `PveClient.version` tells whether all is right.

    Raises:
        BadInput: an endpoint, the token, its secret or the CA file cannot be used.
    """
    async with connect_api(login, clock, slots_per_node) as api:
        yield PveClient(api=api, token=login.token)


@asynccontextmanager
async def connect_keeper(login: Login, clock: Clock, *, user: str) -> AsyncGenerator[PveKeeper, None]:
    """Make the keeper, with its own login, of the tokens of `user` (`name@realm`). Raises BadInput."""
    async with connect_api(login, clock, SLOTS_PER_NODE) as api:
        yield PveKeeper(api=api, user=user)


@asynccontextmanager
async def connect_api(login: Login, clock: Clock, slots_per_node: int) -> AsyncGenerator[PveApi, None]:
    """Make the requests of one login, for what has no port of its own. Nothing is sent yet. Raises BadInput."""
    endpoints = [_checked(endpoint) for endpoint in login.endpoints]
    if len(endpoints) > ENDPOINTS_MAX:
        raise BadInput(what=f"{len(endpoints)} endpoints", remedy=f"at most {ENDPOINTS_MAX} are used")
    async with HttpTransport(login=login, clock=clock) as transport:
        yield PveApi(transport=transport, clock=clock, endpoints=endpoints, slots_per_node=slots_per_node)


class HttpTransport:
    """`Transport` over TLS, opened by `async with`. Two sessions: reads keep connections, mutations keep none."""

    def __init__(self, *, login: Login, clock: Clock) -> None:
        """Check the login. Raises BadInput."""
        self._clock = clock
        self._tls = _tls(login.trust)
        self._authorization = _authorization(login.token, login.secret)
        self._reads: aiohttp.ClientSession | None = None
        self._mutations: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open both sessions; no connection is made yet."""
        self._reads = self._session(
            aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ssl=self._tls), READ_TIMEOUT_S
        )
        self._mutations = self._session(
            aiohttp.TCPConnector(limit=0, force_close=True, ssl=self._tls), MUTATION_TIMEOUT_S
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Close all connections."""
        sessions = (self._reads, self._mutations)
        self._reads = self._mutations = None
        for session in sessions:
            if session is not None:
                await session.close()

    def _session(self, connector: aiohttp.TCPConnector, total_s: float) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            request_class=_OneShot if connector.force_close else aiohttp.ClientRequest,
            timeout=aiohttp.ClientTimeout(total=total_s, connect=CONNECT_TIMEOUT_S),
            headers={
                # Not compressed: what is read is bounded by what is sent, and a LAN does not need it.
                "Accept-Encoding": "identity",
                "Accept": "application/json",
                "Authorization": self._authorization,
                "User-Agent": "trueup",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            raise_for_status=False,
            max_line_size=HEADER_MAX_BYTES,
            max_field_size=HEADER_MAX_BYTES,
        )

    async def exchange(self, request: HttpRequest) -> HttpAnswer:
        """Send one request and return its whole answer. Raises Broken."""
        session = self._mutations if request.mutation else self._reads
        if session is None:
            raise Broken(kind=Break.UNUSABLE, sent=False, what="the connection to PVE is not open")
        attempt = _Attempt(self._clock, request.send_by)
        try:
            url, form = _target(request)
            async with session.request(
                request.method,
                url,
                data=form,
                headers=_FORM if form is not None else None,
                allow_redirects=False,
                middlewares=(_once(attempt),) if request.mutation else (),
            ) as response:
                return await _answer(response, request.max_bytes)
        except FOREIGN as error:
            failure = broken(error, sent=attempt.sent or not request.mutation)
        # Raised out here, so that the foreign error, which holds the request's headers, is not its context.
        raise failure


class _Attempt:
    """How far one request has come."""

    __slots__ = ("_clock", "_entered", "_send_by", "sent")

    def __init__(self, clock: Clock, send_by: float) -> None:
        self._clock = clock
        self._send_by = send_by
        self._entered = False
        self.sent = False

    def enter(self) -> None:
        """Let a request in once: aiohttp tries again from here."""
        if self._entered:
            raise Broken(kind=Break.LOST, sent=self.sent, what="the connection broke, and nothing is sent twice")
        self._entered = True

    def write(self) -> None:
        """Pass the last line before the first byte, once and in time."""
        if self.sent:
            raise Broken(kind=Break.LOST, sent=True, what="the connection broke, and nothing is sent twice")
        if self._send_by and self._clock.monotonic() > self._send_by:
            raise Broken(
                kind=Break.EXPIRED, sent=False, what="expired: it was not sent in time", remedy="it is planned anew"
            )
        self.sent = True


class _OneShot(aiohttp.ClientRequest):
    """A request that is written once; aiohttp calls `send` when connection and TLS stand."""

    attempt: _Attempt | None = None

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request."""
        require(self.attempt is not None, "a mutation passes the middleware")
        if self.attempt is not None:
            self.attempt.write()
        if self.method == "DELETE":
            self.headers.pop("Content-Length", None)  # aiohttp says 0; PVE refuses content there
        return await super().send(conn)  # the commit point: from here on PVE may act


def _once(attempt: _Attempt) -> Callable[[aiohttp.ClientRequest, _Handler], Awaitable[aiohttp.ClientResponse]]:
    """The middleware of one mutation."""

    async def guard(request: aiohttp.ClientRequest, handler: _Handler) -> aiohttp.ClientResponse:
        attempt.enter()
        require(isinstance(request, _OneShot), "mutations have a session of their own")
        if isinstance(request, _OneShot):
            request.attempt = attempt
        try:
            return await handler(request)
        except FOREIGN as error:
            failure = broken(error, sent=attempt.sent)
        raise failure  # no error that aiohttp knows: it would send again

    return guard


def _target(request: HttpRequest) -> tuple[URL, bytes | None]:
    """URL and form. A form has a Content-Length and is never chunked; GET and DELETE have none."""
    params = urlencode(request.params, quote_via=quote, safe="")
    url = f"{request.endpoint}{request.base}{request.path}"
    if request.method in _BODY_METHODS:
        return URL(url, encoded=True), params.encode()
    return URL(f"{url}?{params}" if params else url, encoded=True), None


async def _answer(response: aiohttp.ClientResponse, max_bytes: int) -> HttpAnswer:
    """Read an answer to its end, which the session's time limit covers too."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            response.close()
            raise Broken(kind=Break.TOO_LARGE, sent=True, what=f"the answer is larger than {max_bytes} bytes")
    return HttpAnswer(
        status=response.status,
        reason=(response.reason or "").encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        date_s=_date(response.headers.get("Date", "")),
        body=bytes(body),
    )


def _date(header: str) -> int:
    try:
        return int(parsedate_to_datetime(header).timestamp())
    except (ValueError, OverflowError):
        return 0


def _tls(trust: Trust) -> ssl.SSLContext | aiohttp.Fingerprint | bool:
    match trust:
        case CaFile(path=path):
            return _context(path)
        case Fingerprint(sha256=digest):
            if len(digest) != sha256().digest_size:
                raise BadInput(what="not a SHA-256 fingerprint", remedy="32 bytes, as in AA:BB:…")
            return aiohttp.Fingerprint(digest)
        case Insecure():
            return False


def _context(ca_file: Path) -> ssl.SSLContext:
    """Trust this authority and no other."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        remedy = "name one in PEM, as PVE's pve-root-ca.pem is"
        raise BadInput(what=f"no certificates in it: {error.reason}", where=str(ca_file), remedy=remedy) from None
    except OSError as error:
        raise BadInput(what=f"cannot be read: {error.strerror}", where=str(ca_file)) from None
    # PVE's own authority has no key usage, which Python 3.13 otherwise minds.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _authorization(token: str, secret: Secret) -> str:
    """The header; what would break it is refused here, without being shown."""
    if not _TOKEN.fullmatch(token):
        raise BadInput(what=f"not a token id: {token[:100]!r}", remedy="as in trueup@pve!agent")
    if not _SECRET.fullmatch(secret.reveal()):
        raise BadInput(what=f"the secret of {token} is empty, or has blanks or other characters that PVE's never have")
    return f"PVEAPIToken={token}={secret.reveal()}"


def _checked(endpoint: str) -> str:
    """An endpoint without path; raises BadInput."""
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    plain = re.fullmatch(r"https://[^\s/?#@]+/?", endpoint)
    if not usable or plain is None:
        raise BadInput(what=f"not an endpoint: {endpoint[:200]!r}", remedy="as in https://pve1.example.org:8006")
    return endpoint.rstrip("/")
