"""Attacks and accidents, end to end: each is refused, with its reason, a record and a metric; PVE hears of nothing."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from securesystemslib.signer import CryptoSigner  # pyright: ignore[reportPrivateImportUsage]

from tests.cli.stage import Simulator
from tests.gate_edges.house import House, instant, nonce, opened
from tests.operator.living import Agent
from tests.web.client import Client
from trueup.adapters.signing import sign
from trueup.core.gate_envelope import parse_envelope, render_envelope


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Agent]]:
    """A house with an agent; mallory is nobody, dave's key is revoked."""
    with _inhabited(tmp_path_factory.mktemp("gate")) as found:
        yield found


@pytest.fixture
def flooded(tmp_path: Path) -> Iterator[tuple[House, Agent]]:
    """One of its own for what uses up the records of a minute: whoever comes after it would only be counted."""
    with _inhabited(tmp_path) as found:
        yield found


@contextmanager
def _inhabited(folder: Path) -> Iterator[tuple[House, Agent]]:
    simulator = Simulator()
    try:
        house = House(folder=folder, sim=simulator)
        house.ok("keys", "new", "mallory", "-o", "mallory.key")
        keyring = house.folder / "keyring.yaml"
        keyring.write_text("".join(line for line in keyring.read_text().splitlines(True) if "mallory" not in line))
        house.ok("keys", "new", "dave", "-o", "dave.key", "--role", "operator")
        (dave,) = [one for one in house.json("keys", "list")["people"] if one["person"] == "dave"]
        gone = f', revoked: {{"{dave["keys"][0]["key_id"]}": 2026-01-01T00:00:00Z}}}}'
        lines = keyring.read_text().splitlines(keepends=True)
        keyring.write_text("".join(f"{line.rstrip()[:-1]}{gone}\n" if "dave:" in line else line for line in lines))
        with house.agent() as agent:
            yield house, agent
    finally:
        simulator.stop()


def _signed(house: House, **more: object) -> dict:
    return opened(house.envelope(house.document(**more), "alice", "bob"))


def _forged(house: House) -> bytes:
    """Mallory's signature under bob's id."""
    envelope = _signed(house)
    mallory = opened(house.envelope(house.document(), "mallory"))["signatures"][0]
    envelope["signatures"] = [envelope["signatures"][1] | {"sig": mallory["sig"]}]
    return _dumped(envelope)


def _dumped(envelope: dict) -> bytes:
    return json.dumps(envelope).encode()


def _other_payload(change: Callable[[dict], str]) -> Callable[[House], bytes]:
    """The signatures of one payload over another one."""

    def make(house: House) -> bytes:
        envelope = _signed(house)
        document = json.loads(base64.b64decode(envelope["payload"]))
        return _dumped(envelope | {"payload": base64.b64encode(change(document).encode()).decode()})

    return make


def _replayed(house: House) -> bytes:
    """The nonce of a request that waits, in another one."""
    first = house.envelope(house.document(), "alice", name="first.json")
    assert house.submit("first.json")["state"] == "pending"
    known = json.loads(base64.b64decode(opened(first)["payload"]))
    again = house.document("shutdown", nonce=known["nonce"])
    return house.envelope(again, "alice", "bob").read_bytes()


def _weak(house: House) -> bytes:
    envelope = parse_envelope(house.envelope(house.document()).read_bytes())
    short = generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    return render_envelope(sign(envelope, CryptoSigner(short)))


def _of(*people: str, payload_type: str = "", **more: object) -> Callable[[House], bytes]:
    def make(house: House) -> bytes:
        envelope = opened(house.envelope(house.document(**more), *people))
        return _dumped(envelope | ({"payloadType": payload_type} if payload_type else {}))

    return make


def _times(begin: float, end: float) -> dict[str, str]:
    return {"not_before": instant(begin), "approve_by": instant(end), "execute_by": instant(end)}


