"""Reads keep their connections, may be repeated, and end in one clear line when they fail."""

import asyncio

import pytest

from tests.pve.servers import (
    SECRET,
    House,
    RealClock,
    Request,
    answering,
    free_port,
    hangs_up,
    listening,
    reply,
    resets,
    run,
    says_nothing,
)
from tests.pve.test_http_once import BAD_ANSWERS, other_house
from trueup.adapters import pve_http
from trueup.adapters.pve_http import connect
from trueup.model.errors import BadInput, ReadFailed
from trueup.model.settings import Fingerprint, Secret

VERSION = reply(b'{"data":{"version":"9.2.11"}}')


def test_reads_keep_their_connection(house: House) -> None:
    async def story() -> None:
        async with house.server(answering(VERSION)) as server, connect(house.login(server.url), RealClock()) as pve:
            for _ in range(5):
                assert await pve.version() == "9.2.11"
            assert server.connections == 1
            assert server.requests[0].headers["accept-encoding"] == "identity"
            assert "content-length" not in server.requests[0].headers

    run(story())


@pytest.mark.parametrize("behave", [hangs_up, resets], ids=["fin", "rst"])
def test_a_read_whose_connection_breaks_is_repeated_within_bounds(house: House, behave: object) -> None:
    count = 0

    async def twice_broken(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await (hangs_up if count < 3 else answering(VERSION))(request, reader, writer)

    async def story() -> None:
        async with house.server(twice_broken) as server, connect(house.login(server.url), RealClock()) as pve:
            assert await pve.version() == "9.2.11"
        async with house.server(behave) as server, connect(house.login(server.url), RealClock()) as pve:  # type: ignore[arg-type]
            with pytest.raises(ReadFailed):
                await pve.version()
            assert 1 < len(server.requests) <= 6

    run(story())


def test_a_kept_connection_that_has_gone_stale_is_replaced(house: House) -> None:
    async def closes_soon(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(VERSION)
        await writer.drain()
        writer.close()  # without a word in the header, like a server that was restarted

    async def story() -> None:
        async with house.server(closes_soon) as server, connect(house.login(server.url), RealClock()) as pve:
            for _ in range(5):
                assert await pve.version() == "9.2.11"
            assert len(server.requests) == 5

    run(story())


@pytest.mark.parametrize("what", sorted(set(BAD_ANSWERS) - {"too large", "too large, in chunks"}))
def test_an_answer_that_cannot_be_understood_is_a_failed_read(house: House, what: str) -> None:
    async def bad(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BAD_ANSWERS[what])
        await writer.drain()
        writer.close()

    async def story() -> None:
        async with house.server(bad) as server, connect(house.login(server.url), RealClock()) as pve:
            with pytest.raises(ReadFailed) as caught:
                await pve.resources()
            assert SECRET not in str(caught.value)
            assert str(caught.value).isprintable()

    run(story())


def test_a_read_without_an_answer_ends_in_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pve_http, "READ_TIMEOUT_S", 0.2)

    async def story() -> None:
        async with house.server(says_nothing) as server, connect(house.login(server.url), RealClock()) as pve:
            with pytest.raises(ReadFailed, match="no answer in time"):
                await pve.version()
            assert len(server.requests) == 1

    run(story())


def test_a_large_list_is_read_and_one_without_end_is_not(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from trueup.adapters import pve_api

    rows = ",".join(f'{{"vmid":{n},"type":"qemu","node":"pve1","status":"running"}}' for n in range(100, 10_100))
    body = f'{{"data":[{rows}]}}'.encode()

    async def story() -> None:
        async with house.server(answering(reply(body))) as server, connect(house.login(server.url), RealClock()) as pve:
            assert len(await pve.resources()) == 10_000
            monkeypatch.setattr(pve_api, "ANSWER_MAX_BYTES", 1000)
            with pytest.raises(ReadFailed, match="larger than 1000 bytes"):
                await pve.resources()

    run(story())


# --- what people get to read when something is set up wrong


def failure(house: House, url: str, **login: object) -> str:
    async def story() -> str:
        given = house.login(url)
        changed = type(given)(
            endpoints=given.endpoints,
            token=given.token,
            secret=given.secret,
            trust=login.get("trust", given.trust),  # type: ignore[arg-type]
        )
        async with connect(changed, RealClock()) as pve:
            with pytest.raises(ReadFailed) as caught:
                await pve.version()
            assert SECRET not in repr(caught.value) + str(caught.value)
            return str(caught.value)

    return run(story())


def with_server(house: House, data: bytes, **login: object) -> str:
    lines: list[str] = []

    async def story() -> None:
        async with house.server(answering(data)) as server:
            lines.append(await asyncio.to_thread(failure, house, server.url, **login))

    run(story())
    return lines[0]


def test_a_wrong_token_says_so(house: House) -> None:
    line = with_server(house, b"HTTP/1.1 401 Authentication failed!\r\nContent-Length: 0\r\n\r\n")
    where, _, rest = line.partition(" ")
    assert where.startswith("https://localhost:")
    assert rest == (
        "GET /version: PVE answered 401: Authentication failed!"
        " (check the API token and its secret; it may have expired or been deleted)"
    )


def test_a_wrong_authority_says_so(house: House) -> None:
    trust = other_house(house).login("https://x").trust
    line = with_server(house, VERSION, trust=trust)
    assert "the certificate is not trusted" in line
    assert "/etc/pve/pve-root-ca.pem" in line


def test_a_wrong_fingerprint_says_so(house: House) -> None:
    line = with_server(house, VERSION, trust=Fingerprint(sha256=bytes(32)))
    assert "another fingerprint" in line
    assert "openssl" in line


def test_an_address_where_nobody_is_says_so(house: House) -> None:
    line = failure(house, f"https://localhost:{free_port()}")
    assert "cannot connect" in line
    assert "is the address right" in line


def test_an_address_where_something_else_is_says_so(house: House) -> None:
    for data in (reply(b"<html></html>"), reply(b"<html></html>", status="404 Not Found"), b"220 ESMTP\r\n\r\n"):
        assert "is this the address of a PVE API" in with_server(house, data)

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()

    async def story() -> None:
        async with listening(plain, None) as port:
            line = await asyncio.to_thread(failure, house, f"https://localhost:{port}")
            assert "no TLS there" in line
            assert "is this the address of a PVE API" in line

    run(story())


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "pve1",
        "http://pve1:8006",
        "https://",
        "https://pve1:99999",
        "https://a@pve1",
        "https://pve1/x",
        "https://p 1",
    ],
)
def test_an_endpoint_that_is_none_is_refused(house: House, endpoint: str) -> None:
    async def story() -> None:
        async with connect(house.login(endpoint), RealClock()):
            pass

    with pytest.raises(BadInput, match="not an endpoint"):
        run(story())


