"""The page in a real browser: every page, live changes, what is unresolved, a phone, and no fault that axe would find.

It writes the pictures of the documents when TRUEUP_PICTURES names a folder (`make pictures`).
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.stage import Simulator, Stage, guest, several
from tests.cli.test_crashes import until
from tests.operator.living import Agent, living
from tests.web import browser
from tests.web.browser import Page
from tests.web.client import Client

AXE = (Path(__file__).parent / "data" / "axe.min.js").read_text(encoding="utf-8")
SERIOUS = {"serious", "critical"}

CHROMIUM = browser.found()
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser here: `make browser` installs Debian's chromium"),
    pytest.mark.timeout(300),
]


def in_a_browser(story: Callable[[Page], Awaitable[None]]) -> None:
    async def run() -> None:
        async with browser.page(CHROMIUM or "") as page:
            await story(page)

    asyncio.run(run())


def url_of(client: Client) -> str:
    return f"http://{client.host}:{client.port}"


async def faults(page: Page) -> list[str]:
    """What axe finds serious or worse."""
    await page.run(AXE)
    found = await page.run("axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))")
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in json.loads(str(found))
        if one["impact"] in SERIOUS
    ]


async def picture(page: Page, name: str) -> None:
    folder = os.environ.get("TRUEUP_PICTURES")
    if folder:
        await page.picture(Path(folder) / f"{name}.png")


async def as_wide_as_the_screen(page: Page) -> bool:
    return bool(await page.run("document.documentElement.scrollWidth <= innerWidth"))


def test_every_page_light_and_dark_wide_and_narrow(client: Client) -> None:
    op_id = client.get("/v1/ops?vmid=101").json["ops"][0]["op_id"]
    paths = {
        "guests": "/",
        "guest": "/guests/101",
        "operations": "/ops",
        "operation": f"/ops/{op_id}",
        "requests": "/requests",
        "journal": "/journal",
        "missing": "/nothing",
    }

    async def story(page: Page) -> None:
        await page.go(url_of(client) + "/guests/101")
        assert await page.run("location.pathname") == "/login"
        assert await faults(page) == []
        await page.log_in(url_of(client), client.token)
        for name, path in paths.items():
            for scheme in ("light", "dark"):
                await page.prefer(scheme)
                for width in (1100, 360):
                    await page.size(width, 760, phone=width < 500)
                    await page.go(url_of(client) + path)
                    assert await faults(page) == [], (name, scheme, width)
                    assert await as_wide_as_the_screen(page), (name, width)
        hosts = {urlsplit(request).netloc for request in page.requests if not request.startswith(("data:", "about:"))}
        assert hosts == {f"{client.host}:{client.port}"}
        wrong = [text for text in page.complaints if "404" not in text and "401" not in text]
        assert wrong == []  # a broken policy, a script error, a missing file

    in_a_browser(story)


def test_the_keyboard_is_enough(client: Client) -> None:
    async def press(page: Page, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    async def story(page: Page) -> None:
        await page.log_in(url_of(client), client.token)
        await page.go(url_of(client) + "/")
        await press(page, "Tab", 9)
        assert await page.run("document.activeElement.textContent") == "Skip to the content"
        assert await page.run("document.activeElement.getBoundingClientRect().left >= 0")
        await press(page, "Enter", 13)
        assert await page.run("location.hash") == "#main"
        for _ in range(3):
            await press(page, "Tab", 9)
        outline = await page.run("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        await page.run("document.getElementById('guest-101').focus()")
        await press(page, "Enter", 13)
        await page.until("location.pathname === '/guests/101'")

    in_a_browser(story)


def test_pages_live(stage: Stage) -> None:
    """Something happens in the cluster: the page shows it without a reload, and whoever reads it keeps the focus."""
    stage.manifest(several(guest("db-1", 102), guest("web-1", 101)))
    with living(Agent(stage)) as agent:
        client = Client.of(agent)
        until(lambda: agent.said("pass_ended", "2 unchanged"), 60)

        async def story(page: Page) -> None:
            await page.log_in(url_of(client), client.token)
            await page.go(url_of(client) + "/guests/102")
            await page.until("document.body.innerText.includes('create of VM 102')")
            await page.run("window.same = 1; document.querySelector('#history + div tbody a').focus()")
            focused = await page.run("document.activeElement.id")
            stage.sim.by_hand(vmid=102, status="stopped")
            await page.until("document.querySelectorAll('#op-scroll tbody tr').length === 3")
            await page.until("document.querySelector('#op-scroll tbody tr').innerText.includes('succeeded')")
            assert await page.run("window.same") == 1
            assert await page.run("document.activeElement.id") == focused != ""

            # A manifest that needs a signature, and one that is broken: both stand first, and the status line says it.
            await page.go(url_of(client) + "/")
            await page.run("window.same = 1")
            stage.manifest("kind: [", "broken.yaml")
            await page.until("document.getElementById('needs') && document.body.innerText.includes('broken.yaml')")
            await page.until("document.getElementById('standing').innerText.includes('broken.yaml')")
            (stage.folder / "manifests" / "broken.yaml").unlink()
            await page.until("!document.getElementById('needs')")
            assert await page.run("window.same") == 1

            # Without scripts the same pages tell the same.
            await page.call("Emulation.setScriptExecutionDisabled", value=True)
            await page.call("Page.navigate", url=url_of(client) + "/guests/102")
            document = ""
            for _ in range(100):
                with contextlib.suppress(AssertionError):  # the node is gone if the page came in between the two
                    root = (await page.call("DOM.getDocument"))["root"]["nodeId"]
                    document = (await page.call("DOM.getOuterHTML", nodeId=root))["outerHTML"]
                if "start of VM 102" in document:
                    break
                await asyncio.sleep(0.1)
            assert "start of VM 102" in document

        in_a_browser(story)


@pytest.fixture
def slow_stage(tmp_path: Path) -> Iterator[Stage]:
    """A cluster in which things take their time: what is left behind by a killed task lives on for a minute."""
    simulator = Simulator(time_scale=3.0)
    yield Stage(folder=tmp_path, sim=simulator)
    simulator.stop()


def test_what_is_unresolved_stands_first(slow_stage: Stage) -> None:
    """A start that was killed, and whose child goes on: nobody can tell yet, and the page says so before all else."""
    stage = slow_stage
    stage.manifest(several(guest("web-1", 101, "power: stopped"), guest("db-1", 102, "power: stopped")))
    with living(Agent(stage)) as agent:
        client = Client.of(agent)
        until(lambda: agent.said("pass_ended", "2 unchanged"), 60)
        stage.sim.fault(fault="task_killed", method="POST", path="/status/start$")
        stage.manifest(several(guest("web-1", 101, "power: stopped"), guest("db-1", 102)))
        until(lambda: len(client.get("/v1/status").json["unresolved"]) == 1, 60)

        async def story(page: Page) -> None:
            await page.log_in(url_of(client), client.token)
            await page.go(url_of(client) + "/")
            assert await page.run("document.querySelector('main h2').innerText") == "Needs a person"
            assert await page.run("document.querySelector('main .urgent').innerText.includes('It is settled when')")
            assert await page.run("document.getElementById('standing').innerText.includes('1 unresolved')")
            assert await faults(page) == []
            await picture(page, "guests")
            await page.go(url_of(client) + "/ops")
            assert await page.run("document.getElementById('nav-operations').innerText.includes('1')")
            await picture(page, "operations")
            await page.run("document.querySelector('main .urgent a').click()")
            await page.until("location.pathname.startsWith('/ops/') && document.querySelector('ol.story li')")
            words = str(await page.run("document.querySelector('main').innerText"))
            for head in ("What to do", "What settles it", "What is not known", "What is known for sure"):
                assert head in words
            assert await faults(page) == []
            await picture(page, "operation")
            await page.size(390, 760, phone=True)
            await page.go(url_of(client) + "/")
            assert await as_wide_as_the_screen(page)
            await picture(page, "phone")
            await page.size(1100, 760)
            await page.prefer("dark")
            await page.go(url_of(client) + "/journal")
            await picture(page, "journal")

        in_a_browser(story)
        agent.process.kill()  # what it waits for takes its time
        agent.stop()
