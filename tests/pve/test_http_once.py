"""A mutation reaches PVE at most once, and "not sent" is said only if not one byte of it was."""

import asyncio
import hashlib
import ssl
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.pve.servers import (
    SECRET,
    Behaviour,
    House,
    RealClock,
    Request,
    SteppedClock,
    answering,
    free_port,
    hangs_up,
    listening,
    reply,
    resets,
    run,
    says_nothing,
)
from trueup.adapters import pve_http
from trueup.adapters.pve_http import connect
from trueup.model.errors import NotSent, Unknown
from trueup.model.ids import Upid
from trueup.model.pve import Call, Done, TaskStarted
from trueup.model.settings import Fingerprint, Insecure, Trust

MUTATIONS = ("POST", "PUT", "DELETE")
UPID = "UPID:pve1:00001E85:0008EA42:6B046C7F:qmstart:720:agent@pve!epoch1:"


def call(method: str = "POST", **params: str) -> Call:
    return Call(method=method, path="/nodes/pve1/qemu/720", params=params)


@pytest.mark.parametrize("behave", [hangs_up, resets], ids=["fin", "rst"])
@pytest.mark.parametrize("method", MUTATIONS)
def test_a_server_that_reads_and_hangs_up_gets_each_mutation_once(house: House, method: str, behave: Behaviour) -> None:
    async def story() -> None:
        async with house.server(behave) as server, connect(house.login(server.url), RealClock()) as pve:
            with pytest.raises(Unknown):
                await pve.send(call(method, a="1"))
            await asyncio.sleep(0.1)
            assert len(server.requests) == 1
            assert server.connections == 1

    run(story())


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_aiohttp_by_itself_would_send_twice_so_the_test_above_has_teeth(house: House, method: str) -> None:
    async def story() -> None:
        async with house.server(hangs_up) as server:
            context = ssl.create_default_context(cafile=house.ca_file)
            connector = aiohttp.TCPConnector(force_close=True, ssl=context)
            async with aiohttp.ClientSession(connector=connector) as session:
                with pytest.raises(aiohttp.ServerDisconnectedError):
                    await session.request(method, server.url, data=b"a=1")
            assert len(server.requests) == 2

    run(story())


@pytest.mark.parametrize("method", MUTATIONS)
def test_a_server_that_answers_and_dies_gets_each_mutation_on_a_fresh_connection(house: House, method: str) -> None:
    async def once_each(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply())
        await writer.drain()

    async def story() -> None:
        async with house.server(once_each) as server, connect(house.login(server.url), RealClock()) as pve:
            for number in range(3):
                assert await pve.send(call(method, n=str(number))) == Done()
            assert server.connections == 3
            assert [r.headers["connection"] for r in server.requests] == ["close"] * 3

    run(story())


def test_requests_are_written_as_pve_wants_them(house: House) -> None:
    params = {"description": "a b+c&d=é\n%", "empty": ""}
    encoded = "description=a%20b%2Bc%26d%3D%C3%A9%0A%25&empty="

    async def story() -> None:
        async with house.server(answering(reply())) as server, connect(house.login(server.url), RealClock()) as pve:
            for method in MUTATIONS:
                await pve.send(Call(method=method, path="/nodes/pve1/qemu/720/config", params=params))
                await pve.send(Call(method=method, path="/nodes/pve1/qemu/720/config"))
            by_method = {method: [r for r in server.requests if r.method == method] for method in MUTATIONS}
            for method in ("POST", "PUT"):
                full, bare = by_method[method]
                assert full.target == "/api2/json/nodes/pve1/qemu/720/config"
                assert full.body == encoded.encode()
                assert full.headers["content-type"] == "application/x-www-form-urlencoded"
                assert bare.headers["content-length"] == "0"
            full, bare = by_method["DELETE"]
            assert full.target == f"/api2/json/nodes/pve1/qemu/720/config?{encoded}"
            assert full.body == b""
            assert "content-length" not in bare.headers
            for request in server.requests:
                assert "transfer-encoding" not in request.headers
                assert "expect" not in request.headers
                assert request.headers["authorization"] == f"pveapitoken=agent@pve!epoch1={SECRET}"

    run(story())


def test_a_upid_is_a_task_and_everything_else_is_done(house: House) -> None:
    bodies = iter([f'{{"data":"{UPID}"}}'.encode(), b'{"data":null}', b'{"data":"OK"}', b'{"data":{"a":1}}'])

    async def next_one(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(next(bodies)))

    async def story() -> None:
        async with house.server(next_one) as server, connect(house.login(server.url), RealClock()) as pve:
            assert await pve.send(call()) == TaskStarted(upid=Upid.parse(UPID))
            assert await pve.send(call()) == Done(data="")
            assert await pve.send(call()) == Done(data="OK")
            assert await pve.send(call()) == Done(data='{"a":1}')

    run(story())


