"""SSH's wire format: public keys as people have them, and signatures made by `ssh-keygen -Y sign`.

Everything is verified here with `cryptography`, without a process. A key that lives in a FIDO token (`sk-`) counts only
if its owner touched it (user presence). SHA-1 and DSA do not exist here.

Sources: OpenSSH's PROTOCOL.sshsig and PROTOCOL.u2f; RFC 4253 6.6, RFC 5656 3.1, RFC 8332, RFC 8709.
"""

import base64
import binascii
import hashlib
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from trueup.model import limits
from trueup.model.errors import BadInput

NAMESPACE: Final = b"trueup"
"""Signatures made for anything else (git, file) do not count."""

_MAGIC: Final = b"SSHSIG"
_SK_ED25519: Final = "sk-ssh-ed25519@openssh.com"
_SK_ECDSA: Final = "sk-ecdsa-sha2-nistp256@openssh.com"
_USER_PRESENT: Final = 0x01
_DIGESTS: Final = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_RSA_HASHES: Final = {"rsa-sha2-256": SHA256, "rsa-sha2-512": SHA512}
_CURVES: Final[dict[str, tuple[type[ec.EllipticCurve], type[SHA256 | SHA384 | SHA512]]]] = {
    "nistp256": (ec.SECP256R1, SHA256),
    "nistp384": (ec.SECP384R1, SHA384),
    "nistp521": (ec.SECP521R1, SHA512),
}

Plain = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class SshKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key out of SSH's format. `application` is a FIDO key's ('' = a plain key); `blob` its exact bytes."""

    algorithm: str
    key: Plain
    blob: bytes
    application: bytes = b""
    hardware: bool = False


class SshSignature(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed SSHSIG: by which key (as it says), over which hash, and the signature itself."""

    public: bytes
    hashed: bytes
    reserved: bytes
    algorithm: str
    body: bytes


def parse_public_line(line: str) -> tuple[SshKey, str]:
    """A key and its comment, from a line as in `id_ed25519.pub`.

    Raises:
        BadInput: it is no such line, or a key that does not count.
    """
    kind, _, rest = line.strip().partition(" ")
    text, _, comment = rest.strip().partition(" ")
    try:
        blob = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise BadInput(what="not a public key", remedy='copy the whole line, like "ssh-ed25519 AAAA…"') from None
    key = parse_public_blob(blob)
    if key.algorithm != kind:
        raise BadInput(what="the line names another type of key than it holds", remedy="copy the whole line")
    return key, comment.strip()


def parse_public_blob(blob: bytes) -> SshKey:
    """A key out of its bytes. Raises BadInput: damaged, weak, or of a type that does not count."""
    try:
        return _public(blob)
    except _Damaged:
        raise BadInput(what="the public key is damaged", remedy="copy it again") from None


def parse_sshsig(raw: bytes) -> SshSignature:
    """Take an SSHSIG apart.

    Raises:
        BadInput: it is none, or made for something else than trueup.
    """
    try:
        wire = _Wire(raw)
        if wire.raw(len(_MAGIC)) != _MAGIC or wire.u32() != 1:
            raise BadInput(what="not a signature of `ssh-keygen -Y sign`")
        public, namespace, reserved, hashed, signature = (wire.string() for _ in range(5))
        wire.end()
        inner = _Wire(signature)
        algorithm = inner.text()
    except _Damaged:
        raise BadInput(what="the SSH signature is damaged") from None
    if namespace != NAMESPACE:
        raise BadInput(
            what="the SSH signature was made for something else", remedy="sign with `ssh-keygen -Y sign -n trueup`"
        )
    if hashed not in _DIGESTS:
        raise BadInput(what="the SSH signature has a hash that does not count")
    return SshSignature(public=public, hashed=hashed, reserved=reserved, algorithm=algorithm, body=inner.rest())


def verifies(key: SshKey, signature: SshSignature, message: bytes) -> bool:
    """Whether this key signed exactly this message, for trueup."""
    digest = _DIGESTS[signature.hashed](message).digest()
    signed = _MAGIC + b"".join(_pack(part) for part in (NAMESPACE, signature.reserved, signature.hashed, digest))
    try:
        return _verify(key, signature, signed)
    except (_Damaged, InvalidSignature, ValueError):
        return False


