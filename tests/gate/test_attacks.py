"""What attackers and accidents get: a refusal with its reason, a record of it, and no effect."""

import base64
import json
from collections.abc import Callable

import pytest

from tests.gate.security_key import ALICES, EVES, PARTY, UP, Browser, SecurityKey, with_lines
from tests.gate.world import (
    CT,
    HOUR_MS,
    KEPT,
    NOW_MS,
    VM,
    Scene,
    envelope_of,
    instant,
    key_id,
    keyring_text,
    payload_of,
    play,
    request,
    signed,
)
from trueup.core.gate_envelope import render_envelope, with_signatures
from trueup.model.gate import Denied, Form, Refusal, RequestState
from trueup.model.gate_answers import VETO_TYPE, Envelope, Outcome, Signature
from trueup.model.keyring import RelyingParty
from trueup.model.ops import Accepted

Attack = Callable[[Scene], bytes]


def good(**more) -> bytes:
    return signed(request(**more), "alice", "bob")


def patched(content: bytes, **fields: object) -> bytes:
    return json.dumps(json.loads(content) | fields).encode()


def other_payload(content: bytes, change: Callable[[dict], None]) -> bytes:
    """The signatures of one payload over another."""
    document = json.loads(base64.b64decode(json.loads(content)["payload"]))
    change(document)
    return patched(content, payload=base64.b64encode(payload_of(document)).decode())


def raw(text: str | bytes, *signers: str) -> bytes:
    """A payload that no JSON writer makes, signed all right."""
    payload = text.encode() if isinstance(text, str) else text
    return render_envelope(envelope_of(payload, *(signers or ("alice", "bob"))))


def text_with(old: str, new: str, **more) -> str:
    text = payload_of(request(**more)).decode()
    assert old in text
    return text.replace(old, new)


def relabelled(*_: object) -> bytes:
    """Alice's two signatures, one of them under the id of bob's key."""
    envelope = envelope_of(payload_of(request()), "alice", "alice2")
    mine, other = envelope.signatures
    forged = Signature(key_id=key_id("bob"), form=Form.DSSE, raw=other.raw)
    return render_envelope(
        Envelope(payload=envelope.payload, payload_type=envelope.payload_type, signatures=(forged, mine))
    )


def revoke(scene: Scene, *names: str) -> None:
    (scene.folder / "keyring.yaml").write_text(keyring_text(**dict.fromkeys(names, "2026-12-01T00:00:00Z")))


def revoked(scene: Scene) -> bytes:
    revoke(scene, "alice")
    return signed(request(), "alice")


def remade(scene: Scene) -> bytes:
    scene.world.configs[VM]["smbios1"] = "uuid=aaaaaaaa-2222-3333-4444-555555555555"
    return good()


def changed(scene: Scene) -> bytes:
    scene.world.digests[VM] = "b" * 40
    return good()


def gone(scene: Scene) -> bytes:
    del scene.world.configs[VM]
    return good()


def unseen(scene: Scene) -> bytes:
    scene.world.lists_all = False
    return gone(scene)


def unread(scene: Scene) -> bytes:
    scene.world.broken = True
    return good()


def container_made_again(scene: Scene) -> bytes:
    scene.world.task("vzrestore", CT, NOW_MS + 1000)
    return signed(request(vmid=CT), "alice")


def container_tasks_hidden(scene: Scene) -> bytes:
    scene.world.sees_tasks = False
    return signed(request(vmid=CT), "alice")


def container_without_marker(scene: Scene) -> bytes:
    del scene.world.configs[CT]["description"]
    identity = {"rootfs": "local:201/vm-201-disk-0.raw", "macs": ["AA:BB:CC:00:00:01"]}
    return signed(
        request(vmid=CT, target={"type": "lxc", "vmid": 201, "identity": identity, "digest": "a" * 40}), "alice"
    )