def test_a_login_that_cannot_be_used_is_refused_without_showing_the_secret(house: House) -> None:
    good = house.login("https://pve1:8006")

    def refused(says: str, **changes: object) -> None:
        fields = {"endpoints": good.endpoints, "token": good.token, "secret": good.secret, "trust": good.trust}

        async def story() -> None:
            async with connect(type(good)(**{**fields, **changes}), RealClock()):  # type: ignore[arg-type]
                pass

        with pytest.raises(BadInput, match=says) as caught:
            run(story())
        assert "hidden" not in str(caught.value)

    refused("no endpoint", endpoints=())
    refused("65 endpoints", endpoints=[f"https://pve{n}:8006" for n in range(65)])
    refused("not a token id", token="root@pam")
    refused("not a token id", token="root@pam!a\r\nX: y")
    for secret in ("", "hidden value", "hidden\r\nX: y", "hidden\x00", "hiddené"):
        refused("the secret of", secret=Secret(secret))
    empty = house.folder / "empty.pem"
    empty.write_text("nothing")
    trust = type(good.trust)
    refused("no certificates in it", trust=trust(path=empty))  # type: ignore[call-arg]
    refused("cannot be read", trust=trust(path=house.folder / "absent.pem"))  # type: ignore[call-arg]
    refused("SHA-256", trust=Fingerprint(sha256=b"short"))
    assert SECRET not in repr(good)