# --- not one byte


def other_house(house: House) -> House:
    (house.folder / "other").mkdir()
    return House(folder=house.folder / "other")


def assert_not_sent(house: House, url: str, *, says: str, trust: Trust | None = None) -> None:
    async def story() -> None:
        async with connect(house.login(url, trust=trust), RealClock()) as pve:
            for method in MUTATIONS:
                with pytest.raises(NotSent, match=says) as caught:
                    await pve.send(call(method))
                assert SECRET not in repr(caught.value) + str(caught.value)
                assert "\n" not in str(caught.value)
                assert caught.value.remedy

    run(story())


def test_a_refused_connection_is_not_sent(house: House) -> None:
    assert_not_sent(house, f"https://localhost:{free_port()}", says="cannot connect")


def test_a_name_that_does_not_resolve_is_not_sent(house: House) -> None:
    assert_not_sent(house, "https://pve1.invalid:8006", says="cannot be resolved")


async def _nothing_arrives(house: House, says: str, trust: Trust, tls: ssl.SSLContext | None = None) -> None:
    async with house.server(answering(reply()), tls=tls) as server:
        async with connect(house.login(server.url, trust=trust), RealClock()) as pve:
            for method in MUTATIONS:
                with pytest.raises(NotSent, match=says):
                    await pve.send(call(method))
        await asyncio.sleep(0.05)
        assert server.bytes_read == 0


def test_a_certificate_of_another_authority_is_not_sent_to(house: House) -> None:
    stranger = other_house(house)
    trust = stranger.login("https://x").trust
    run(_nothing_arrives(house, "certificate is not trusted", trust))


def test_a_certificate_for_another_name_is_not_sent_to(house: House) -> None:
    trust = house.login("https://x").trust
    run(_nothing_arrives(house, "not valid for 'localhost'", trust, house.context("pve2.example.org")))


def test_another_fingerprint_is_not_sent_to_and_is_shown(house: House) -> None:
    run(_nothing_arrives(house, "another fingerprint: ([0-9A-F]{2}:){31}", Fingerprint(sha256=bytes(32))))


def test_the_right_fingerprint_is_enough_and_insecure_trusts_anybody(house: House) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = house.authority.issue_cert("somewhere.else")
    certificate.configure_cert(context)
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())

    async def story() -> None:
        async with house.server(answering(reply()), tls=context) as server:
            for trust in (Fingerprint(sha256=hashlib.sha256(der).digest()), Insecure()):
                async with connect(house.login(server.url, trust=trust), RealClock()) as pve:
                    assert await pve.send(call()) == Done()

    run(story())


def _at_the_port(
    house: House, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], says: str
) -> None:
    async def story() -> None:
        async with (
            listening(serve, None) as port,
            connect(house.login(f"https://localhost:{port}"), RealClock()) as pve,
        ):
            for method in MUTATIONS:
                with pytest.raises(NotSent, match=says):
                    await pve.send(call(method))

    run(story())


def test_a_port_without_tls_is_not_sent_to(house: House) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 301 Moved Permanently\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    _at_the_port(house, plain, "no TLS there")


def test_a_peer_that_hangs_up_during_the_handshake_is_not_sent_to(house: House) -> None:
    async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    _at_the_port(house, gone, "cannot connect|no TLS")


def test_a_peer_that_never_ends_the_handshake_is_not_sent_to(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pve_http, "CONNECT_TIMEOUT_S", 0.1)

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    _at_the_port(house, mute, "no connection within")


def test_send_by_is_looked_at_after_the_handshake_and_a_late_request_is_not_written(house: House) -> None:
    clock = SteppedClock()

    async def story() -> None:
        async with house.server(answering(reply())) as server, connect(house.login(server.url), clock) as pve:
            handshake = house.context()
            handshake.sni_callback = lambda *_: setattr(clock, "now", 2000.0)
            async with house.server(answering(reply()), tls=handshake) as slow:
                async with connect(house.login(slow.url), clock) as late:
                    for method in MUTATIONS:
                        clock.now = 1000.0
                        with pytest.raises(NotSent, match="expired"):
                            await late.send(Call(method=method, path="/nodes/pve1/qemu/720", send_by=1500.0))
                await asyncio.sleep(0.05)
                assert slow.connections == 3
                assert slow.bytes_read == 0
            clock.now = 1500.0
            await pve.send(Call(method="POST", path="/nodes/pve1/qemu/720", send_by=1500.0))
            clock.now = 1500.001
            with pytest.raises(NotSent, match="expired"):
                await pve.send(Call(method="POST", path="/nodes/pve1/qemu/720", send_by=1500.0))
            await pve.send(Call(method="POST", path="/nodes/pve1/qemu/720"))
            assert len(server.requests) == 2

    run(story())


