"""Keyring and policy as people write them, wrongly, and then as the message says: the second is taken."""

import base64
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fido2 import cbor
from fido2.cose import ES384

from tests.gate.fido import ecdsa_token, ed25519_token, string
from tests.gate.security_key import ALICES, AT, BE, BOBS, PARTY, UP, UV, b64url
from tests.gate.test_webauthn import client_data
from tests.gate.world import KEYS, key_id, openssh, ssh_line
from tests.operator.following import followed, quoted
from trueup.adapters.keyring_edit import with_key, write_key
from trueup.adapters.keyring_file import parse_keyring
from trueup.adapters.policy_file import parse_policy
from trueup.adapters.signing_keys import public_of, read_public
from trueup.adapters.webauthn import parse_line
from trueup.adapters.webauthn_enrol import Enrolment, enrolled

Case = tuple[str, str, str | Callable[[str], str]]
"""A remedy, what is wrong, and what is written when it is followed: it may be made out of the remedy as printed."""

ALICE = ssh_line("alice")
LINE = f'people:\n  alice: {{roles: [operator], keys: ["{ALICE}"]}}\n'


def inside(template: str, bad: str, good: str) -> tuple[str, str]:
    return template.replace("@", bad), template.replace("@", good)


def named(text: str) -> list[str]:
    """The words that a remedy lists behind its colon."""
    return text.rpartition(": ")[2].split(", ")


def one_of_the_ids(text: str) -> str:
    found = re.search(r"[0-9a-f]{64}", text)
    assert found
    return LINE.replace("]}\n", f'], revoked: {{"{found[0]}": 2026-12-01T00:00:00Z}}}}\n')


