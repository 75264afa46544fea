"""Public keys and their ids, private keys and what signs with them.

A key id is computed from the key's bytes, as securesystemslib does it; that of a FIDO key of SSH, which that library
does not know, is the SHA-256 of its SSH form, and a browser's security key has the id of its plain public key. Nobody
can give one key two names by writing another id somewhere.
"""

import hashlib
import os
from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from securesystemslib.signer import CryptoSigner, HSMSigner, Signer, SSlibKey  # pyright: ignore[reportPrivateImportUsage]

from trueup.adapters import webauthn
from trueup.adapters.file_names import shown
from trueup.adapters.signing_ssh import SshKey, check_rsa_bits, parse_public_blob, parse_public_line
from trueup.core.gate_webauthn import ALGORITHM as WEBAUTHN
from trueup.model.errors import BadInput
from trueup.model.keyring import PublicKey

RSA_SCHEMES: Final = (
    "rsassa-pss-sha256",
    "rsassa-pss-sha384",
    "rsassa-pss-sha512",
    "rsa-pkcs1v15-sha256",
    "rsa-pkcs1v15-sha384",
    "rsa-pkcs1v15-sha512",
)
_KEY_FILE_MAX: Final = 64 * 1024
_KEYS_KEPT: Final = 1024  # as read by the library; each takes a few kB
_WEAK: Final = "use ed25519, ecdsa on a NIST curve, RSA of at least 2048 bits, ML-DSA, or a FIDO key of SSH"
_ON_A_TERMINAL: Final = "sign on a terminal, where it is asked for"
_NAME_LIBRARY: Final = "set PYKCS11LIB to the file of the token's PKCS#11 library, like /usr/lib/softhsm/libsofthsm2.so"

AskPassphrase = Callable[[str], str | None]
"""Asks a person for the passphrase of a key; the argument names the key. None = nobody can be asked."""


def read_public(text: str) -> PublicKey:
    """A public key from an SSH line, from PEM, or from the line of a security key that signs in a browser.

    Raises:
        BadInput: it is none of them, or a key that does not count.
    """
    if "-----BEGIN" in text:
        return public_of(_pem(text))
    if webauthn.is_line(text):
        return _public_of_browser(*webauthn.parse_line(text))
    key, comment = parse_public_line(text)
    return _public_of_ssh(key, comment)


def public_of(key: PublicKeyTypes, comment: str = "") -> PublicKey:
    """A public key of `cryptography` as the keyring has it. Raises BadInput: it does not count."""
    if isinstance(key, rsa.RSAPublicKey):
        check_rsa_bits(key.key_size)
    try:
        known = SSlibKey.from_crypto(key)
    except ValueError:
        raise BadInput(what="a type of key that does not count", remedy=_WEAK) from None
    others = [SSlibKey.from_crypto(key, scheme=one).keyid for one in RSA_SCHEMES] if known.keytype == "rsa" else []
    return PublicKey(
        key_id=known.keyid,
        algorithm=_algorithm(key, known),
        public=_text(key),
        aliases=tuple(one for one in others if one != known.keyid),
        comment=comment,
    )


def library_keys(key: PublicKey) -> tuple[SSlibKey, ...]:
    """The key as securesystemslib verifies with it, once for each scheme; none for a FIDO key."""
    return () if signs_elsewhere(key) else _library_keys(key.public)


# What the key's own text says, and nothing else: a changed keyring has other texts, or fewer of them.
@lru_cache(maxsize=_KEYS_KEPT)
def _library_keys(public: str) -> tuple[SSlibKey, ...]:
    plain = _pem(public)
    schemes = RSA_SCHEMES if isinstance(plain, rsa.RSAPublicKey) else (None,)
    return tuple(SSlibKey.from_crypto(plain, scheme=scheme) for scheme in schemes)


def signs_elsewhere(key: PublicKey) -> bool:
    """Whether the key lives in a FIDO token and signs through OpenSSH or a browser, by which alone it counts."""
    return key.algorithm.startswith(("sk-", WEBAUTHN))


def ssh_blob(key: PublicKey) -> bytes | None:
    """The key in SSH's own form, to compare it with the one in a signature; None where there is none."""
    if key.algorithm.startswith(WEBAUTHN):
        return None
    if key.algorithm.startswith("sk-"):
        return parse_public_line(key.public)[0].blob
    plain = _pem(key.public)
    if not isinstance(plain, Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return None
    line = plain.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return parse_public_line(line.decode())[0].blob


def ssh_key_id(blob: bytes) -> str:
    """The id of the key in an SSH signature. Raises BadInput: it does not count."""
    return _public_of_ssh(parse_public_blob(blob), "").key_id


def load_signer(key: str, ask: AskPassphrase, public: str | None = None) -> Signer:
    """What signs: a private key file (PEM or OpenSSH), or a URI that securesystemslib knows.

    Args:
        key: a path, or `hsm:…`, `awskms:…`, `gcpkms:…`, `azurekms:…`, `hv:…`, `gnupg:…`.
        ask: asks for a file's passphrase, or for a hardware key's PIN.
        public: for a URI, the public key as in the keyring (the library wants to know what it signs with).

    Raises:
        BadInput: no such file, a wrong passphrase, a key that does not count, or a signer that does not answer.
    """
    scheme, colon, _ = key.partition(":")
    if colon and scheme in _schemes():
        return _uri_signer(key, ask, public)
    return CryptoSigner(load_private(Path(key), ask))


def load_private(path: Path, ask: AskPassphrase) -> PrivateKeyTypes:
    """A private key from its file. Raises BadInput."""
    where = shown(path)
    try:
        with path.open("rb") as source:
            content = source.read(_KEY_FILE_MAX + 1)
    except OSError as error:
        raise BadInput(what=f"cannot read the key: {error.strerror}", where=where, remedy="check --key") from None
    if b"PRIVATE KEY" not in content or len(content) > _KEY_FILE_MAX:
        remedy = "name the private half; a FIDO key signs by `ssh-keygen -Y sign -n trueup`"
        raise BadInput(what="not a private key", where=where, remedy=remedy)
    key = _decode_private(content, None, where)
    if key is None:
        given = ask(where)
        if given is None:
            raise BadInput(what="the key has a passphrase", where=where, remedy=_ON_A_TERMINAL)
        key = _decode_private(content, given.encode(), where)
    if key is None:
        raise BadInput(what="the passphrase is wrong", where=where)
    public_of(key.public_key())  # a weak key signs nothing that anybody would take
    return key


def new_private(passphrase: str | None = None) -> tuple[bytes, PublicKey]:
    """A new ed25519 key: the file's content in OpenSSH's format, and its public half."""
    key = Ed25519PrivateKey.generate()
    lock = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    content = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, lock)
    return content, public_of(key.public_key())