def kept_by_tag(scene: Scene) -> bytes:
    scene.world.configs[VM]["tags"] = "web;Keep"
    return good()


def no_keyring(scene: Scene) -> bytes:
    (scene.folder / "keyring.yaml").unlink()
    return good()


def in_browsers(scene: Scene, party: RelyingParty = PARTY) -> None:
    """Alice has a security key, and people may sign on our pages."""
    (scene.folder / "keyring.yaml").write_text(with_lines(keyring_text(), alice=ALICES.line))
    scene.party = party
    scene.gate = scene.new_gate()


def browsed(browser: Browser, key: SecurityKey = ALICES, party: RelyingParty = PARTY) -> Attack:
    def attack(scene: Scene) -> bytes:
        in_browsers(scene, party)
        return render_envelope(key.sign(envelope_of(payload_of(request())), browser))

    return attack


def browsed_for_another(scene: Scene) -> bytes:
    in_browsers(scene)
    made = ALICES.signature(envelope_of(payload_of(request())))
    return render_envelope(with_signatures(envelope_of(payload_of(request())), [made]))


def clock_back(scene: Scene) -> bytes:
    scene.clock.ms -= 3 * HOUR_MS
    return good(not_before=instant(-4))


ATTACKS: dict[str, tuple[Refusal, Attack]] = {
    # form
    "giant": (Refusal.TOO_LARGE, lambda _: b" " * 65_537),
    "giant payload": (Refusal.TOO_LARGE, lambda _: patched(good(), payload="A" * 65_536)),
    "empty": (Refusal.MALFORMED, lambda _: b""),
    "not JSON": (Refusal.MALFORMED, lambda _: b"\x80\x04K\x01."),
    "a list": (Refusal.MALFORMED, lambda _: b"[]"),
    "truncated": (Refusal.MALFORMED, lambda _: good()[:-20]),
    "deeply nested": (Refusal.MALFORMED, lambda _: b'{"payload":' + b"[" * 30_000),
    "deeply nested in strings' shadow": (Refusal.MALFORMED, lambda _: b'{"a":"\\"","b":' + b'{"a":' * 5_000),
    "byte order mark": (Refusal.MALFORMED, lambda _: b"\xef\xbb\xbf" + good()),
    "unknown field of the envelope": (Refusal.MALFORMED, lambda _: patched(good(), extra=1)),
    "duplicate field of the envelope": (Refusal.MALFORMED, lambda _: good().replace(b"{", b'{"payloadType": "x",', 1)),
    "signature is no object": (Refusal.MALFORMED, lambda _: patched(good(), signatures=["x"])),
    "signature is not base64": (Refusal.MALFORMED, lambda _: patched(good(), signatures=[{"keyid": "", "sig": "!"}])),
    "signature is base64 with bits to spare": (
        Refusal.MALFORMED,
        lambda _: patched(good(), signatures=[{"sig": "AB=="}]),
    ),
    "unknown form": (Refusal.MALFORMED, lambda _: patched(good(), signatures=[{"sig": "AA==", "form": "pgp"}])),
    "too many signatures": (Refusal.MALFORMED, lambda _: patched(good(), signatures=[{"sig": "AA=="}] * 33)),
    "payload is loose base64": (
        Refusal.MALFORMED,
        lambda _: patched(good(), payload=json.loads(good())["payload"] + "\n"),
    ),
    # kind of payload
    "wrong kind of payload": (Refusal.PAYLOAD_TYPE, lambda _: patched(good(), payloadType="text/plain")),
    "in-toto": (Refusal.PAYLOAD_TYPE, lambda _: patched(good(), payloadType="application/vnd.in-toto+json")),
    # signatures
    "closed": (Refusal.NO_KEYRING, no_keyring),
    "unsigned": (Refusal.SIGNATURE, lambda _: signed(request())),
    "stripped": (Refusal.SIGNATURE, lambda _: patched(good(), signatures=[])),
    "forged": (Refusal.SIGNATURE, lambda _: other_payload(good(), lambda d: d.update(kind="rollback"))),
    "re-encoded": (Refusal.SIGNATURE, lambda _: other_payload(good(), lambda d: d.update(reason=d.pop("reason")))),
    "other type than was signed": (Refusal.SIGNATURE, lambda _: patched(good(), payloadType=VETO_TYPE)),
    "stranger": (Refusal.UNKNOWN_KEY, lambda _: signed(request(requested_by="mallory"), "mallory")),
    "stranger in somebody's name": (Refusal.UNKNOWN_KEY, lambda _: signed(request(), "mallory")),
    "revoked key": (Refusal.REVOKED_KEY, revoked),
    # signatures made in a browser; every way in which one is none is in test_webauthn
    "browser where no page is ours": (Refusal.SIGNATURE, browsed(Browser(), party=RelyingParty())),
    "browser on another page": (Refusal.SIGNATURE, browsed(Browser(origin="https://evil.example"))),
    "browser for another site": (Refusal.SIGNATURE, browsed(Browser(site="evil.example"))),
    "browser over another request": (Refusal.SIGNATURE, browsed_for_another),
    "browser that enrols": (Refusal.SIGNATURE, browsed(Browser(type="webauthn.create"))),
    "security key without a PIN": (Refusal.SIGNATURE, browsed(Browser(flags=UP))),
    "stranger's security key": (Refusal.UNKNOWN_KEY, browsed(Browser(), EVES)),
    "stranger's security key in alice's name": (
        Refusal.SIGNATURE,
        browsed(Browser(credential=ALICES.credential), EVES),
    ),
    # the payload's form
    "payload is no JSON": (Refusal.MALFORMED, lambda _: raw("destroy 101")),
    "unknown field": (Refusal.MALFORMED, lambda _: good(force=True)),
    "unknown field of the target": (Refusal.MALFORMED, lambda _: raw(text_with('"vmid"', '"node": "x", "vmid"'))),
    "duplicate key": (Refusal.MALFORMED, lambda _: raw(text_with('"cluster"', '"kind": "start", "cluster"'))),
    "float": (Refusal.MALFORMED, lambda _: raw(text_with(": 101", ": 101.0"))),
    "exponent": (Refusal.MALFORMED, lambda _: raw(text_with(": 101", ": 1e2"))),
    "NaN": (Refusal.MALFORMED, lambda _: raw(text_with(": 101", ": NaN"))),
    "negative": (Refusal.MALFORMED, lambda _: raw(text_with(": 101", ": -101"))),
    "endless number": (Refusal.MALFORMED, lambda _: raw(text_with(": 101", ": " + "9" * 5_000))),
    "vmid as text": (Refusal.MALFORMED, lambda _: raw(text_with(": 101", ': "101"'))),
    "vmid as truth": (Refusal.MALFORMED, lambda _: raw(text_with(": 101", ": true"))),
    "missing field": (Refusal.MALFORMED, lambda _: raw(text_with('"reason"', '"Reason"'))),
    "half a surrogate": (Refusal.MALFORMED, lambda _: raw(text_with("customer", "\\ud800"))),
    "line break in the reason": (Refusal.MALFORMED, lambda _: good(reason="ok\nINFO all is well")),
    "escape sequence in the reason": (Refusal.MALFORMED, lambda _: good(reason="\x1b[2J")),
    "broken UTF-8": (Refusal.MALFORMED, lambda _: raw(payload_of(request()).replace(b"left", b"\xff\xfe"))),
    "no identity": (
        Refusal.MALFORMED,
        lambda _: good(target={"type": "qemu", "vmid": 101, "identity": {}, "digest": "a" * 40}),
    ),
    "no digest": (
        Refusal.MALFORMED,
        lambda _: good(target={"type": "qemu", "vmid": 101, "identity": {"marker": "u"}, "digest": ""}),
    ),
    "short nonce": (Refusal.MALFORMED, lambda _: good(nonce="AAAA")),
    "long nonce": (Refusal.MALFORMED, lambda _: good(nonce="A" * 52)),
    "nonce with bits to spare": (Refusal.MALFORMED, lambda _: good(nonce="A" * 25 + "B")),
    "times out of order": (Refusal.MALFORMED, lambda _: good(approve_by=instant(3))),
    "time without zone": (Refusal.MALFORMED, lambda _: good(execute_by="2027-01-15T10:00:00")),
    "no such day": (Refusal.MALFORMED, lambda _: good(execute_by="2027-02-30T10:00:00Z")),
    "unknown param": (Refusal.MALFORMED, lambda _: good(params={"skiplock": True})),
    "path in a param": (Refusal.MALFORMED, lambda _: good(kind="restore", params={"archive": "local:backup/../x"})),
    "missing param": (Refusal.MALFORMED, lambda _: signed(request("snapshot-delete"), "alice")),
    # people
    "requester has not signed": (Refusal.REQUESTER, lambda _: signed(request(), "bob", "carol")),
    "requester is nobody": (Refusal.REQUESTER, lambda _: good(requested_by="eve")),
    # audience, times
    "wrong cluster": (Refusal.AUDIENCE, lambda _: good(cluster="prod")),
    "future": (Refusal.NOT_YET, lambda _: good(not_before=instant(0.5))),
    "expired": (
        Refusal.EXPIRED,
        lambda _: good(not_before=instant(-3), approve_by=instant(-2), execute_by=instant(-1)),
    ),
    "too late to approve": (Refusal.EXPIRED, lambda _: good(not_before=instant(-3), approve_by=instant(-1))),
    "too long": (Refusal.TOO_LONG, lambda _: good(execute_by=instant(25))),
    "signed long ago for long": (Refusal.TOO_LONG, lambda _: good(not_before=instant(-30))),
    "clock set back": (Refusal.CLOCK, clock_back),
    # policy
    "kind of the loop": (Refusal.KIND, lambda _: good(kind="create")),
    "no such kind": (Refusal.KIND, lambda _: good(kind="format")),
    "resolve as an operation": (Refusal.KIND, lambda _: good(kind="resolve")),
    "no rule": (Refusal.NO_RULE, lambda _: good(kind="reboot")),
    "rule for other guests": (Refusal.NO_RULE, lambda _: good(kind="unlock")),
    "never destroyed, by vmid": (Refusal.NEVER, lambda _: signed(request(vmid=KEPT), "alice")),
    "never destroyed, by tag": (Refusal.NEVER, kept_by_tag),
    "no window before its end": (Refusal.WINDOW, lambda _: signed(request("stop"), "alice")),
    "needs a token": (Refusal.NEEDS_TOKEN, lambda _: signed(request("start"), "alice")),
    # target
    "vmid made anew": (Refusal.IDENTITY, remade),
    "guest changed": (Refusal.DIGEST, changed),
    "guest gone": (Refusal.TARGET_GONE, gone),
    "guest not listed": (Refusal.UNREADABLE, unseen),
    "guest not readable": (Refusal.UNREADABLE, unread),
    "other type of guest": (
        Refusal.IDENTITY,
        lambda _: good(target={"type": "lxc", "vmid": 101, "identity": {"marker": "uid-101"}, "digest": "a" * 40}),
    ),
    "container made anew": (Refusal.IDENTITY, container_made_again),
    "container's tasks hidden": (Refusal.UNREADABLE, container_tasks_hidden),
    "container without marker": (Refusal.IDENTITY, container_without_marker),
}