KEYRINGS: list[Case] = [
    (
        "known here: {}",
        LINE.replace("roles", "rolls"),
        lambda text: LINE.replace("roles", next(word for word in named(text) if word[0] == "r")),
    ),
    ("write [one, two]", *inside("people:\n  alice: {roles: @}\n", "one, two: x", "[one, two]")),
    ("write {key: value}", "people: [alice]\n", "people: {alice: {}}\n"),
    ("use letters, digits and . _ @ + -", *inside('people:\n  "@": {}\n', "a b", "a.b_c@d+e-1")),
    (
        "write one of {}",
        LINE.replace("]}\n", '], revoked: {"abc": 2026-12-01T00:00:00Z}}\n'),
        one_of_the_ids,
    ),
    (
        "write the key under keys too, revoked or not",
        "people:\n  alice: {roles: [operator], keys: [], revoked: {abc: 2026-12-01T00:00:00Z}}\n",
        one_of_the_ids(key_id("alice")),
    ),
    ('copy the whole line, like "ssh-ed25519 AAAA…"', LINE.replace(ALICE, ALICE[:40] + "…"), LINE),
    ("copy it again", LINE.replace(ALICE, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 alice"), LINE),
    ("copy the whole line", LINE.replace("ssh-ed25519", "ssh-rsa"), LINE),
    ("write the key itself, or the name of its file relative to the keyring", LINE.replace(ALICE, "none.pub"), LINE),
    (
        "write the key itself, or the name of its file relative to the keyring",
        LINE.replace(ALICE, "none.pub"),
        LINE.replace(ALICE, "there.pub"),
    ),
]
RULE = "rules: [{kinds: [destroy], roles: [operator], @}]\n"
POLICIES: list[Case] = [
    ("write `key: value` lines", "- rules\n", "rules: []\n"),
    ("write one document", "rules: []\n---\nbudgets: []\n", "rules: []\nbudgets: []\n"),
    (
        "known: {}",
        "rules: [{kinds: [detroy], roles: [operator]}]\n",
        lambda text: f'rules: [{{kinds: ["{named(text)[0]}"], roles: [operator]}}]\n',
    ),
    *(
        (
            'write kinds: [destroy], or ["*"]; known: {}',
            "rules: [{roles: [operator]}]\n",
            lambda text, kinds=kinds: f"rules: [{{kinds: [{kinds or named(text)[1]}], roles: [operator]}}]\n",
        )
        for kinds in ("destroy", '"*"', "")
    ),
    (
        "write roles: [operator]; whose agreement counts must be said",
        "rules: [{kinds: [destroy]}]\n",
        lambda text: f"rules: [{{kinds: [destroy], {text.removeprefix('write ').partition(';')[0]}}}]\n",
    ),
    (
        "write {kinds: [destroy], most: 5, per: 1h}",
        "budgets: [{kinds: [destroy]}]\n",
        lambda text: f"budgets: [{text.removeprefix('write ')}]\n",
    ),
    *(
        ("leave it out, or name labels, tags, vmids or a pool", *inside(RULE, "guests: {}", good))
        for good in (
            "",
            "guests: {labels: {tier: web}}",
            "guests: {tags: [web]}",
            "guests: {vmids: [101]}",
            "guests: {pool: web}",
        )
    ),
    (
        "leave it out: an empty selection would mean every guest",
        *inside(RULE, "guests: {vmids: [], tags: [web]}", "guests: {tags: [web]}"),
    ),
    *(
        ('write 101, or "200-299"', *inside(RULE, "guests: {vmids: [299-200]}", f"guests: {{vmids: [{good}]}}"))
        for good in ("101", '"200-299"')
    ),
    (
        "use letters, digits and . _ @ + -",
        *inside(RULE.replace("operator", "@").replace(", @}]", "}]"), "a b", "a.b-c"),
    ),
]


def files(folder: Path, read: Callable[[str], object], bad: str, good: str | Callable[[str], str], remedy: str) -> None:
    file = folder / "file.yaml"
    file.write_text(bad)
    followed(
        remedy,
        lambda: read(file.read_text()),
        lambda text: file.write_text(good if isinstance(good, str) else good(text)),
    )


@pytest.mark.parametrize(("remedy", "bad", "good"), KEYRINGS)
def test_a_keyring_as_the_message_says(tmp_path: Path, remedy: str, bad: str, good: str | Callable[[str], str]) -> None:
    (tmp_path / "there.pub").write_text(ALICE)
    files(tmp_path, lambda text: parse_keyring(text, "keyring.yaml", tmp_path), bad, good, remedy)


@pytest.mark.parametrize(("remedy", "bad", "good"), POLICIES)
def test_a_policy_as_the_message_says(tmp_path: Path, remedy: str, bad: str, good: str | Callable[[str], str]) -> None:
    files(tmp_path, lambda text: parse_policy(text, "policy.yaml"), bad, good, remedy)


# --- keys that do not count -------------------------------------------------------------------------------------------


def pem(key: object) -> str:
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, info).decode()  # type: ignore[attr-defined]


def line(key: object) -> str:
    form = serialization.PublicFormat.OpenSSH
    return key.public_bytes(serialization.Encoding.OpenSSH, form).decode()  # type: ignore[attr-defined]


def of_rsa(bits: int) -> rsa.RSAPublicKey:
    return rsa.generate_private_key(65537, bits).public_key()


CURVES = {"nistp256": ec.SECP256R1, "nistp384": ec.SECP384R1, "nistp521": ec.SECP521R1}
ODD_CURVE = base64.b64encode(string(b"ecdsa-sha2-nistp192") + string(b"nistp192") + string(b"\x04" * 49)).decode()
DSS = base64.b64encode(string(b"ssh-dss") + string(b"\x01" * 16)).decode()


def each_named(text: str) -> list[str]:
    """A key of each type that the remedy names."""
    found: list[str] = []
    for word, make in (
        ("ed25519", lambda: line(Ed25519PrivateKey.generate().public_key())),
        ("ecdsa", lambda: line(ec.generate_private_key(ec.SECP256R1()).public_key())),
        ("RSA of", lambda: line(of_rsa(int(re.findall(r"RSA of (?:at least )?(\d+)", text)[0])))),
        ("FIDO", lambda: ed25519_token()[0]),
        ("FIDO", lambda: ecdsa_token()[0]),
        ("nistp256", lambda: line(ec.generate_private_key(CURVES["nistp256"]()).public_key())),
        ("nistp384", lambda: line(ec.generate_private_key(CURVES["nistp384"]()).public_key())),
        ("nistp521", lambda: line(ec.generate_private_key(CURVES["nistp521"]()).public_key())),
        ("ML-DSA", _ml_dsa),
    ):
        if word in text:
            found.append(make())
    return found


def _ml_dsa() -> str:
    from cryptography.hazmat.primitives.asymmetric import mldsa

    return pem(mldsa.MLDSA65PrivateKey.generate().public_key())


WEAK: list[tuple[str, str]] = [
    (
        "use ed25519, ecdsa on a NIST curve, RSA of at least 2048 bits, ML-DSA, or a FIDO key of SSH",
        pem(ed448.Ed448PrivateKey.generate().public_key()),
    ),
    ("use ed25519, ecdsa, RSA of at least 2048 bits, or a FIDO key", f"ssh-dss {DSS} x"),
    ("use ed25519, or RSA of {} to {} bits", line(rsa.generate_private_key(65537, 1024).public_key())),  # noqa: S505
    ("use nistp256, nistp384 or nistp521", f"ecdsa-sha2-nistp192 {ODD_CURVE} x"),
    (
        "a PEM file begins with -----BEGIN PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    ),
    ("this is a private key: keep it to yourself, and name the public half", openssh("alice").decode()),
]


@pytest.mark.parametrize(("remedy", "bad"), WEAK)
def test_a_key_of_the_kind_that_the_message_names(remedy: str, bad: str) -> None:
    held = [bad]

    def follow(text: str) -> None:
        head = re.search(r"begins with (-----.*-----)", text)
        held[:] = each_named(text) or [pem(KEYS["alice"].public_key())]
        assert not head or held[0].startswith(head[1])

    followed(remedy, lambda: [read_public(one) for one in held], follow)


P384 = cbor.encode(ES384.from_cryptography_key(ec.generate_private_key(ec.SECP384R1()).public_key()))
SECURITY_KEYS: list[tuple[str, str, str]] = [
    ("copy the whole line that the page shows", ALICES.line.rpartition(" ")[0], ALICES.line),
    ("copy the whole line that the page shows", ALICES.line[:-4], ALICES.line),
    ("use one for ES256 or Ed25519", f"{ALICES.line.rpartition(' ')[0]} {b64url(P384)}", ALICES.line),
    ("use one for ES256 or Ed25519", f"{ALICES.line.rpartition(' ')[0]} {b64url(P384)}", BOBS.line),
]


@pytest.mark.parametrize(("remedy", "bad", "good"), SECURITY_KEYS)
def test_a_security_key_as_the_message_says(remedy: str, bad: str, good: str) -> None:
    held = [bad]
    followed(remedy, lambda: parse_line(held[-1]), lambda _: held.append(good))


def test_a_security_key_that_stays_in_one_device() -> None:
    wanted = b"w" * 32
    held = [ALICES.attestation(flags=UP | UV | AT | BE)]

    def enrols() -> None:
        data = client_data(wanted)
        enrolled(Enrolment(credential=ALICES.credential, client_data=data, attestation=held[-1]), wanted, PARTY)

    followed("use a key that stays in one device", enrols, lambda _: held.append(ALICES.attestation()))


# --- one more key in a keyring ----------------------------------------------------------------------------------------

NEW = public_of(KEYS["mallory"].public_key())


def spread(text: str) -> str:
    """People written in one line, as a line for each."""
    return text.replace("people: {", "people:\n  ").replace("}}", "}")


EDITS: list[tuple[str, str, tuple[str, ...], Callable[[str, str], str]]] = [
    ("change them by hand", LINE, ("owner",), lambda text, _: text.replace("[operator]", "[operator, owner]")),
    (
        "write `people:` alone, then add the key again",
        "people: { }\n",
        (),
        lambda _, remedy: f"{quoted(remedy)[0]}\n",
    ),
    (
        "write a line for each person, then add the key again",
        f'people: {{alice: {{roles: [operator], keys: ["{ALICE}"]}}}}\n',
        ("owner",),
        lambda text, _: spread(text),
    ),
    (
        "write keys: [] there, then again",
        "people:\n  alice: {roles: [operator]}\n",
        (),
        lambda text, remedy: text.replace("]}", f"], {remedy.removeprefix('write ').partition(' there')[0]}}}"),
    ),
    (
        "write each person out, without & and *, then add the key again",
        f'people:\n  alice: &a {{roles: [operator], keys: ["{ALICE}"]}}\n  bob: *a\n',
        (),
        lambda text, _: text.replace("&a ", "").replace("*a", f'{{roles: [operator], keys: ["{ssh_line("bob")}"]}}'),
    ),
]


@pytest.mark.parametrize(("remedy", "bad", "roles", "change"), EDITS)
def test_one_more_key_as_the_message_says(
    tmp_path: Path, remedy: str, bad: str, roles: tuple[str, ...], change: Callable[[str, str], str]
) -> None:
    file = tmp_path / "keyring.yaml"
    file.write_text(bad)
    person = "bob" if bad.startswith(("people: {alice", "people:\n  alice: &a")) else "alice"
    followed(
        remedy,
        lambda: write_key(file, person, NEW, roles),
        lambda text: file.write_text(change(file.read_text(), text)),
    )
    found = parse_keyring(file.read_text(), "keyring.yaml", tmp_path).person(person)
    assert found
    assert NEW.key_id in {key.key_id for key in found.keys}


def test_people_as_a_list(tmp_path: Path) -> None:
    held = ["people: [alice]\n"]
    followed(
        "write a line for each person",
        lambda: with_key(held[0], "keyring.yaml", "alice", NEW),
        lambda _: held.__setitem__(0, "people:\n  alice: {keys: []}\n"),
    )


FOLLOWED = {
    *(remedy for remedy, _, _ in (*KEYRINGS, *POLICIES)),
    *(remedy for remedy, _ in WEAK),
    *(remedy for remedy, _, _, _ in EDITS),
    *(remedy for remedy, _, _ in SECURITY_KEYS),
    "use a key that stays in one device",
    "write a line for each person",
}
