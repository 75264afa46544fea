"""The world over HTTPS on real time.

Rule kept here: this module only carries. It turns HTTP into requests and answers into HTTP, wakes the world when
something is due, and decides nothing about PVE except what PVE's web server decides on the bytes themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl

import trustme

from pvesim.apidoc import PATH as VIEWER
from pvesim.apidoc import script
from pvesim.serving import web
from pvesim.wire import Answer, Delivery, Hangup, Request, Response
from pvesim.world import World

LOG = logging.getLogger("pvesim")
API = "/api2/json"
LOOPBACK = "127.0.0."
MAX_LOOPBACK = 254
MAX_BODY = 512 * 1024
FIRST_ERROR = 400  # such an answer closes the connection
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


class Refusal(Exception):
    """What the web server itself refuses, before any API code runs."""

    def __init__(self, status: int, text: str) -> None:
        """Keep the status and the reason phrase."""
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(slots=True)
class Driver:
    """Runs a world on the clock of this computer."""

    world: World
    waiting: dict[int, asyncio.Future[Answer]] = field(default_factory=dict[int, "asyncio.Future[Answer]"])
    timer: asyncio.TimerHandle | None = None

    def step(self) -> None:
        """Let happen what is due, hand answers out, and set the alarm for the next instant."""
        for delivery in self._advance():
            future = self.waiting.pop(delivery.ticket, None)
            if future is not None and not future.done():
                future.set_result(delivery.answer)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        due = self.world.next_due()
        if due is not None:
            loop = asyncio.get_running_loop()
            self.timer = loop.call_later(max(0.0, due - time.time()), self.step)

    def _advance(self) -> list[Delivery]:
        """What is due now; a defect of the simulator ends one process in it, not the server."""
        try:
            return self.world.advance(time.time())
        except Exception:
            LOG.exception("a defect of the simulator")
            return []

    async def ask(self, request: Request) -> Answer:
        """Put a request in and wait for its answer; a client that goes away is reported and nothing else."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        ticket = self.world.submit(time.time(), request)
        self.waiting[ticket] = future
        self.step()
        try:
            return await future
        except asyncio.CancelledError:
            self.waiting.pop(ticket, None)
            self.world.client_gone(ticket)
            raise


DRIVER = web.AppKey("driver", Driver)


async def _body_params(request: web.Request) -> dict[str, str]:
    """The parameters in a body, with the refusals of PVE's web server."""
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        raise Refusal(501, "chunked transfer encoding not supported")
    length = request.content_length or 0
    if request.method in {"GET", "DELETE"} and length:
        raise Refusal(501, f"Unexpected content for method '{request.method}'")
    if length > MAX_BODY:
        raise Refusal(501, "for data too large")
    raw = await request.read()
    if not raw:
        return {}
    kind = request.content_type
    if kind == FORM:
        return dict(parse_qsl(raw.decode(), keep_blank_values=True))
    if kind != JSON:
        raise Refusal(506, f"upload 'Content-Type '{request.headers.get('Content-Type', '')}' not implemented")
    try:
        parsed: object = json.loads(raw)
    except ValueError as error:
        raise Refusal(500, f"malformed JSON string: {error}") from error
    if not isinstance(parsed, dict):
        raise Refusal(500, "Not a HASH reference")
    return {key: _text(value) for key, value in cast("dict[str, object]", parsed).items()}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)


def _entry_node(world: World, request: web.Request) -> str:
    """The node that is addressed: by its name in the Host header, or by its loopback address, else the first."""
    names = world.node_names()
    name = request.host.partition(":")[0]
    if name in names:
        return name
    local = request.transport.get_extra_info("sockname") if request.transport is not None else None
    address = str(local[0]) if local else ""
    number = int(address.rpartition(".")[2]) if address.startswith(LOOPBACK) else 1
    return names[number - 1] if number <= len(names) else names[0]


async def _api(request: web.Request) -> web.StreamResponse:
    driver = request.app[DRIVER]
    try:
        params = dict(request.query) | await _body_params(request)
    except Refusal as refused:
        date = {"Date": formatdate(int(time.time()), usegmt=True), "Connection": "close"}
        answer = web.Response(status=refused.status, reason=refused.text, text=refused.text, headers=date)
        answer.force_close()
        return answer
    path = request.raw_path.partition("?")[0].removeprefix(API)
    asked = Request(
        node=_entry_node(driver.world, request),
        method=request.method,
        path=path,
        params=params,
        authorization=request.headers.get("Authorization"),
    )
    return _send(request, await driver.ask(asked))


