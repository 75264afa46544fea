"""People with keys, and the files that say what they may: in memory, so that a story can change them at any moment."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner  # pyright: ignore[reportPrivateImportUsage]

from trueup.adapters.keyring_file import parse_keyring
from trueup.adapters.policy_file import parse_policy
from trueup.adapters.signing import sign
from trueup.adapters.signing_keys import public_line, public_of
from trueup.core.gate_envelope import render_envelope
from trueup.core.gate_rules import Files
from trueup.model.gate_answers import Envelope

_SEEDS = {"alice": 1, "alice2": 2, "bob": 3, "carol": 4, "mallory": 5}
KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for name, seed in _SEEDS.items()}
PUBLIC = {name: public_of(key.public_key()) for name, key in KEYS.items()}
OWNER = {"alice": "alice", "alice2": "alice", "bob": "bob", "carol": "carol"}
"""Whose key it is. Mallory is in no keyring."""
ROLES = {"alice": {"operator"}, "bob": {"operator"}, "carol": {"operator", "owner"}}
PEOPLE = {"destroy": 2, "rollback": 2, "disk-remove": 2, "stop": 1, "start": 1}
"""How many must agree, by kind."""
POLICY = """\
rules:
  - {kinds: [destroy, rollback, disk-remove], people: 2, roles: [operator], longest: 24h}
  - {kinds: [stop, start], people: 1, roles: [operator], longest: 24h}
  - {kinds: [resolve], people: 1, roles: [owner]}
"""
CLOSED = "rules:\n  - {kinds: [resolve], people: 1, roles: [owner]}\n"
"""A policy that lets nobody do anything any more."""
LONG_AGO = "2026-01-01T00:00:00Z"


def key_name(key_id: str) -> str | None:
    """Which of the keys above has this id."""
    return next((name for name, public in PUBLIC.items() if key_id in {public.key_id, *public.aliases}), None)


@dataclass
class People:
    """Keyring and policy as they hold now; see `trueup.engine.gate_ports.GateFiles`.

    `revoked` maps names of keys to the instant (epoch ms of the story) at which the keyring began to say so.
    """

    revoked: dict[str, int] = field(default_factory=dict)
    policy: str = POLICY
    closed_ms: int = 0
    _files: Files | None = None

    def current(self) -> Files | None:
        if self._files is None:
            keyring = parse_keyring(self._keyring(), "keyring.yaml", Path(), "k" * 64)
            self._files = Files(keyring=keyring, policy=parse_policy(self.policy, "policy.yaml", "p" * 64))
        return self._files

    def problems(self) -> tuple[str, ...]:
        return ()

    def closed(self) -> str:
        return ""

    def revoke(self, name: str, now_ms: int) -> None:
        """The keyring says from now on that this key never counted since long ago."""
        self.revoked.setdefault(name, now_ms)
        self._files = None

    def forbid(self, now_ms: int) -> None:
        """The policy lets nobody do anything from now on."""
        self.policy, self.closed_ms, self._files = CLOSED, now_ms, None

    def _keyring(self) -> str:
        lines = ["people:"]
        for person, roles in ROLES.items():
            names = [name for name, owner in OWNER.items() if owner == person]
            listed = ", ".join(f'"{public_line(PUBLIC[name])} {name}@laptop"' for name in names)
            gone = ", ".join(f'"{PUBLIC[name].key_id}": {LONG_AGO}' for name in names if name in self.revoked)
            more = f", revoked: {{{gone}}}" if gone else ""
            lines.append(f"  {person}: {{roles: [{', '.join(sorted(roles))}], keys: [{listed}]{more}}}")
        return "\n".join(lines) + "\n"


def signed(payload: bytes, payload_type: str, signers: Sequence[str]) -> bytes:
    """An envelope over these very bytes."""
    envelope = Envelope(payload=payload, payload_type=payload_type, signatures=())
    for name in signers:
        envelope = sign(envelope, CryptoSigner(KEYS[name]))
    return render_envelope(envelope)


def other_reason(payload: bytes) -> bytes:
    """The same statement with other words: same nonce, other bytes."""
    document: dict[str, object] = json.loads(payload)
    return json.dumps({**document, "reason": "something else"}).encode()


def really_signed(payload: bytes, payload_type: str, signatures: Mapping[str, str]) -> set[str]:
    """The names of the keys whose signatures hold, told without any code of the product.

    `signatures` maps key ids to raw signatures in base64.
    """
    kind = payload_type.encode()
    encoded = b" ".join([b"DSSEv1", b"%d" % len(kind), kind, b"%d" % len(payload), payload])
    found: set[str] = set()
    for key_id, signature in signatures.items():
        name = key_name(key_id)
        if name is None:
            continue
        try:
            KEYS[name].public_key().verify(base64.b64decode(signature), encoded)
        except Exception:  # noqa: BLE001, S112 - whatever is wrong with it, it is no signature
            continue
        found.add(name)
    return found
