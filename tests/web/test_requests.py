"""Requests: what exactly would be destroyed, who agreed and what is missing; and the status that deliveries get."""

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cli.stage import Stage
from tests.cli.test_crashes import until
from tests.operator.living import Agent, living
from tests.web.client import Client
from tests.web.conftest import MANIFESTS
from tests.web.test_api import valid
from tests.web.test_pages import Sound
from trueup.app import parts
from trueup.edges import incarnation
from trueup.edges.acts import Scribe
from trueup.edges.web import intake, openapi
from trueup.edges.web.problems import Problem
from trueup.engine.observer import Observer
from trueup.model.gate import Approval, Approved, Form, Refusal, Request, Requested, Ruling, Target
from trueup.model.gate_answers import Answer, Outcome
from trueup.model.guests import Observed
from trueup.model.ids import OpId, Vmid

WICKED = "<script>alert('x')</script> & co"


async def seen(stage: Stage, vmid: int) -> Observed:
    """A guest as its signers would see it now."""
    made = parts()
    settings = made.settings(stage.folder / "trueup.toml")
    async with (
        incarnation.journal_for_reading(made, settings) as journal,
        incarnation.sight(made, settings, journal, print) as sight,
    ):
        observer = Observer(sight.pve)
        return await observer.one((await observer.rows())[Vmid(vmid)])


async def ask_for(stage: Stage, guest: Observed, missing: str) -> OpId:
    """Put a request into the journal, as the gate does it, with one of two signatures."""
    made = parts()
    settings = made.settings(stage.folder / "trueup.toml")
    now = made.clock().now_ms()
    request_id = OpId(made.entropy().uuid7(now))
    request = Request(
        cluster="lab",
        kind="destroy",
        target=Target(type=guest.type, vmid=guest.vmid, identity=guest.identity, digest=guest.digest),
        params={"purge": "1"},
        reason=WICKED,
        requested_by="alice",
        nonce=f"n-{request_id}",
        idempotency_key=f"k-{request_id}",
        not_before_ms=now,
        approve_by_ms=now + 3_600_000,
        execute_by_ms=now + 3_600_000,
    )
    ruling = Ruling(rule=1, people=2, counted=("alice",), missing=missing)
    approval = Approval(person="alice", key_id="a" * 64, form=Form.DSSE, signature="c2ln", at_ms=now)
    async with incarnation.journal_for_work(made, settings) as journal:
        scribe = await Scribe.begin(made, journal)
        await scribe.record(
            request_id,
            Requested(request=request, payload="e30=", payload_sha256="f" * 64, ruling=ruling, via="spool"),
            Approved(approval=approval, ruling=ruling),
        )
    return request_id


def test_a_request_says_what_it_would_destroy(stage: Stage, tmp_path: Path) -> None:
    stage.manifest(MANIFESTS)
    assert stage.run("apply", "--yes").returncode == 0
    guest = asyncio.run(seen(stage, 102))
    request_id = asyncio.run(ask_for(stage, guest, "one more of: bob, carol"))
    with living(Agent(stage)) as agent:
        client = Client.of(agent)
        until(lambda: agent.said("pass_ended"), 60)

        (listed,) = client.get("/v1/requests?state=pending").json["requests"]
        valid(listed, "Request")
        assert listed == client.get(f"/v1/requests/{request_id}").json
        assert (listed["request_id"], listed["people"], listed["missing"]) == (request_id, 2, "one more of: bob, carol")
        assert [one["person"] for one in listed["approvals"]] == ["alice"]
        assert client.get("/v1/requests?state=nonsense").problem()["status"] == 400
        assert client.get("/v1/requests?state=vetoed").json["requests"] == []
        assert 'trueup_gate_pending{cluster="lab"} 1.0' in client.get("/metrics").text

        browser = client.browser()
        browser.log_in(client.token)
        for path in ("/", "/requests", f"/requests/{request_id}"):
            page = browser.page(path).text
            Sound(page)
            assert "one more of: bob, carol" in page, path
            assert "<script>alert" not in page, path
        assert "&lt;script&gt;alert" in page
        words = " ".join(page.split())
        assert "It is the very guest that was signed for" in words
        assert guest.identity.marker_uid in words
        for part in (
            "db-1",
            "<td>4G</td>",
            "vm-102-disk-0",
            "web-1 (101) starts after it",
            "purge=1",
            "alice",
            "counts",
        ):
            assert part in words, part
        assert f"trueup approve {request_id} --key KEY" in words
        assert f"trueup veto {request_id} --key KEY" in words
        assert "Last backup</dt><dd>not known" in words


def test_a_guest_that_is_not_what_was_signed_for(stage: Stage) -> None:
    stage.manifest(MANIFESTS)
    assert stage.run("apply", "--yes").returncode == 0
    guest = asyncio.run(seen(stage, 102))
    changed = asyncio.run(ask_for(stage, msgspec.structs.replace(guest, digest="0" * 40), "bob"))
    other = msgspec.structs.replace(guest.identity, marker_uid="another")
    another = asyncio.run(ask_for(stage, msgspec.structs.replace(guest, identity=other), "bob"))
    gone = asyncio.run(ask_for(stage, msgspec.structs.replace(guest, vmid=Vmid(150)), "bob"))
    with living(Agent(stage)) as agent:
        client = Client.of(agent)
        until(lambda: agent.said("pass_ended"), 60)
        browser = client.browser()
        browser.log_in(client.token)
        assert "changed since it was signed for" in browser.page(f"/requests/{changed}").text
        assert "not the one that was signed for" in browser.page(f"/requests/{another}").text
        assert "the last pass did not see this guest" in browser.page(f"/requests/{gone}").text


@pytest.mark.parametrize("outcome", list(Outcome))
def test_deliveries_get_their_status(outcome: Outcome) -> None:
    answer = Answer(outcome=outcome, state="pending", request=OpId("r"), refusal=None)
    if outcome is Outcome.REFUSED:
        with pytest.raises(Problem):
            intake.status(answer)
        return
    expected = HTTPStatus.OK if outcome is Outcome.REPETITION else HTTPStatus.ACCEPTED
    assert intake.status(answer) is expected
    valid(intake.body(answer), "Delivery")


@pytest.mark.parametrize("refusal", list(Refusal))
def test_each_refusal_has_a_described_status_and_its_name(refusal: Refusal) -> None:
    answer = Answer(outcome=Outcome.REFUSED, state="refused", reason="no", refusal=refusal)
    with pytest.raises(Problem) as raised:
        intake.status(answer)
    assert raised.value.more["refusal"] == refusal.value
    document: Any = openapi.document()
    described = document["paths"]["/v1/requests"]["post"]["responses"]
    assert str(raised.value.status_code) in described
    from trueup.edges.web import problems

    valid(problems.document(raised.value), "Problem")