def _send(request: web.Request, answer: Answer) -> web.StreamResponse:
    if isinstance(answer, Hangup):
        if request.transport is not None:
            request.transport.abort()
        raise asyncio.CancelledError
    return _http(answer)


def _http(answer: Response) -> web.Response:
    headers = {
        "Server": "pve-api-daemon/3.0", "Cache-Control": "max-age=0", "Pragma": "no-cache", **answer.headers,
    }  # fmt: skip
    reply = web.Response(status=answer.status, reason=answer.reason, body=answer.body or None, headers=headers)
    if answer.status >= FIRST_ERROR:
        reply.force_close()
    return reply


async def _viewer(request: web.Request) -> web.StreamResponse:
    """The API viewer's data, for which nobody has to log in."""
    del request
    return web.Response(text=script(), content_type="application/javascript")


async def _unknown(request: web.Request) -> web.StreamResponse:
    text = f"no such file '{request.path}'"
    return web.Response(status=500, reason=text, text=text + "\n")


def _shown(value: object) -> web.Response:
    return web.json_response(value)


async def _control_body(request: web.Request) -> list[Mapping[str, object]]:
    """One object, a list of objects, or one object a line."""
    text = await request.text()
    try:
        parsed: object = json.loads(text)
    except ValueError:
        parsed = [json.loads(line) for line in text.splitlines() if line.strip()]
    items = cast("list[object]", parsed) if isinstance(parsed, list) else [parsed]
    if not all(isinstance(item, dict) for item in items):
        raise ValueError("an object is expected")
    return [cast("Mapping[str, object]", item) for item in items]


async def _sim_state(request: web.Request) -> web.Response:
    driver = request.app[DRIVER]
    driver.step()
    return _shown(driver.world.state())


async def _sim_mutations(request: web.Request) -> web.Response:
    driver = request.app[DRIVER]
    driver.step()
    return _shown({"mutations": driver.world.mutations()})


async def _sim_change(request: web.Request) -> web.Response:
    """POST /_sim/faults, /_sim/guests and /_sim/control."""
    driver = request.app[DRIVER]
    what = request.match_info["what"]
    try:
        bodies = await _control_body(request)
        driver.step()
        results: list[object] = []
        for body in bodies:
            if what == "faults":
                for fault in cast("list[Mapping[str, object]]", body.get("faults", [body])):
                    driver.world.add_fault(fault)
            elif what == "guests":
                driver.world.put_guests(body)
            else:
                results.append(driver.world.control(body))
    except (ValueError, KeyError, TypeError) as error:
        return web.json_response({"ok": False, "error": str(error)}, status=400)
    driver.step()
    return _shown({"ok": True, "results": results} if what == "control" else {"ok": True})


def make_app(world: World) -> web.Application:
    """The web application of a world."""
    app = web.Application(client_max_size=64 * 1024**2)
    app[DRIVER] = Driver(world)
    app.router.add_get("/_sim/state", _sim_state)
    app.router.add_get("/_sim/mutations", _sim_mutations)
    app.router.add_post("/_sim/{what:faults|guests|control}", _sim_change)
    app.router.add_get(VIEWER, _viewer)
    app.router.add_route("*", API + "/{path:.*}", _api)
    app.router.add_route("*", "/{path:.*}", _unknown)
    return app


@dataclass(slots=True)
class Running:
    """A listening server."""

    url: str
    ca_file: Path
    runner: web.AppRunner

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        await self.runner.cleanup()


def _addresses(world: World, host: str) -> list[str]:
    """Where to listen: on loopback the second node has 127.0.0.2, and so on."""
    count = min(len(world.node_names()), MAX_LOOPBACK) if host == f"{LOOPBACK}1" else 1
    return [host, *(f"{LOOPBACK}{number}" for number in range(2, count + 1))]


async def serve(world: World, *, host: str, port: int, folder: Path) -> Running:
    """Listen with a certificate of a CA made for this run; port 0 takes a free one."""
    authority = trustme.CA()
    addresses = _addresses(world, host)
    names = {"localhost", f"{LOOPBACK}1", *addresses, *world.node_names()}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain = authority.issue_cert(*sorted(names)).private_key_and_cert_chain_pem
    chain_file = folder / "server.pem"
    chain.write_to_path(str(chain_file))
    context.load_cert_chain(chain_file)
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    runner = web.AppRunner(make_app(world), access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=context)
    await site.start()
    bound = cast("tuple[str, int]", runner.addresses[0])[1]
    for address in addresses[1:]:
        with contextlib.suppress(OSError):  # a system that has only 127.0.0.1
            await web.TCPSite(runner, address, bound, ssl_context=context).start()
    return Running(f"https://{host}:{bound}", ca_file, runner)
