"""fakepve as a process of its own, started by its own command, and a door that lets API tokens in.

fakepve's command knows a password only, trueup knows API tokens only. The door takes a token, puts fakepve's ticket in
its place, and passes everything else through as it is, in both directions.
"""

import asyncio
import json
import re
import socket
import ssl
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
import trustme
from aiohttp import web
from yarl import URL

from tests.real_death.stage import reap, spawn, until

TOKEN, SECRET = "root@pam!trueup", "00000000-0000-0000-0000-00000000cafe"
PASSWORD = "not-the-default"
COMMAND = Path(sys.executable).with_name("fakepve")
PASSED = ("Content-Type", "Date", "Cache-Control", "Pragma")


class FakePve:
    """fakepve and its door, as a context. `seen` lists the requests that were let in."""

    def __init__(self, folder: Path, guests: Sequence[Mapping[str, Any]]) -> None:
        self._folder = folder
        self._guests = guests
        self.token_id, self.token_secret = TOKEN, SECRET
        self.ca_file = folder / "door-ca.pem"
        self.seen: list[tuple[str, str]] = []
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        spec = self._folder / "fakepve.json"
        spec.write_text(json.dumps({"guests": list(self._guests)}))
        said = self._folder / "fakepve"
        options = ("--host", "127.0.0.1", "--port", str(_free_port()), "--password", PASSWORD, "--time-scale", "0.02")
        self._process = spawn((str(COMMAND), *options, str(spec)), cwd=self._folder, output=said)
        try:
            self._inner = until(lambda: self._listening(said))
            self._thread = threading.Thread(target=self._serve, daemon=True)
            self._ready = threading.Event()
            self._thread.start()
            assert self._ready.wait(30)
        except BaseException:
            reap(self._process)
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        reap(self._process)

    def _listening(self, said: Path) -> str:
        assert self._process.poll() is None, said.with_suffix(".err").read_text()
        found = re.search(r"listening on (https://\S+)", said.with_suffix(".out").read_text())
        return found[1] if found else ""

    # -- the door --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._until_over())
        self._loop.close()

    async def _until_over(self) -> None:
        self._over = asyncio.Event()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        connector = aiohttp.TCPConnector(ssl=False, limit=32)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            await self._log_in()
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._pass)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
            self._ready.set()
            await self._over.wait()
            await runner.cleanup()

    async def _log_in(self) -> None:
        form = {"username": "root@pam", "password": PASSWORD}
        async with self._session.post(f"{self._inner}/api2/json/access/ticket", data=form) as answer:
            data = (await answer.json())["data"]
        self._headers = {
            "Cookie": f"PVEAuthCookie={data['ticket']}",
            "CSRFPreventionToken": data["CSRFPreventionToken"],
            "Accept-Encoding": "identity",
        }

    async def _pass(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"PVEAPIToken={TOKEN}={SECRET}":
            return web.Response(status=401, reason="authentication failure")
        self.seen.append((request.method, request.path.removeprefix("/api2/json")))
        headers = {**self._headers, **{k: v for k, v in request.headers.items() if k == "Content-Type"}}
        url = URL(f"{self._inner}{request.raw_path}", encoded=True)
        body = await request.read() or None
        async with self._session.request(request.method, url, data=body, headers=headers) as answer:
            passed = {name: answer.headers[name] for name in PASSED if name in answer.headers}
            return web.Response(status=answer.status, reason=answer.reason, body=await answer.read(), headers=passed)

    # -- for the tests ---------------------------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        """What fakepve shows, past trueup."""

        async def read() -> Any:
            async with self._session.get(f"{self._inner}/api2/json{path}", headers=self._headers) as answer:
                return (await answer.json()).get("data")

        return asyncio.run_coroutine_threadsafe(read(), self._loop).result(30)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
