"""FIDO tokens in software: what OpenSSH would have got from a real one (PROTOCOL.u2f)."""

import base64
import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Touch = Callable[..., bytes]


def string(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1))


def ed25519_token(application: bytes = b"ssh:") -> tuple[str, Touch]:
    key = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    name = "sk-ssh-ed25519@openssh.com"
    return _token(name, string(public) + string(application), application, key.sign)


def ecdsa_token(application: bytes = b"ssh:") -> tuple[str, Touch]:
    key = ec.derive_private_key(7, ec.SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    name = "sk-ecdsa-sha2-nistp256@openssh.com"

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
        return mpint(r) + mpint(s)

    return _token(name, string(b"nistp256") + string(point) + string(application), application, sign)


def _token(name: str, rest: bytes, application: bytes, sign: Callable[[bytes], bytes]) -> tuple[str, Touch]:
    blob = string(name.encode()) + rest

    def touch(message: bytes, *, touched: bool = True) -> bytes:
        digest = hashlib.sha512(message).digest()
        signed = b"SSHSIG" + string(b"trueup") + string(b"") + string(b"sha512") + string(digest)
        after = bytes([1 if touched else 0]) + (5).to_bytes(4)
        made = sign(hashlib.sha256(application).digest() + after + hashlib.sha256(signed).digest())
        signature = string(name.encode()) + string(made) + after
        head = b"SSHSIG" + (1).to_bytes(4)
        return head + string(blob) + string(b"trueup") + string(b"") + string(b"sha512") + string(signature)

    return f"{name} {base64.b64encode(blob).decode()} token", touch
