"""What aiohttp and the operating system raise, mapped to `Broken`, in this one place.

Rule kept here: whether a byte was sent is not read off an error, since libraries raise the same one before and after;
the sender knows it. The kind and the words are for people. A test goes through all errors of aiohttp and finds none
that is not mapped.
"""

import ssl
from collections.abc import Callable, Mapping
from typing import Final

from trueup.adapters.http_client import HttpProcessingError, aiohttp
from trueup.adapters.pve_wire import Break, Broken
from trueup.core.answers import one_line
from trueup.model.limits import CONNECT_TIMEOUT_S

FOREIGN: Final = (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError, EOFError, ValueError)
"""Everything foreign that an exchange can raise. Cancellation is none of them and passes."""

_ADDRESS_REMEDY: Final = "is the address right, and pveproxy up there?"
_NOT_PVE_REMEDY: Final = "is this the address of a PVE API (https, port 8006)?"
_CA_REMEDY: Final = "ca_file must be the authority of this cluster (/etc/pve/pve-root-ca.pem on a node)"
_PRINT_REMEDY: Final = (
    "compare it with `openssl x509 -noout -fingerprint -sha256 -in /etc/pve/local/pve-ssl.pem` on the node (or "
    "pveproxy-ssl.pem, if that is there) before you change it"
)


def broken(error: Exception, *, sent: bool) -> Broken:
    """Map one of FOREIGN. `sent`: a byte of the request may have been written."""
    kind, what, remedy = next(words(error) for known, words in _WORDS.items() if isinstance(error, known))
    if sent and kind is Break.UNUSABLE:
        kind, what, remedy = _garbage(error)
    return Broken(kind=kind, sent=sent, what=one_line(what), remedy=remedy)


_Words = tuple[Break, str, str]


def _fingerprint(error: Exception) -> _Words:
    got = error.got if isinstance(error, aiohttp.ServerFingerprintMismatch) else b""
    return Break.UNTRUSTED, f"the certificate has another fingerprint: {got.hex(':').upper()}", _PRINT_REMEDY


def _certificate(error: Exception) -> _Words:
    cause = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error
    said: object = getattr(cause, "verify_message", cause)  # only there if OpenSSL made the error
    return Break.UNTRUSTED, f"the certificate is not trusted: {said}", _CA_REMEDY


def _tls(error: Exception) -> _Words:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    said = cause.reason if isinstance(cause, ssl.SSLError) and cause.reason else str(cause)
    return Break.UNREACHABLE, f"no TLS there: {said.replace('_', ' ').lower()}", _NOT_PVE_REMEDY


def _name(error: Exception) -> _Words:
    return Break.UNREACHABLE, f"the name cannot be resolved: {_cause(error)}", _ADDRESS_REMEDY


def _connect(error: Exception) -> _Words:
    return Break.UNREACHABLE, f"cannot connect: {_cause(error)}", _ADDRESS_REMEDY


def _cause(error: Exception) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    strerror: object = getattr(cause, "strerror", None)
    return str(strerror or cause)


def _connect_timeout(_error: Exception) -> _Words:
    return Break.UNREACHABLE, f"no connection within {CONNECT_TIMEOUT_S:.0f} s", _ADDRESS_REMEDY


def _timeout(_error: Exception) -> _Words:
    return Break.TIMEOUT, "no answer in time", ""


def _url(_error: Exception) -> _Words:
    return Break.UNUSABLE, "the request cannot be written as HTTP", ""


def _garbage(error: Exception) -> _Words:
    # Its text may quote the request, headers included, so only its name is passed on.
    return Break.GARBAGE, f"the answer is not HTTP as PVE speaks it ({type(error).__name__})", _NOT_PVE_REMEDY


def _lost(error: Exception) -> _Words:
    return Break.LOST, f"the connection broke before the answer was complete ({type(error).__name__})", ""


_WORDS: Final[Mapping[type[Exception], Callable[[Exception], _Words]]] = {
    aiohttp.ServerFingerprintMismatch: _fingerprint,
    aiohttp.ClientConnectorCertificateError: _certificate,
    aiohttp.ClientConnectorSSLError: _tls,
    aiohttp.ClientConnectorDNSError: _name,
    aiohttp.ClientConnectorError: _connect,
    aiohttp.ConnectionTimeoutError: _connect_timeout,
    TimeoutError: _timeout,
    aiohttp.InvalidURL: _url,
    aiohttp.NonHttpUrlClientError: _url,
    aiohttp.ClientResponseError: _garbage,
    HttpProcessingError: _garbage,
    ssl.CertificateError: _certificate,
    aiohttp.ClientError: _lost,
    OSError: _lost,
    EOFError: _lost,
    ValueError: _url,
}
"""First match decides, so the special ones go before those that they derive from."""
