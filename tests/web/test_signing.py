"""What the page knows of keys: who is offered the button, who is missing by today's keyring, what enrolling answers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from tests.gate.security_key import ALICES, BOBS, EVES, PARTY, b64url, with_lines
from tests.gate.test_webauthn import client_data
from tests.gate.world import POLICY, Clock, Scene, key_id, keyring_text, play, request, signed
from trueup.adapters.signing_keys import read_public
from trueup.edges.web.doors import Doors, Visitor
from trueup.edges.web.guard import VISITOR
from trueup.edges.web.problems import Problem
from trueup.edges.web.signing import Signing, enrol
from trueup.model.gate import RequestView
from trueup.model.keyring import RelyingParty
from trueup.model.settings import GateSettings, Secret

NOW_MS = 1_800_000_000_000


def signing(folder: Path, party: RelyingParty = PARTY) -> Signing:
    return Signing(GateSettings(keyring=folder / "keyring.yaml", policy=folder / "policy.yaml", spool=folder), party)


def pending(folder: Path, check: Any, keyring: str) -> None:
    """A destroy that alice signed waits; then the keyring is this one, and the page is asked."""

    async def story(scene: Scene) -> None:
        answer = await scene.gate.submit(signed(request(), "alice"), "http")
        view = await scene.request(answer.request)
        (folder / "keyring.yaml").write_text(keyring)
        check(view)

    play(folder, story)


def test_who_has_a_key_and_may_sign_is_offered_the_button(tmp_path: Path) -> None:
    far = BOBS.line.replace("trueup.example", "old.example")
    keyring = with_lines(keyring_text(), alice=ALICES.line, bob=BOBS.line, carol=far, dave=EVES.line)

    def check(view: RequestView) -> None:
        found = signing(tmp_path).signers(view, NOW_MS)
        # Alice has signed, carol's key is for another site, dave has no role that the rule asks for.
        assert [(one.person, one.credentials) for one in found] == [("bob", (b64url(BOBS.credential),))]
        assert signing(tmp_path, RelyingParty()).signers(view, NOW_MS) == ()
        gone = f', revoked: {{"{read_public(BOBS.line).key_id}": 2026-12-01T00:00:00Z}}}}\n  carol'
        (tmp_path / "keyring.yaml").write_text(keyring.replace("}\n  carol", gone))
        assert signing(tmp_path).signers(view, NOW_MS) == ()
        assert signing(tmp_path).signers(view, 0) != ()
        # Another policy than the request was judged by: who may is not known here, so all are offered it.
        (tmp_path / "policy.yaml").write_text(POLICY + "# changed\n")
        assert [one.person for one in signing(tmp_path).signers(view, 0)] == ["bob", "dave"]
        (tmp_path / "keyring.yaml").unlink()
        assert signing(tmp_path).signers(view, 0) == ()

    pending(tmp_path, check, keyring)


def test_who_is_missing_is_told_by_todays_keyring(tmp_path: Path) -> None:
    def check(view: RequestView) -> None:
        assert view.ruling.missing == "1 more with role operator: bob, carol"
        now = signing(tmp_path).ruling(view, NOW_MS)
        assert (now.missing, now.counted) == ("1 more with role operator: bob", ("alice",))
        (tmp_path / "keyring.yaml").write_text("people: {bob: {roles: [operator]}}\n")
        assert signing(tmp_path).ruling(view, NOW_MS).counted == ()
        (tmp_path / "policy.yaml").write_text(POLICY + "# changed\n")
        assert signing(tmp_path).ruling(view, NOW_MS) == view.ruling

    pending(tmp_path, check, keyring_text().replace("operator, owner", "owner"))


def test_the_keyring_is_shown_and_why_there_is_none(tmp_path: Path) -> None:
    assert signing(tmp_path).rows(NOW_MS) is None
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "keyring.yaml").write_text(with_lines(keyring_text(bob="2026-12-01T00:00:00Z"), alice=ALICES.line))
    rows = signing(tmp_path).rows(NOW_MS)
    assert rows is not None
    assert [(one.person, one.site) for one in rows][:3] == [("alice", "trueup.example"), ("alice", ""), ("alice", "")]
    assert [one.key_id for one in rows if one.revoked] == [key_id("bob")]
    (tmp_path / "keyring.yaml").write_text("people: [")
    broken = signing(tmp_path)
    assert broken.rows(NOW_MS) is None
    assert "keyring.yaml" in broken.closed()


def asked(host: str = "trueup.example:8640", body: bytes = b"") -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": [(b"host", host.encode())]}
    return Request({**scope, VISITOR: Visitor(csrf="c", session="s")}, receive)


def test_the_page_knows_whether_keys_work_at_its_address(tmp_path: Path) -> None:
    page = signing(tmp_path)
    assert page.is_here(asked())
    assert page.is_here(asked("B.trueup.example"))
    for host in ("trueup.example", "127.0.0.1:8640", "evil.example", ""):
        assert not page.is_here(asked(host)), host
    assert not signing(tmp_path, RelyingParty()).is_here(asked())


def test_enrolling_answers_with_a_line_and_stores_nothing(tmp_path: Path) -> None:
    doors = Doors(Secret("a token of this test"), Clock(), tls=False)  # pyright: ignore[reportArgumentType]
    visitor = Visitor(csrf="c", session="s")

    def answer(made: object, party: RelyingParty = PARTY) -> dict[str, Any]:
        return asyncio.run(enrol(asked(body=json.dumps(made).encode()), doors, party))

    def made(challenge: bytes, flags: int = 0x45) -> dict[str, str]:
        return {
            "id": b64url(ALICES.credential),
            "clientDataJSON": b64url(client_data(challenge)),
            "attestationObject": b64url(ALICES.attestation(flags)),
        }

    good = made(doors.challenge(visitor))
    assert answer(good) == {"line": ALICES.line, "key_id": read_public(ALICES.line).key_id}
    assert list(tmp_path.iterdir()) == []
    other = doors.challenge(Visitor(csrf="c", session="another"))
    for wrong, status, why in (
        (made(other), 400, "too old"),
        (made(doors.challenge(visitor), 0x41), 400, "did not check who"),
        ({}, 400, "not what a browser says"),
        ([], 400, "takes what a browser says"),
        ({**good, "id": 1}, 400, "takes what a browser says"),
    ):
        with pytest.raises(Problem, match=why) as told:
            answer(wrong)
        assert told.value.status_code == status
    with pytest.raises(Problem, match="origins") as told:
        answer(good, RelyingParty())
    assert told.value.status_code == 409