def _verify(key: SshKey, signature: SshSignature, signed: bytes) -> bool:
    wire = _Wire(signature.body)
    body = wire.string()
    if key.hardware:
        flags, counter = wire.u8(), wire.raw(4)
        if not flags & _USER_PRESENT:
            return False
        signed = hashlib.sha256(key.application).digest() + bytes([flags]) + counter + hashlib.sha256(signed).digest()
    wire.end()
    plain = key.key
    if isinstance(plain, rsa.RSAPublicKey):
        chosen = _RSA_HASHES.get(signature.algorithm)
        if chosen is None:
            return False
        plain.verify(body, signed, padding.PKCS1v15(), chosen())
        return True
    if signature.algorithm != key.algorithm:
        return False
    if isinstance(plain, Ed25519PublicKey):
        plain.verify(body, signed)
        return True
    halves = _Wire(body)
    r, s = halves.mpint(), halves.mpint()
    halves.end()
    chosen_hash = next(found for curve, found in _CURVES.values() if isinstance(plain.curve, curve))
    plain.verify(encode_dss_signature(r, s), signed, ec.ECDSA(chosen_hash()))
    return True


def _public(blob: bytes) -> SshKey:
    wire = _Wire(blob)
    algorithm = wire.text()
    hardware = algorithm in {_SK_ED25519, _SK_ECDSA}
    if algorithm in {"ssh-ed25519", _SK_ED25519}:
        try:
            key: Plain = Ed25519PublicKey.from_public_bytes(wire.string())
        except ValueError:
            raise _Damaged from None
    elif algorithm.startswith("ecdsa-sha2-") or algorithm == _SK_ECDSA:
        key = _ecdsa(wire, algorithm)
    elif algorithm == "ssh-rsa":
        key = _rsa(wire)
    else:
        raise BadInput(
            what="a type of key that does not count",
            remedy="use ed25519, ecdsa, RSA of at least 2048 bits, or a FIDO key",
        )
    application = wire.string() if hardware else b""
    wire.end()
    return SshKey(algorithm=algorithm, key=key, blob=blob, application=application, hardware=hardware)


def _ecdsa(wire: "_Wire", algorithm: str) -> ec.EllipticCurvePublicKey:
    name = wire.text()
    if name not in _CURVES or not (
        algorithm == f"ecdsa-sha2-{name}" or (algorithm == _SK_ECDSA and name == "nistp256")
    ):
        raise BadInput(what="an ECDSA key on a curve that does not count", remedy="use nistp256, nistp384 or nistp521")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[name][0](), wire.string())
    except ValueError:
        raise _Damaged from None


def _rsa(wire: "_Wire") -> rsa.RSAPublicKey:
    exponent, modulus = wire.mpint(), wire.mpint()
    check_rsa_bits(modulus.bit_length())
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        raise _Damaged from None


def check_rsa_bits(bits: int) -> None:
    """Refuse short RSA keys, and those that cost seconds. Raises BadInput."""
    if not limits.RSA_BITS_MIN <= bits <= limits.RSA_BITS_MAX:
        raise BadInput(
            what=f"an RSA key of {bits} bits does not count",
            remedy=f"use ed25519, or RSA of {limits.RSA_BITS_MIN} to {limits.RSA_BITS_MAX} bits",
        )


class _Damaged(Exception):
    """The bytes end too early or go on too long."""


class _Wire:
    """Reads SSH's primitive types (RFC 4251, section 5)."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def raw(self, count: int) -> bytes:
        part = self._content[self._at : self._at + count]
        if len(part) != count:
            raise _Damaged
        self._at += count
        return part

    def u8(self) -> int:
        return self.raw(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.raw(4))

    def string(self) -> bytes:
        return self.raw(self.u32())

    def text(self) -> str:
        try:
            return self.string().decode("ascii")
        except UnicodeDecodeError:
            raise _Damaged from None

    def mpint(self) -> int:
        content = self.string()
        if not content or content[0] & 0x80 or (content[0] == 0 and not (len(content) > 1 and content[1] & 0x80)):
            raise _Damaged  # negative, zero, or not in its shortest form
        return int.from_bytes(content)

    def rest(self) -> bytes:
        part, self._at = self._content[self._at :], len(self._content)
        return part

    def end(self) -> None:
        if self._at != len(self._content):
            raise _Damaged


def _pack(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content
