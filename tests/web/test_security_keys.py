"""A security key in a real browser: enrolled, refused where it has to be, and approving what is then carried out."""

import shlex
import socket

import pytest

from tests.cli.stage import Stage, guest, several
from tests.cli.test_crashes import until
from tests.gate.security_key import EVES, b64url
from tests.operator.living import Agent, living
from tests.web.browser import Page
from tests.web.client import Client
from tests.web.test_browser import CHROMIUM, as_wide_as_the_screen, faults, in_a_browser, picture

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser here: `make browser` installs Debian's chromium"),
    pytest.mark.timeout(300),
]

POLICY = """\
rules:
  - {kinds: [destroy], people: 2, roles: [operator], longest: 24h}
"""
TOLD = "document.querySelector('.told').textContent"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture
def port(stage: Stage) -> int:
    """Of a page whose address is known before the agent starts: security keys are bound to it."""
    port = free_port()
    stage.settings(
        ('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{port}"\norigins = ["http://localhost:{port}"]'),
    )
    (stage.folder / "keyring.yaml").unlink(missing_ok=True)
    (stage.folder / "policy.yaml").write_text(POLICY)
    assert stage.run("keys", "new", "alice", "-o", "alice.key", "--role", "operator").returncode == 0
    return port


async def key_with_a_pin(page: Page) -> str:
    """A security key is plugged in; whoever has it touches it, and gives its PIN."""
    await page.call("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "usb",
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    return (await page.call("WebAuthn.addVirtualAuthenticator", options=options))["authenticatorId"]


async def press(page: Page, key: str, code: int) -> None:
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
        await page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)


async def approve(page: Page) -> None:
    """By keyboard: the person is chosen, the next stop is the button."""
    await page.run("document.getElementById('signer').focus()")
    await press(page, "Tab", 9)
    assert await page.run("document.activeElement.textContent") == "Approve this destroy"
    await press(page, "Enter", 13)


async def sound(page: Page) -> None:
    for scheme in ("dark", "light"):
        await page.prefer(scheme)
        for width in (360, 1100):
            await page.size(width, 760, phone=width < 500)
            assert await faults(page) == [], (scheme, width)
            assert await as_wide_as_the_screen(page), width


def swapped(keyring: str) -> str:
    """Another key under the name of the one that the browser knows."""
    head, _, tail = keyring.partition("webauthn localhost ")
    credential, _, rest = tail.partition(" ")
    return f"{head}webauthn localhost {credential} {b64url(EVES.cose)} {rest.partition(' ')[2]}"


def test_a_security_key_approves_and_the_destroy_is_carried_out(stage: Stage, port: int) -> None:
    stage.manifest(several(guest("web-1", 101, "power: stopped"), guest("db-1", 102, "power: stopped")))
    keyring = stage.folder / "keyring.yaml"
    with living(Agent(stage)) as agent:
        client = Client.of(agent)
        until(lambda: agent.said("pass_ended", "2 unchanged"), 60)
        stage.manifest(guest("web-1", 101, "power: stopped"))
        assert stage.run("request", "destroy", "102", "--reason", "ticket 4711", "-o", "db.json").returncode == 0
        assert stage.run("sign", "db.json", "--key", "alice.key").returncode == 0
        request_id = stage.json("submit", "db.json")["request"]
        url = f"http://localhost:{port}"

        async def story(page: Page) -> None:
            key = await key_with_a_pin(page)
            await page.log_in(url, client.token)
            await page.go(f"{url}/requests/{request_id}")
            assert not await page.run("document.getElementById('approve-here')")  # nobody has a key yet

            # Bob makes a key. Nothing is stored by it: the keyring's owner adds the line, and only then it counts.
            await page.go(url + "/keys")
            before = keyring.read_text()
            await page.run("document.getElementById('who').value = 'bob'")
            await page.run("document.querySelector('#enrol button').click()")
            await page.until("document.querySelector('[data-made=command]').textContent")
            await sound(page)
            await page.size(1100, 1000)
            await picture(page, "keys")
            command = str(await page.run("document.querySelector('[data-made=command]').textContent"))
            shown = str(await page.run("document.querySelector('[data-made=id]').textContent"))
            assert keyring.read_text() == before
            added = stage.run(*shlex.split(command)[1:], "--role", "operator")
            assert added.returncode == 0, added.stderr
            assert shown in added.stdout

            await page.go(f"{url}/requests/{request_id}")
            await sound(page)
            await page.size(1100, 1340)
            await picture(page, "request")

            # The key does not check who touches it: the browser gives nothing. Then a key that is not the keyring's.
            await page.call("WebAuthn.setUserVerified", authenticatorId=key, isUserVerified=False)
            await approve(page)
            await page.until(f"{TOLD}.includes('Nothing was signed')")
            await page.call("WebAuthn.setUserVerified", authenticatorId=key, isUserVerified=True)
            good = keyring.read_text()
            keyring.write_text(swapped(good))
            await approve(page)
            await page.until(f"{TOLD}.includes('not a signature of this key over this statement')")
            assert await faults(page) == []
            assert [one["person"] for one in client.get(f"/v1/requests/{request_id}").json["approvals"]] == ["alice"]
            keyring.write_text(good)

            # The right one, by keyboard: the page tells what became of it, and the guest is gone.
            await page.run("window.left = true")
            await approve(page)
            await page.until("!window.left && document.getElementById('its-op')")
            asked = client.get(f"/v1/requests/{request_id}").json
            assert [(one["person"], one["form"]) for one in asked["approvals"]] == [
                ("alice", "dsse"),
                ("bob", "webauthn"),
            ]
            await page.until("document.getElementById('its-op').innerText.includes('succeeded')")
            known = ("403", "pub_key_cred_params")  # the refusal above; Chromium would like RSA to be offered
            assert [text for text in page.complaints if not any(one in text for one in known)] == []

            # The same page at another address: keys are bound to the one that is configured.
            await page.log_in(f"http://127.0.0.1:{port}", client.token)
            await page.go(f"http://127.0.0.1:{port}/keys")
            assert await page.run("!document.getElementById('enrol')")
            assert await page.run(f"document.querySelector('main').innerText.includes('{url}')")

        in_a_browser(story)
        until(lambda: 102 not in [one["vmid"] for one in client.get("/v1/guests").json["guests"]], 60)
