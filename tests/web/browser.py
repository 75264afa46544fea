"""A headless Chromium, driven over its DevTools protocol: no driver and no library beside what trueup itself needs."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

START_S = 60
WAIT_S = 60

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def found() -> str | None:
    """The browser of this machine; CHROMIUM names another one."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


@dataclass
class Page:
    """One tab: its requests and its complaints are remembered."""

    socket: aiohttp.ClientWebSocketResponse
    session: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)
    _answers: "dict[int, asyncio.Future[dict]]" = field(default_factory=dict)

    async def listen(self) -> None:
        async for message in self.socket:
            said = json.loads(message.data)
            if "id" in said:
                waiting = self._answers.pop(said["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(said)
            elif said["method"] == "Network.requestWillBeSent":
                self.requests.append(said["params"]["request"]["url"])
            elif said["method"] == "Runtime.exceptionThrown":
                self.complaints.append(str(said["params"]["exceptionDetails"]))
            elif said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(said["params"]["entry"]["text"])

    async def call(self, method: str, **params: object) -> dict:
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json(
            {"id": number, "method": method, "params": params, **({"sessionId": self.session} if self.session else {})}
        )
        async with asyncio.timeout(WAIT_S):
            said = await self._answers[number]
        assert "error" not in said, (method, said)
        return said["result"]

    async def run(self, script: str) -> object:
        """What a script comes to; promises are waited for."""
        done = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, (script[:200], done["exceptionDetails"])
        return done["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until a script is true; a page may be on its way meanwhile."""
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    if await self.run(f"!!({condition})"):
                        return
                except AssertionError:
                    pass
                await asyncio.sleep(0.1)

    async def go(self, url: str) -> None:
        await self.run("window.left = true")
        await self.call("Page.navigate", url=url)
        await self.until("!window.left && document.readyState === 'complete'")

    async def size(self, width: int, height: int, *, phone: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )

    async def prefer(self, scheme: str) -> None:
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},  # colours are there at once
        ]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def picture(self, file: Path) -> None:
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        file.write_bytes(base64.b64decode(shot["data"]))

    async def log_in(self, url: str, token: str) -> None:
        await self.go(url + "/login")
        await self.run(f"document.getElementById('token').value = {json.dumps(token)}; window.left = true")
        await self.run("document.querySelector('form.login button').click()")
        await self.until("!window.left && document.getElementById('standing')")


@asynccontextmanager
async def page(browser: str) -> AsyncGenerator[Page]:
    """A fresh browser with one tab."""
    profile = tempfile.mkdtemp(prefix="trueup-browser-")
    process = await asyncio.create_subprocess_exec(
        browser,
        "--headless=new",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--hide-scrollbars",
        *(["--no-sandbox"] if os.getuid() == 0 else []),
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        address = await _address(Path(profile) / "DevToolsActivePort")
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(address, max_msg_size=0) as socket,
        ):
            whole = Page(socket=socket, session="")
            hearing = asyncio.create_task(whole.listen())
            made = await whole.call("Target.createTarget", url="about:blank")
            tab = await whole.call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
            whole.session = tab["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                await whole.call(f"{domain}.enable")
            await whole.size(1100, 760)
            try:
                yield whole
            finally:
                hearing.cancel()
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the browser and its helpers, which it leads
        await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _address(file: Path) -> str:
    async with asyncio.timeout(START_S):
        while not (file.exists() and file.read_text().count("\n")):
            await asyncio.sleep(0.05)
    port, path = file.read_text().split()
    return f"ws://127.0.0.1:{port}{path}"