def test_a_parameter_that_cannot_be_written_is_not_sent(house: House) -> None:
    async def story() -> None:
        async with house.server(answering(reply())) as server, connect(house.login(server.url), RealClock()) as pve:
            with pytest.raises(NotSent, match="cannot be written"):
                await pve.send(call(name="\udc80"))
            assert server.connections == 0

    run(story())


# --- sent, and then anything


BAD_ANSWERS: dict[str, bytes] = {
    "not HTTP": b"220 smtp.example.org ESMTP\r\n\r\n",
    "half a header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "less than promised": b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"data":null}',
    "not JSON": reply(b"<html>hello</html>"),
    "no data": reply(b'{"result":1}'),
    "an array": reply(b"[]"),
    "nothing": reply(b""),
    "broken JSON": reply(b'{"data":'),
    "not UTF-8": reply(b'{"data":"\xff\xfe"}'),
    "half a surrogate": reply(b'{"data":"\\ud800"}'),
    "a deep well": reply(b'{"data":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "a UPID that is none": reply(b'{"data":"UPID:pve1:nonsense"}'),
    "gzip that is none": reply(b'{"data":', extra="Content-Encoding: gzip\r\n"),
    "chunks that are none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
    "a created": reply(b'{"data":null}', status="201 Created"),
    "a redirect": reply(b"", status="301 Moved Permanently", extra="Location: https://localhost:1/elsewhere\r\n"),
    "a gateway's error": reply(b"<html>Bad Gateway</html>", status="502 Bad Gateway"),
    "a huge header": b"HTTP/1.1 200 " + b"x" * 300_000 + b"\r\n\r\n",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n",
    "an impossible status": b"HTTP/1.1 99999 OK\r\n\r\n",
    "too large": reply(b'{"data":"' + b"x" * (2 * 1024 * 1024) + b'"}'),
    "too large, in chunks": b"".join(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n", b"x" * 0x200000, b"\r\n0\r\n\r\n"]
    ),
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
}


@pytest.mark.parametrize("method", MUTATIONS)
@pytest.mark.parametrize("what", BAD_ANSWERS)
def test_an_answer_that_cannot_be_understood_leaves_the_effect_unknown(house: House, what: str, method: str) -> None:
    async def bad(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BAD_ANSWERS[what])
        await writer.drain()
        writer.close()

    async def story() -> None:
        async with house.server(bad) as server, connect(house.login(server.url), RealClock()) as pve:
            with pytest.raises(Unknown) as caught:
                await pve.send(call(method))
            assert len(server.requests) == 1
            assert SECRET not in str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 5000

    run(story())


def test_no_answer_in_time_leaves_the_effect_unknown(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pve_http, "MUTATION_TIMEOUT_S", 0.2)

    async def drips(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def drips_headers(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-A: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def story() -> None:
        for behave in (says_nothing, drips, drips_headers):
            async with house.server(behave) as server, connect(house.login(server.url), RealClock()) as pve:
                with pytest.raises(Unknown, match="no answer in time"):
                    await pve.send(call())
                assert len(server.requests) == 1

    run(story())


def test_a_reason_phrase_of_any_bytes_is_made_printable(house: House) -> None:
    bad = b"HTTP/1.1 500 caf\xc3\xa9 \xff\x01\xfe ok\r\nContent-Length: 0\r\n\r\n"

    async def story() -> None:
        async with house.server(answering(bad)) as server, connect(house.login(server.url), RealClock()) as pve:
            with pytest.raises(Unknown) as caught:
                await pve.send(call())
            assert str(caught.value).isprintable()
            caught.value.text.encode()

    run(story())


def test_cancelling_passes_and_closes_the_connection(house: House) -> None:
    closed = asyncio.Event()

    async def waits(_request: Request, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        closed.set()

    async def story() -> None:
        async with house.server(waits) as server, connect(house.login(server.url), RealClock()) as pve:
            task = asyncio.create_task(pve.send(call()))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(closed.wait(), 5)
            assert len(server.requests) == 1

    run(story())


def test_a_client_that_is_closed_sends_nothing(house: House) -> None:
    async def story() -> None:
        async with house.server(answering(reply())) as server:
            async with connect(house.login(server.url), RealClock()) as pve:
                pass
            with pytest.raises(NotSent, match="not open"):
                await pve.send(call())

    run(story())


def test_the_environment_names_no_proxy_for_us(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://localhost:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://localhost:{free_port()}")

    async def story() -> None:
        async with house.server(answering(reply())) as server, connect(house.login(server.url), RealClock()) as pve:
            assert await pve.send(call()) == Done()

    run(story())
