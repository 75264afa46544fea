"""What the gate tells whoever it refuses is done, and then it takes the request."""

import base64
import dataclasses
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.gate.test_attacks import good, revoke
from tests.gate.test_gate import accept, start
from tests.gate.world import CT, HOUR_MS, NOW_MS, POLICY, VM, Scene, instant, marker, play, request, resolution, signed
from tests.operator.following import fits
from trueup.adapters.sqlite import open_journal, prune
from trueup.adapters.sqlite.retention import Clerk
from trueup.core import marker as markers
from trueup.model import limits
from trueup.model.gate_answers import RESOLUTION_TYPE, Outcome
from trueup.model.ops import Contradicted, Failed, OpState, Reason, Row, Unresolved

Step = Callable[[Scene], bytes | Awaitable[bytes]]
CASES: list[tuple[str, Step, Step]] = []
"""A remedy, what is handed in and refused with it, and what is handed in once it was followed."""

SATURDAY = 17.0
"""Hours from the start of these scenes to Saturday, 01:00 UTC: a window opens at 02:00."""


def case(remedy: str, wrong: Step, follow: Step) -> None:
    CASES.append((remedy, wrong, follow))


def policy(scene: Scene, old: str, new: str) -> None:
    assert old in POLICY
    (scene.folder / "policy.yaml").write_text(POLICY.replace(old, new))


def by_a_lost_key(scene: Scene) -> bytes:
    revoke(scene, "alice")
    return signed(request(), "alice")


def document(content: bytes) -> dict[str, object]:
    return json.loads(base64.b64decode(json.loads(content)["payload"]))


case("sign with another key", by_a_lost_key, lambda _: signed(request(), "alice2", "bob"))
case("sign it with `trueup sign`", lambda _: signed(request()), lambda _: good())
ANEW = "prepare and sign a new one"
case(ANEW, lambda _: good(not_before=instant(-2), approve_by=instant(-1), execute_by=instant(-1)), lambda _: good())
case(ANEW, lambda _: good(not_before=instant(-2), approve_by=instant(-1)), lambda _: good())
case("sign a new one with an earlier execute_by", lambda _: good(execute_by=instant(30)), lambda _: good())
case("requestable: {}", lambda _: good(kind="explode"), lambda _: good(kind="destroy"))


def clock(scene: Scene, hours: float) -> None:
    scene.clock.ms = NOW_MS + int(hours * HOUR_MS)


async def behind(scene: Scene) -> bytes:
    """The newest record is of now, and the machine's clock was set back since."""
    await accept(scene)
    clock(scene, -24)
    return good()


def set_right(scene: Scene) -> bytes:
    clock(scene, 0)
    return signed(request("shutdown"), "alice")


case("set the clock of the machine that trueup runs on", behind, set_right)
EARLY = signed(request(not_before=instant(1), approve_by=instant(2), execute_by=instant(3)), "alice", "bob")


def waits(scene: Scene) -> bytes:
    clock(scene, 1)
    return EARLY


case("wait, or compare the signer's clock with this machine's", lambda _: EARLY, waits)


async def replayed(scene: Scene) -> bytes:
    first = request("shutdown")
    await scene.gate.submit(signed(first, "alice"), "x")
    return signed(first | {"reason": "another one"}, "alice")


case("prepare a new one; `trueup request` makes the nonce", replayed, lambda _: good())


async def same_key(scene: Scene) -> bytes:
    await scene.gate.submit(signed(request("shutdown", idempotency_key="k"), "alice"), "x")
    return good(idempotency_key="k")


case("choose another key", same_key, lambda _: good(idempotency_key="other"))
UNREAD = good()


def unread(scene: Scene) -> bytes:
    scene.world.broken = True
    return UNREAD


def answers(scene: Scene) -> bytes:
    scene.world.broken = False
    return UNREAD


case("try again when PVE answers", unread, answers)
LOOK = "look at it, and prepare a new request"


def edited(scene: Scene) -> bytes:
    scene.world.digests[VM] = "b" * 40
    return good()


def made_anew(scene: Scene) -> bytes:
    scene.world.configs[VM]["smbios1"] = "uuid=aaaaaaaa-2222-3333-4444-555555555555"
    return good()


def as_it_is(scene: Scene) -> bytes:
    """What `trueup request` writes after a look."""
    seen = scene.world.observed(VM)
    asked = request()
    identity = {"smbios1_uuid": seen.identity.smbios1_uuid, "ctime": 1767225600}
    target = {"type": "qemu", "vmid": VM, "identity": identity, "digest": seen.digest}
    return signed(asked | {"target": target}, "alice", "bob")


case(LOOK, edited, as_it_is)
case(LOOK, made_anew, as_it_is)


def unmarked(scene: Scene) -> bytes:
    del scene.world.configs[CT]["description"]
    asked = request(vmid=CT)
    target = msgspec.convert(asked["target"], dict[str, object])
    identity = {key: value for key, value in dict(target["identity"]).items() if key != "marker"}  # type: ignore[call-overload]
    return signed(asked | {"target": target | {"identity": identity}}, "alice")


def adopted(scene: Scene) -> bytes:
    scene.world.configs[CT]["description"] = markers.render("", marker(CT))
    return signed(request(vmid=CT), "alice")


case("adopt it, look at it, and prepare a new request", unmarked, adopted)


def kept(scene: Scene) -> bytes:
    scene.has_token = True
    return signed(request("start"), "alice")


case("set a keeper under [cluster]", lambda _: signed(request("start"), "alice"), kept)