ATTACKS: dict[str, tuple[Callable[[House], bytes], str]] = {
    "forged": (_forged, "signature"),
    "stripped": (lambda house: _dumped(_signed(house) | {"signatures": []}), "signature"),
    "re-ordered": (_other_payload(lambda d: json.dumps(dict(reversed(d.items())))), "signature"),
    "re-encoded": (_other_payload(lambda d: json.dumps(d, separators=(",", ":"))), "signature"),
    "for another kind": (_other_payload(lambda d: json.dumps(d | {"kind": "stop"})), "signature"),
    "truncated": (lambda house: _dumped(_signed(house))[:-20], "malformed"),
    "replayed": (_replayed, "replay"),
    "expired": (_of("alice", "bob", **_times(-7200, -3600)), "expired"),
    "future": (_of("alice", "bob", **_times(1800, 3600)), "not_yet"),
    "for too long": (_of("alice", "bob", **_times(0, 9e5)), "too_long"),
    "wrong cluster": (_of("alice", "bob", cluster="prod"), "audience"),
    "wrong kind of payload": (_of("alice", "bob", payload_type="application/vnd.in-toto+json"), "payload_type"),
    "said to be a veto": (_of("alice", "bob", payload_type="application/vnd.trueup.veto.v1+json"), "signature"),
    "revoked key": (_of("dave", requested_by="dave"), "revoked_key"),
    "unknown key": (_of("mallory"), "unknown_key"),
    "weak key": (_weak, "unknown_key"),
    "not signed by who asks": (_of("bob"), "requester"),
    "giant": (lambda house: _dumped(_signed(house)).replace(b"{", b"{" + b" " * 70_000, 1), "too_large"),
    "deeply nested": (lambda _: b'{"payload":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "malformed"),
    "an unknown field": (_of("alice", "bob", more=1), "malformed"),
    "a float": (_of("alice", "bob", params={"purge": 1.0}), "malformed"),
    "an unknown param": (_of("alice", "bob", params={"skiplock": True}), "malformed"),
    "nothing for signatures": (_of("alice", "bob", payload_type="x", nonce=nonce()), "payload_type"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_refused_with_reason_record_and_metric(lived: tuple[House, Agent], name: str) -> None:
    house, agent = lived
    make, refusal = ATTACKS[name]
    content = make(house)
    before = len(house.changes()), len(house.events("denied")), _metric(agent, refusal), len(_known(house))
    house.file(content)
    refused = house.submit(code=1)
    assert refused["state"] == "refused"
    assert refused["reason"]
    denied = house.events("denied")
    assert [one["refusal"] for one in denied[before[1] :]] == [refusal]
    assert denied[-1]["via"] == "command"
    assert _metric(agent, refusal) == before[2] + 1
    assert len(_known(house)) == before[3]
    assert len(house.changes()) == before[0]
    assert house.there()


def _known(house: House) -> list[dict]:
    return house.json("requests")["requests"]


def _metric(agent: Agent, refusal: str) -> float:
    text = Client.of(agent).get("/metrics").text
    found = [line for line in text.splitlines() if "gate_refusals_total" in line and f'reason="{refusal}"' in line]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


def test_a_flood_of_them_does_not_fill_the_journal(flooded: tuple[House, Agent]) -> None:
    house, agent = flooded
    client = Client.of(agent)
    for _ in range(60):
        assert client.ask("POST", "/v1/requests", body=b"{}").problem()["refusal"] == "malformed"
    assert len(house.events("denied")) <= 2 * 30
    assert "refused [malformed]" in house.run("submit", str(house.file(b"{}"))).stderr


def test_one_person_twice_is_one(lived: tuple[House, Agent]) -> None:
    house, _ = lived
    house.ok("keys", "new", "alice", "-o", "alice2.key")
    house.envelope(house.document(idempotency_key="twice"), "alice", "alice2")
    answer = house.submit()
    assert answer["state"] == "pending"
    assert "1 more" in answer["missing"]
    house.ok("veto", answer["request"], "--key", "bob.key")


def test_no_secret_is_written_anywhere(lived: tuple[House, Agent]) -> None:
    """No private key's line is in journal, log or any answer."""
    house, agent = lived
    secret = (house.folder / "alice.key").read_text().splitlines()[2]
    for said in (house.run("journal", "export").stdout, json.dumps(agent.lines), house.run("requests").stdout):
        assert secret not in said
    assert oct((house.folder / "alice.key").stat().st_mode & 0o777) == "0o600"
