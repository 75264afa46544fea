"""What was accepted and not sent can be taken back; what may have reached PVE cannot, and that is explained."""

import asyncio

import pytest

from tests.cli.stage import Stage, guest
from tests.journal import samples
from trueup.adapters import sqlite
from trueup.model.gate import Denied, Refusal
from trueup.model.ids import GuestType, NodeName, OpId, TokenId, Vmid
from trueup.model.ops import Accepted, Draft, Event, Intent, Kind, Started

INTENT = Intent(
    kind=Kind.DESTROY, type=GuestType.QEMU, vmid=Vmid(102), node=NodeName("pve1"), method="DELETE", path="/x",
    token=TokenId("t@pve!x"), one_shot=True,
)  # fmt: skip
FAR_MS = 4_000_000_000_000


@pytest.fixture
def used(stage: Stage) -> Stage:
    stage.manifest(guest("db-1", 102))
    stage.json("apply", "--yes")
    return stage


def write(stage: Stage, *events: tuple[str, Event]) -> None:
    async def append() -> None:
        journal = sqlite.open_journal(stage.journal(), inline=True)
        epoch = await journal.take_epoch(holder="test", token=TokenId(""), record_id="epoch", at_ms=1)
        for number, (op_id, event) in enumerate(events):
            asked = samples.requested(
                op_id, 102, kind=Kind.DESTROY, execute_by_ms=FAR_MS, nonce="n", idempotency_key="k"
            )
            drafts = [asked] if isinstance(event, Accepted) else []
            drafts += [Draft(record_id=f"r{number}", at_ms=1, op_id=OpId(op_id), event=event)]
            await journal.append(epoch, drafts)
        await journal.close()

    asyncio.run(append())


def accepted() -> Accepted:
    return Accepted(intent=INTENT, execute_by_ms=FAR_MS, nonce="n", idempotency_key="k", payload="p")


def test_what_was_not_sent_is_taken_back(used: Stage) -> None:
    write(used, ("accepted-op", accepted()))
    assert used.json("plan", code=0)["summary"]["unchanged"] == 1
    done = used.json("ops", "cancel", "accepted")
    assert done == {"op_id": "accepted-op", "state": "failed", "reason": "expired"}
    shown = used.json("ops", "show", "accepted-op")
    assert (shown["state"], shown["reason"]) == ("failed", "expired")
    assert "before it was sent" in shown["exit_status"]
    again = used.run("ops", "cancel", "accepted-op")
    assert "has ended already (failed, expired)" in again.stderr
    assert used.json("journal", "verify")["ok"] is True


def test_what_may_have_reached_pve_is_not(used: Stage) -> None:
    write(used, ("sent-op", accepted()), ("sent-op", Started(intent=INTENT)))
    done = used.run("ops", "cancel", "sent-op")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "destroy of 102 may have reached PVE, which takes nothing back" in done.stderr
    assert "`trueup ops show sent-op`" in done.stderr
    assert "no operation's id begins with 'nobody'" in used.run("ops", "cancel", "nobody").stderr


def test_the_tail_tells_of_requests_and_of_what_was_refused(used: Stage) -> None:
    asked = samples.requested("asked", 102, kind=Kind.DESTROY, reason="gone")
    denied = Denied(refusal=Refusal.SIGNATURE, text="the signature is not over these bytes", via="spool")

    async def append() -> None:
        journal = sqlite.open_journal(used.journal(), inline=True)
        epoch = await journal.take_epoch(holder="test", token=TokenId(""), record_id="epoch", at_ms=1)
        await journal.append(epoch, [asked, samples.draft("", denied)])
        await journal.close()

    asyncio.run(append())
    said = used.run("journal", "tail", "-n", "2").stdout
    assert 'request for destroy of VM 102: Asked for by spool: alice gave as reason "gone".' in said
    assert "The gate refused what came by spool (signature): the signature is not over these bytes." in said
    assert [row["event"]["type"] for row in used.json("journal", "tail", "-n", "2")["records"]] == [
        "requested",
        "denied",
    ]