def public_line(key: PublicKey) -> str:
    """The key as it is written into a keyring: an SSH line where SSH has one, else PEM or its own line."""
    blob = ssh_blob(key)
    if blob is None:
        return key.public
    name = blob[4 : 4 + int.from_bytes(blob[:4])].decode()
    return f"{name} {b64encode(blob).decode()}"


def _decode_private(content: bytes, passphrase: bytes | None, where: str) -> PrivateKeyTypes | None:
    """None: a passphrase is needed, or this one is wrong. One map for all that the library raises."""
    try:
        if b"OPENSSH PRIVATE KEY" in content:
            return cast("PrivateKeyTypes", serialization.load_ssh_private_key(content, passphrase))
        return serialization.load_pem_private_key(content, passphrase)
    except TypeError:
        return None
    except UnsupportedAlgorithm:
        raise BadInput(what="a type of key that does not count", where=where, remedy=_WEAK) from None
    except ValueError:
        encrypted = b"ENCRYPTED" in content or (passphrase is not None and b"OPENSSH" in content)
        if encrypted:
            return None
        raise BadInput(what="the private key is damaged, or of an unknown type", where=where) from None


def _uri_signer(uri: str, ask: AskPassphrase, public: str | None) -> Signer:
    if public is None:
        raise BadInput(what=f"{uri.partition(':')[0]}: needs its public key", remedy="name the person whose key it is")
    keys = library_keys(read_public(public))
    if not keys:
        raise BadInput(what="a FIDO key has no such signer", remedy="sign with `ssh-keygen -Y sign -n trueup`")

    def secret(what: str) -> str:
        given = ask(f"{uri} ({what})")
        if given is None:  # never tried with nothing: a token counts the wrong PINs, and locks itself
            raise BadInput(what=f"the key has a {what}", where=uri, remedy=_ON_A_TERMINAL)
        return given

    try:
        signer = Signer.from_priv_key_uri(uri, keys[0], secret)
    except Exception as error:  # every signer has errors of its own library; none of them says anything about effects
        raise BadInput(
            what=f"the signer {uri.partition(':')[0]}: does not work: {type(error).__name__}",
            remedy="see securesystemslib's documentation of this signer, and install what it needs",
        ) from error
    if isinstance(signer, HSMSigner) and not _library_named(os.environ.get("PYKCS11LIB", "")):
        raise BadInput(what="the signer hsm: does not work: no PKCS#11 library is named", remedy=_NAME_LIBRARY)
    return signer


def _library_named(name: str) -> bool:
    """A name without a slash is looked for by the system's loader."""
    return bool(name) and ("/" not in name or Path(name).is_file())


def _schemes() -> frozenset[str]:
    return frozenset({"hsm", "awskms", "gcpkms", "azurekms", "hv", "gnupg", "file2", "tkey"})


def _public_of_ssh(key: SshKey, comment: str) -> PublicKey:
    if not key.hardware:
        return public_of(key.key, comment)
    line = f"{key.algorithm} {b64encode(key.blob).decode()}"
    short = "sk-ed25519" if isinstance(key.key, Ed25519PublicKey) else "sk-ecdsa-p256"
    return PublicKey(key_id=hashlib.sha256(key.blob).hexdigest(), algorithm=short, public=line, comment=comment)


def _public_of_browser(found: webauthn.SecurityKey, comment: str) -> PublicKey:
    """Its id is that of the plain key: one key is known again in whatever form it is written down."""
    plain = public_of(found.key, comment)
    return PublicKey(key_id=plain.key_id, algorithm=f"{WEBAUTHN}{plain.algorithm}", public=found.line, comment=comment)


def _pem(text: str) -> PublicKeyTypes:
    if len(text) > _KEY_FILE_MAX:
        raise BadInput(what="a public key of that size is none")
    try:
        return serialization.load_pem_public_key(text.encode())
    except UnsupportedAlgorithm:
        raise BadInput(what="a type of key that does not count", remedy=_WEAK) from None
    except ValueError:
        remedy = "a PEM file begins with -----BEGIN PUBLIC KEY-----"
        if "PRIVATE KEY" in text:
            remedy = "this is a private key: keep it to yourself, and name the public half"
        raise BadInput(what="not a public key in PEM", remedy=remedy) from None


def _text(key: PublicKeyTypes) -> str:
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, info).decode()


def _algorithm(key: PublicKeyTypes, known: SSlibKey) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ecdsa-p{key.key_size}"
    return known.scheme.removesuffix("/1")
