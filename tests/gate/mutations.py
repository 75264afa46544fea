"""Envelopes with something changed: what the gate is asked is whether it ever takes one for signed that nobody signed.

`hunt` is used by the quick tests with a few thousand mutations, and by longer runs with as many as one likes.
"""

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path

from tests.gate.security_key import ALICES, BOBS, PARTY, b64url, with_lines
from tests.gate.world import envelope_of, keyring_text, payload_of, request
from trueup.adapters.keyring_file import parse_keyring
from trueup.adapters.signing import DsseVerifier
from trueup.core.gate_checks import check_requester, check_signers
from trueup.core.gate_envelope import parse_envelope, render_envelope
from trueup.core.gate_form import parse_request
from trueup.model.errors import BadInput
from trueup.model.gate import Form
from trueup.model.gate_answers import OPERATION_TYPE, PAYLOAD_TYPES, GateRefused
from trueup.model.keyring import Keyring


class Bed:
    """Signed envelopes of several payloads, and what they were signed over."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

        self.keyring: Keyring = parse_keyring(
            with_lines(keyring_text(), alice=ALICES.line, bob=BOBS.line), "keyring.yaml", Path()
        )
        envelopes = [
            envelope_of(payload_of(request()), "alice", "bob"),
            envelope_of(payload_of(request("rollback", params={"snapshot": "s1"})), "alice"),
            envelope_of(payload_of(request("shutdown", reason="x" * 400)), "alice", "alice2", "carol"),
            BOBS.sign(ALICES.sign(envelope_of(payload_of(request("unlock"))))),
            BOBS.sign(envelope_of(payload_of(request("start")), "alice")),
        ]
        self.signed = {(one.payload_type, one.payload) for one in envelopes}
        self.contents = [render_envelope(one) for one in envelopes]
        self.verifier = DsseVerifier(PARTY)

    def taken(self, content: bytes) -> tuple[str, bytes] | None:
        """What the gate would take for signed by its requester; None = refused. It raises for nothing else."""
        try:
            envelope = parse_envelope(content)
            checked = self.verifier.verify(envelope, self.keyring)
            valid = check_signers(self.keyring, checked, 0)
            if envelope.payload_type == OPERATION_TYPE:
                check_requester(self.keyring, parse_request(envelope.payload).requested_by, valid)
        except GateRefused:
            return None
        return envelope.payload_type, envelope.payload

    def mutated(self) -> bytes:
        """One envelope with one to three changes."""
        content = self.random.choice(self.contents)
        for _ in range(self.random.randint(1, 3)):
            content = self.random.choice(CHANGES)(self, content)
        return content


def _bytes(bed: Bed, content: bytes) -> bytes:
    """Flip, drop, double or insert bytes anywhere."""
    at = bed.random.randrange(len(content) or 1)
    more = bytes([bed.random.randrange(256)])
    return bed.random.choice(
        (
            content[:at] + more + content[at + 1 :],
            content[:at] + content[at + 1 :],
            content[:at] + content[at : at + 8] * 2 + content[at + 8 :],
            content[:at] + more + content[at:],
            content[:at],
        )
    )


def _inside(change: Callable[[Bed, dict], None]) -> Callable[[Bed, bytes], bytes]:
    """A change of the envelope's fields, where it still is one."""

    def changed(bed: Bed, content: bytes) -> bytes:
        try:
            document = json.loads(content)
            change(bed, document)
            return json.dumps(document).encode()
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return content

    return changed


def _payload(bed: Bed, document: dict) -> None:
    """The payload's bytes changed at one place, well encoded."""
    document["payload"] = base64.b64encode(_bytes(bed, base64.b64decode(document["payload"]))).decode()


def _field(bed: Bed, document: dict) -> None:
    """A field of the payload changed, and the payload written as JSON."""
    inner = json.loads(base64.b64decode(document["payload"]))
    name = bed.random.choice([*inner, "extra"])
    inner[name] = bed.random.choice(("x", 102, None, {}, [], True, "bob", "start", inner.get("nonce")))
    document["payload"] = base64.b64encode(json.dumps(inner).encode()).decode()


def _swap(bed: Bed, document: dict) -> None:
    """The payload, or the signatures, of another envelope."""
    name = bed.random.choice(("payload", "signatures", "payloadType"))
    document[name] = json.loads(bed.random.choice(bed.contents))[name]


def _kind(bed: Bed, document: dict) -> None:
    document["payloadType"] = bed.random.choice((*PAYLOAD_TYPES, "", OPERATION_TYPE.upper(), OPERATION_TYPE + " "))


def _signature(bed: Bed, document: dict) -> None:
    """Signatures dropped, doubled, relabelled, made another form, damaged."""
    found = document["signatures"]
    one = bed.random.choice(found)
    other = bed.random.choice(json.loads(bed.random.choice(bed.contents))["signatures"])
    act = bed.random.randrange(7)
    if act == 0:
        found.remove(one)
    elif act == 1:
        found.append(dict(one))
    elif act == 2:
        one["keyid"] = bed.random.choice((other["keyid"], "", "x"))
    elif act == 3:
        one["form"] = bed.random.choice(tuple(Form))
    elif act == 4:
        one["sig"] = base64.b64encode(_bytes(bed, base64.b64decode(one["sig"]))).decode()
    elif act == 5:
        one["sig"] = other["sig"]
    else:
        bed.random.shuffle(found)


def _browser(bed: Bed, document: dict) -> None:
    """One part of what a browser made: its bytes changed, or another browser's put there; or what it says rewritten."""
    made = [one for one in document["signatures"] if one.get("form") == Form.WEBAUTHN]
    others = [
        one for text in bed.contents for one in json.loads(text)["signatures"] if one.get("form") == Form.WEBAUTHN
    ]
    one = bed.random.choice(made)
    parts = json.loads(base64.b64decode(one["sig"]))
    other = json.loads(base64.b64decode(bed.random.choice(others)["sig"]))
    name = bed.random.choice(tuple(parts))
    act = bed.random.randrange(3)
    if act == 0:
        parts[name] = other[name]
    elif act == 1:
        parts[name] = b64url(_bytes(bed, base64.urlsafe_b64decode(parts[name] + "==")))
    else:
        said = json.loads(base64.urlsafe_b64decode(parts["clientDataJSON"] + "=="))
        said[bed.random.choice((*said, "topOrigin"))] = bed.random.choice(("x", True, None, *said.values()))
        parts["clientDataJSON"] = b64url(json.dumps(said).encode())
    one["sig"] = base64.b64encode(json.dumps(parts).encode()).decode()


CHANGES: tuple[Callable[[Bed, bytes], bytes], ...] = (
    _bytes,
    _inside(_payload),
    _inside(_field),
    _inside(_swap),
    _inside(_kind),
    _inside(_signature),
    _inside(_signature),
    _inside(_browser),
)


def hunt(count: int, seed: int) -> dict[str, int]:
    """Try so many mutations; how many were refused, and how many still held exactly what was signed.

    Raises:
        AssertionError: a payload that nobody signed was taken, or something else than a refusal came out.
    """
    bed = Bed(seed)
    tally = {"refused": 0, "signed": 0}
    for number in range(count):
        content = bed.mutated()
        try:
            taken = bed.taken(content)
        except BadInput as error:
            raise AssertionError(f"mutation {number} of seed {seed}: {error!r}") from error
        assert taken is None or taken in bed.signed, f"mutation {number} of seed {seed} was taken: {content!r}"
        tally["refused" if taken is None else "signed"] += 1
    return tally
