"""Every error of aiohttp and of the operating system has words of ours."""

import asyncio
import ssl

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions

from trueup.adapters import pve_errors
from trueup.adapters.pve_errors import FOREIGN, broken
from trueup.adapters.pve_wire import Break


def below(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind} | {deeper for child in kind.__subclasses__() for deeper in below(child)}


def of_aiohttp() -> list[type[Exception]]:
    named = [
        value
        for module in (aiohttp, client_exceptions, http_exceptions)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    websocket = {aiohttp.WSMessageTypeError} | below(aiohttp.WebSocketError)
    servers = {kind for kind in named if kind.__module__.startswith("aiohttp.web")}
    warnings = {kind for kind in named if issubclass(kind, Warning)}
    control_flow = {aiohttp.EofStream}
    return sorted(
        set(named) - websocket - servers - warnings - control_flow - {Exception}, key=lambda kind: kind.__name__
    )


@pytest.mark.parametrize("kind", of_aiohttp(), ids=lambda kind: kind.__name__)
def test_every_error_of_aiohttp_is_caught_and_has_words(kind: type[Exception]) -> None:
    assert issubclass(kind, FOREIGN)
    assert any(issubclass(kind, known) for known in pve_errors._WORDS)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "Connection reset by peer"),
        BrokenPipeError(32, "Broken pipe"),
        ConnectionAbortedError(),
        TimeoutError(),
        OSError(113, "No route to host"),
        OSError("an error without a number"),
        ssl.SSLError(1, "[SSL: APPLICATION_DATA_AFTER_CLOSE_NOTIFY]"),
        ssl.SSLCertVerificationError(1, "certificate verify failed"),
        asyncio.IncompleteReadError(b"x", 5),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("Response payload is not completed"),
        aiohttp.ClientConnectionResetError("Cannot write to closing transport"),
        aiohttp.SocketTimeoutError(),
        http_exceptions.BadHttpMessage("400"),
        ValueError("anything"),
        UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whether_a_byte_was_sent_is_told_by_the_sender_alone(error: Exception) -> None:
    assert isinstance(error, FOREIGN)
    for sent in (True, False):
        failure = broken(error, sent=sent)
        assert failure.sent is sent
        assert failure.what
        assert failure.what.isprintable()
    assert broken(error, sent=True).kind not in {Break.UNUSABLE, Break.EXPIRED}


def test_cancelling_is_no_foreign_error() -> None:
    assert not issubclass(asyncio.CancelledError, FOREIGN)