@pytest.mark.parametrize(("refusal", "attack"), ATTACKS.values(), ids=ATTACKS)
def test_refused_with_its_reason_a_record_and_no_effect(tmp_path, refusal, attack):
    async def story(scene: Scene) -> None:
        content = attack(scene)
        answer = await scene.gate.submit(content, "stdin")
        assert (answer.outcome, answer.refusal, answer.state) == (Outcome.REFUSED, refusal, "refused"), answer
        assert answer.reason
        denied = await scene.events(Denied)
        assert [one.refusal for one in denied] == [refusal]
        assert await scene.journal.requests() == ()
        assert await scene.events(Accepted) == []

    play(tmp_path, story)


def test_every_reason_of_a_new_request_is_in_the_table():
    """The others need something that came before; they have stories of their own."""
    later = {
        Refusal.REPLAY,
        Refusal.NONCES_FULL,
        Refusal.KEY_TAKEN,  # answered as a repetition, see test_gate
        Refusal.KEY_DIFFERS,
        Refusal.BUDGET,
        Refusal.BLOCKED,
        Refusal.STATE,
    }
    assert set(Refusal) - later == {refusal for refusal, _ in ATTACKS.values()}


@pytest.mark.parametrize(
    "content",
    [
        lambda: signed(request(), "alice", "alice2"),
        relabelled,
        lambda: signed(request(), "alice", "mallory"),
        lambda: signed(request(), "alice", "dave"),
        lambda: render_envelope(
            Envelope(
                payload=(twice := envelope_of(payload_of(request()), "alice")).payload,
                payload_type=twice.payload_type,
                signatures=twice.signatures * 3,
            )
        ),
    ],
    ids=["two keys of one person", "one key under two ids", "junk beside it", "somebody without role", "one repeated"],
)
def test_one_person_is_one_approval(tmp_path, content):
    async def story(scene: Scene) -> None:
        answer = await scene.gate.submit(content(), "stdin")
        assert (answer.outcome, answer.state) == (Outcome.PENDING, "pending"), answer
        assert answer.missing == "1 more with role operator: bob, carol"
        (view,) = await scene.journal.requests(state=RequestState.PENDING)
        assert view.ruling.counted == ("alice",)

    play(tmp_path, story)