def in_the_window(scene: Scene) -> bytes:
    clock(scene, SATURDAY)
    times: dict[str, Any] = {
        "not_before": instant(SATURDAY),
        "approve_by": instant(SATURDAY + 1),
        "execute_by": instant(SATURDAY + 2),
    }
    return signed(request("stop", **times), "alice")


case("sign a request that is good until the next window", lambda _: signed(request("stop"), "alice"), in_the_window)


async def one_too_many(scene: Scene) -> bytes:
    done = await scene.gate.submit(signed(request("template"), "alice"), "x")
    assert done.op
    await start(scene, done.op)
    await scene.deck.record(done.op, Failed(reason=Reason.REFUSED))
    return signed(request("template"), "alice")


def a_larger_budget(scene: Scene) -> bytes:
    policy(scene, "most: 1", "most: 2")
    return signed(request("template"), "alice")


def an_hour_later(scene: Scene) -> bytes:
    clock(scene, 1.5)
    return signed(request("template", not_before=instant(1), approve_by=instant(2), execute_by=instant(3)), "alice")


case("wait, or change the budget", one_too_many, a_larger_budget)
case("wait, or change the budget", one_too_many, an_hour_later)

# --- words about an operation that is open ----------------------------------------------------------------------------

OPEN = Unresolved(reason=Reason.PARTIAL, row=Row.R13, settles_by="a look")


async def opened(scene: Scene) -> str:
    first = await accept(scene)
    await start(scene, first.op)
    await scene.deck.record(first.op, OPEN)
    return first.op


async def alone(scene: Scene) -> bytes:
    policy(scene, "{kinds: [resolve], people: 1, roles: [owner]}", "{kinds: [resolve], people: 2, roles: [operator]}")
    return resolution(await opened(scene))


async def together(scene: Scene) -> bytes:
    """The very file that was refused, signed by another one too."""
    (op,) = [one for one in await scene.journal.ops() if one.state is OpState.STARTED]
    return signed(document(resolution(op.op_id)), "carol", "bob", kind=RESOLUTION_TYPE)


case("let the others sign the same file before it is submitted", alone, together)


async def once_more(scene: Scene) -> bytes:
    op_id = await opened(scene)
    word = resolution(op_id, **{"as": "failed"})
    await scene.gate.submit(word, "x")
    await scene.deck.record(op_id, Contradicted(what="its task turned up"))
    await scene.deck.record(op_id, OPEN)
    return word


async def a_new_word(scene: Scene) -> bytes:
    (op,) = [one for one in await scene.journal.ops() if one.state is OpState.STARTED]
    return resolution(op.op_id)


case("prepare a new one", once_more, a_new_word)


async def of(step: Step, scene: Scene) -> bytes:
    made = step(scene)
    return made if isinstance(made, bytes) else await made


@pytest.mark.parametrize(("remedy", "wrong", "follow"), CASES, ids=[one[0][:40] for one in CASES])
def test_handed_in_as_the_gate_says(tmp_path: Path, remedy: str, wrong: Step, follow: Step) -> None:
    async def story(scene: Scene) -> None:
        no = await scene.gate.submit(await of(wrong, scene), "stdin")
        assert no.outcome is Outcome.REFUSED, no
        assert fits(f"{{}} ({remedy})", no.reason), no.reason
        yes = await scene.gate.submit(await of(follow, scene), "stdin")
        assert yes.outcome in {Outcome.ACCEPTED, Outcome.PENDING}, yes

    play(tmp_path, story)


def test_another_request_than_the_one_that_is_approved(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        asked = request()
        waiting = await scene.gate.submit(signed(asked, "alice"), "x")
        no = await scene.gate.approve(waiting.request, signed(request(), "bob"), "http")
        assert fits("{} (sign that one)", no.reason), no.reason
        yes = await scene.gate.approve(waiting.request, signed(asked, "bob"), "http")
        assert yes.outcome is Outcome.ACCEPTED

    play(tmp_path, story)


def test_a_journal_that_is_full_of_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is over for long is forgotten, and only by pruning."""
    monkeypatch.setattr(limits, "NONCES_MAX", 1)
    week = 9 * 24.0
    times = {"not_before": instant(week), "approve_by": instant(week + 1), "execute_by": instant(week + 2)}

    async def story(scene: Scene) -> None:
        first = await accept(scene)
        await scene.deck.record(first.op, Failed(reason=Reason.EXPIRED))
        clock(scene, week)
        no = await scene.gate.submit(good(**times), "x")
        assert fits(f"{{}} ({PRUNE})", no.reason), no.reason
        await scene.journal.close()
        path = scene.folder / "journal.db"
        clerk = Clerk(
            holder="clerk:1", at_ms=scene.clock.ms, record_id=lambda: scene.deck.entropy.uuid7(scene.clock.ms)
        )
        pruned = prune(path, before_ms=scene.clock.ms - 8 * 24 * HOUR_MS, clerk=clerk, dry=False)
        assert pruned.ops == 1
        scene.journal = open_journal(path, inline=True)
        epoch = await scene.journal.take_epoch(
            holder="test", token=scene.deck.pve.token, record_id="epoch-3", at_ms=scene.clock.ms
        )
        scene.deck = dataclasses.replace(scene.deck, journal=scene.journal, epoch=epoch)
        scene.gate = scene.new_gate()
        yes = await scene.gate.submit(good(**times), "x")
        assert yes.outcome is Outcome.ACCEPTED, yes

    play(tmp_path, story)


PRUNE = "`trueup journal prune` forgets those that are over for long"
FOLLOWED = {*(remedy for remedy, _, _ in CASES), "sign that one", PRUNE}
