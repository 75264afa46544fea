"""Real keys and real `ssh-keygen`: what people sign with, in both forms, and what does not count."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from securesystemslib.dsse import Envelope as LibraryEnvelope
from securesystemslib.signer import CryptoSigner, SSlibKey  # pyright: ignore[reportPrivateImportUsage]

from tests.gate.fido import ecdsa_token, ed25519_token
from tests.gate.world import KEYS, envelope_of, openssh, ssh_line
from trueup.adapters.keyring_file import parse_keyring
from trueup.adapters.signing import DsseVerifier, add_sshsig, sign
from trueup.adapters.signing_keys import RSA_SCHEMES, load_private, load_signer, new_private, public_of, read_public
from trueup.adapters.signing_ssh import parse_sshsig
from trueup.core.gate_envelope import parse_envelope, render_envelope
from trueup.model.errors import BadInput
from trueup.model.gate import Form, Refusal
from trueup.model.gate_answers import OPERATION_TYPE, Envelope, Signature
from trueup.model.keyring import Keyring

PAYLOAD = b'{"the": "exact bytes"}\n'
BARE = Envelope(payload=PAYLOAD, payload_type=OPERATION_TYPE, signatures=())
FOLDER = Path()
VERIFY = DsseVerifier().verify


def ring(*lines: str) -> Keyring:
    text = "people:\n" + "".join(f'  p{n}: {{roles: [r], keys: ["{line}"]}}\n' for n, line in enumerate(lines))
    return parse_keyring(text, "keyring.yaml", FOLDER)


def nobody(_what: str) -> None:
    return None


def keygen(*args: str, cwd: Path) -> None:
    subprocess.run(["ssh-keygen", *args], cwd=cwd, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "kind",
    [("ed25519",), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "384"), ("ecdsa", "-b", "521"), ("rsa", "-b", "2048")],
    ids=" ".join,
)
@pytest.mark.parametrize("hashed", ["sha256", "sha512"])
def test_what_ssh_keygen_signs_counts_over_the_very_bytes(tmp_path, kind, hashed):
    keygen("-q", "-t", *kind, "-N", "", "-C", "x@y", "-f", "key", cwd=tmp_path)
    (tmp_path / "payload.json").write_bytes(PAYLOAD)
    keygen("-Y", "sign", "-n", "trueup", "-f", "key", "-O", f"hashalg={hashed}", "payload.json", cwd=tmp_path)
    armored = (tmp_path / "payload.json.sig").read_bytes()
    envelope = parse_envelope(render_envelope(add_sshsig(BARE, armored)))
    line = (tmp_path / "key.pub").read_text().strip()
    checked = VERIFY(envelope, ring(line))
    assert [(one.person, one.form) for one in checked.valid] == [("p0", Form.SSHSIG)]
    assert checked.problems == ()
    longer = Envelope(payload=PAYLOAD + b" ", payload_type=OPERATION_TYPE, signatures=envelope.signatures)
    assert VERIFY(longer, ring(line)).valid == ()
    assert VERIFY(envelope, ring(ssh_line("alice"))).problems[0][0] is Refusal.UNKNOWN_KEY
    with pytest.raises(BadInput, match="not one of this statement"):
        add_sshsig(Envelope(payload=b"other", payload_type=OPERATION_TYPE, signatures=()), armored)
    # The same private key signs the other form as well, and is the same key.
    by_file = sign(envelope, load_signer(str(tmp_path / "key"), nobody))
    assert len(by_file.signatures) == 2
    assert len(VERIFY(by_file, ring(line)).valid) == 1


def test_an_ssh_signature_made_for_git_does_not_count(tmp_path):
    keygen("-q", "-t", "ed25519", "-N", "", "-f", "key", cwd=tmp_path)
    (tmp_path / "payload.json").write_bytes(PAYLOAD)
    keygen("-Y", "sign", "-n", "git", "-f", "key", "payload.json", cwd=tmp_path)
    with pytest.raises(BadInput, match="made for something else"):
        add_sshsig(BARE, (tmp_path / "payload.json.sig").read_bytes())


def test_an_armored_signature_in_an_envelope_counts_too(tmp_path):
    (tmp_path / "key").write_bytes(openssh("alice"))
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "payload.json").write_bytes(PAYLOAD)
    keygen("-Y", "sign", "-n", "trueup", "-f", "key", "payload.json", cwd=tmp_path)
    import base64
    import json

    document = {
        "payload": base64.b64encode(PAYLOAD).decode(),
        "payloadType": OPERATION_TYPE,
        "signatures": [{"form": "sshsig", "sig": (tmp_path / "payload.json.sig").read_text()}],
    }
    checked = VERIFY(parse_envelope(json.dumps(document).encode()), ring(ssh_line("alice")))
    assert len(checked.valid) == 1


@pytest.mark.parametrize("token", [ed25519_token, ecdsa_token])
def test_a_fido_key_counts_when_it_was_touched(token):
    line, touch = token()
    keyring = ring(line)
    for touched, valid in ((True, 1), (False, 0)):
        raw = touch(PAYLOAD, touched=touched)
        envelope = Envelope(
            payload=PAYLOAD,
            payload_type=OPERATION_TYPE,
            signatures=(Signature(key_id="", form=Form.SSHSIG, raw=raw),),
        )
        assert len(VERIFY(envelope, keyring).valid) == valid
    other_line, _ = token(b"ssh:other")
    assert VERIFY(envelope, ring(other_line)).valid == ()


@pytest.mark.parametrize("scheme", RSA_SCHEMES)
def test_every_rsa_scheme_of_the_library_is_the_same_key(scheme):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signer = CryptoSigner(key, SSlibKey.from_crypto(key.public_key(), scheme=scheme))
    public = public_of(key.public_key())
    envelope = sign(BARE, signer)
    assert envelope.signatures[0].key_id in {public.key_id, *public.aliases}
    (one,) = VERIFY(envelope, ring(_line(key))).valid
    assert one.key_id == public.key_id


def test_ml_dsa_counts():
    signer = CryptoSigner.generate_mldsa()
    text = signer.public_key.keyval["public"]
    keyring = Keyring(people=ring(ssh_line("alice")).people[:0])
    assert VERIFY(sign(BARE, signer), keyring).valid == ()
    folder_text = "people:\n  p: {roles: [r], keys: [" + '"' + text.replace("\n", "\\n") + '"]}\n'
    keyring = parse_keyring(folder_text, "k", FOLDER)
    assert len(VERIFY(sign(BARE, signer), keyring).valid) == 1


def test_what_the_library_makes_of_an_envelope_we_take():
    signer = CryptoSigner(KEYS["alice"])
    library = LibraryEnvelope(PAYLOAD, OPERATION_TYPE, {})
    library.sign(signer)
    import json

    checked = VERIFY(parse_envelope(json.dumps(library.to_dict()).encode()), ring(ssh_line("alice")))
    assert [one.person for one in checked.valid] == ["p0"]
    mine = sign(BARE, signer)
    theirs = LibraryEnvelope.from_dict(json.loads(render_envelope(mine)))
    assert theirs.verify([SSlibKey.from_crypto(KEYS["alice"].public_key())], 1)


def test_a_key_id_is_a_hint_and_may_be_missing():
    envelope = envelope_of(PAYLOAD, "bob")
    bare = Envelope(
        payload=PAYLOAD,
        payload_type=OPERATION_TYPE,
        signatures=tuple(Signature(key_id="", form=one.form, raw=one.raw) for one in envelope.signatures),
    )
    keyring = ring(ssh_line("alice"), ssh_line("bob"))
    assert [one.person for one in VERIFY(bare, keyring).valid] == ["p1"]


def test_what_a_key_counts_is_asked_of_the_keyring_that_holds_now():
    """One verifier outlives many keyrings: a key that was taken out counts no more, and one that came in does."""
    verify = DsseVerifier().verify
    envelope = envelope_of(PAYLOAD, "bob")
    both, alices, bobs = ring(ssh_line("alice"), ssh_line("bob")), ring(ssh_line("alice")), ring(ssh_line("bob"))
    told = [[one.person for one in verify(envelope, keyring).valid] for keyring in (both, alices, bobs, alices, both)]
    assert told == [["p1"], [], ["p0"], [], ["p1"]]


def test_junk_beside_good_signatures_is_reported_and_hurts_nobody():
    envelope = envelope_of(PAYLOAD, "alice", "mallory")
    junk = (
        Signature(key_id="\x1b[2J", form=Form.DSSE, raw=b"x"),
        Signature(key_id="", form=Form.SSHSIG, raw=b"SSHSIG"),
    )
    full = Envelope(
        payload=PAYLOAD, payload_type=OPERATION_TYPE, signatures=(*junk, *envelope.signatures, envelope.signatures[0])
    )
    checked = VERIFY(full, ring(ssh_line("alice"), ssh_line("bob")))
    assert [one.person for one in checked.valid] == ["p0"]
    assert [refusal for refusal, _ in checked.problems] == [
        Refusal.UNKNOWN_KEY,
        Refusal.SIGNATURE,
        Refusal.UNKNOWN_KEY,
    ]
    assert all(text.isprintable() for _, text in checked.problems)


@pytest.mark.parametrize(
    "key",
    [
        lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024),  # noqa: S505
        lambda: dsa.generate_private_key(key_size=1024),  # noqa: S505
        ed448.Ed448PrivateKey.generate,
        lambda: ec.generate_private_key(ec.SECP256K1()),
        lambda: ec.generate_private_key(ec.SECP224R1()),
    ],
    ids=["rsa-1024", "dsa", "ed448", "secp256k1", "secp224r1"],
)
def test_weak_and_unknown_keys_do_not_come_into_a_keyring(key, tmp_path):
    private = key()
    pem = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(BadInput, match="does not count"):
        read_public(pem.decode())
    file = tmp_path / "key.pem"
    file.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(BadInput, match="does not count"):
        load_private(file, nobody)


@pytest.mark.parametrize(
    "line",
    [
        "ssh-dss AAAAB3NzaC1kc3MAAACBAP",
        "ssh-rsa " + "A" * 40,
        "ssh-ed25519 AAAA",
        "ssh-ed25519 !!!!",
        "ssh-ed25519",
        "hello world",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
    ],
)
def test_what_is_no_public_key(line):
    with pytest.raises(BadInput):
        read_public(line)


def test_an_ssh_line_that_names_another_type():
    kind, blob, _ = ssh_line("alice").split()
    assert kind == "ssh-ed25519"
    with pytest.raises(BadInput, match="another type"):
        read_public(f"ssh-rsa {blob}")


def test_the_same_key_has_one_id_in_every_form():
    public = KEYS["alice"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    ids = {read_public(pem).key_id, read_public(ssh_line("alice")).key_id, SSlibKey.from_crypto(public).keyid}
    assert len(ids) == 1


@pytest.mark.parametrize("form", [serialization.PrivateFormat.OpenSSH, serialization.PrivateFormat.PKCS8])
def test_private_keys_with_and_without_passphrase(tmp_path, form):
    key = KEYS["alice"]
    plain, locked = tmp_path / "plain", tmp_path / "locked"
    encoding = serialization.Encoding.PEM
    plain.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    quick = (
        form.encryption_builder().kdf_rounds(1).build(b"word")
        if form is serialization.PrivateFormat.OpenSSH
        else serialization.BestAvailableEncryption(b"word")
    )
    locked.write_bytes(key.private_bytes(encoding, form, quick))
    asked: list[str] = []

    def ask(what: str) -> str:
        asked.append(what)
        return "word"

    for file in (plain, locked):
        assert load_private(file, ask).public_key() == key.public_key()
    assert len(asked) == 1
    with pytest.raises(BadInput, match="has a passphrase"):
        load_private(locked, nobody)
    with pytest.raises(BadInput, match="passphrase is wrong"):
        load_private(locked, lambda _: "sword")


def test_what_is_no_private_key(tmp_path):
    with pytest.raises(BadInput, match="cannot read"):
        load_private(tmp_path / "nowhere", nobody)
    (tmp_path / "pub").write_text(ssh_line("alice"))
    with pytest.raises(BadInput, match="not a private key"):
        load_private(tmp_path / "pub", nobody)
    (tmp_path / "bad").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(BadInput, match="damaged"):
        load_private(tmp_path / "bad", nobody)


def test_a_signer_that_is_not_there_says_so():
    with pytest.raises(BadInput, match="needs its public key"):
        load_signer("hsm:2", nobody)
    with pytest.raises(BadInput, match="signer hsm: does not work"):
        load_signer("hsm:2", nobody, ssh_line("alice"))


def test_a_new_key_signs_and_is_read_by_ssh_keygen(tmp_path):
    content, public = new_private()
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    done = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, text=True, check=True, timeout=60)
    assert read_public(done.stdout).key_id == public.key_id


def test_damaged_ssh_signatures_are_refused():
    for raw in (b"", b"SSHSIG", b"SSHSIG\x00\x00\x00\x02", b"SSHSIG\x00\x00\x00\x01\xff\xff\xff\xff", b"PGP"):
        with pytest.raises(BadInput):
            parse_sshsig(raw)


def _line(key: rsa.RSAPrivateKey) -> str:
    text = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return text.decode()