def test_one_key_of_two_people_is_one_approval(tmp_path):
    """Bob has alice's second key as well: who of them holds it cannot be told."""

    async def story(scene: Scene) -> None:
        line = keyring_text().splitlines()[1]
        shared = line[line.index("ssh-ed25519", line.index("ssh-ed25519") + 1) : line.rindex('"')]
        text = keyring_text().replace(
            "  bob: {roles: [operator], keys: [", f'  bob: {{roles: [operator], keys: ["{shared}", '
        )
        (scene.folder / "keyring.yaml").write_text(text)
        answer = await scene.gate.submit(good(), "stdin")
        assert (answer.outcome, answer.missing) == (Outcome.PENDING, "1 more with role operator: carol")
        assert any("share a key" in line for line in scene.files.problems())

    play(tmp_path, story)


def test_a_flood_is_counted_not_written(tmp_path):
    async def story(scene: Scene) -> None:
        for _ in range(200):
            await scene.gate.submit(b"{}", "http")
        assert len(await scene.events(Denied)) == 30
        scene.clock.ms += 61_000
        await scene.gate.lapse()
        last = (await scene.events(Denied))[-1]
        assert (last.refusal, last.times) == (Refusal.MALFORMED, 170)
        assert scene.gate.denials.total == {Refusal.MALFORMED: 200}

    play(tmp_path, story)


def test_nothing_of_the_input_is_quoted_in_the_record(tmp_path):
    async def story(scene: Scene) -> None:
        for secret in ("hunter2", "\x1b[31m"):
            await scene.gate.submit(good(**{secret: 1}), "http")
            await scene.gate.submit(good(params={"hunter2": secret}), "http")
            await scene.gate.submit(good(cluster=f"hunter2{secret}"), "http")
        for denied in await scene.events(Denied):
            assert "hunter2" not in denied.text
            assert denied.text.isprintable()

    play(tmp_path, story)
