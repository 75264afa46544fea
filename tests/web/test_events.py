"""Server-sent events: what a reader is told, that slow ones lose events and hear of it, and that many cost little."""

import asyncio
import json
import re
import resource
import socket
import time

import pytest

from tests.cli.stage import Stage, guest
from tests.cli.test_crashes import until
from tests.operator.living import Agent, living
from tests.web.client import Client
from trueup.edges.web.news import News, encoded
from trueup.model import limits

READERS = 200


def events(data: bytes) -> list[tuple[str, dict]]:
    found = re.findall(rb"event: (\w+)\ndata: (.*)\n\n", data)
    return [(name.decode(), json.loads(text)) for name, text in found]


def read_until(stream: socket.socket, wanted: bytes, within_s: float = 60) -> bytes:
    stream.settimeout(within_s)
    got = b""
    while wanted not in got:
        chunk = stream.recv(65536)
        assert chunk, got
        got += chunk
    return got


def test_a_listener_hears_all_that_happens(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102))
    with living(Agent(stage)) as agent:
        client = Client.of(agent)
        until(lambda: agent.said("pass_ended", "1 unchanged"), 60)
        with client.stream() as stream:
            first = read_until(stream, b"event: hello")
            assert b"text/event-stream" in first
            (name, hello), *_ = events(first)
            assert (name, hello["phase"], hello["epoch"]) == ("hello", "leading", 1)
            stage.sim.by_hand(vmid=102, status="stopped")
            heard = events(read_until(stream, b'"what":"op_ended"'))
        told = [data for name, data in heard if name == "note"]
        assert {note["what"] for note in told} >= {"op_started", "op_ended"}
        ended = next(note for note in told if note["what"] == "op_ended")
        assert (ended["op"]["kind"], ended["op"]["vmid"], ended["op"]["state"]) == ("start", 102, "succeeded")
        heads = [data["seq"] for name, data in heard if name == "head"]
        assert heads == sorted(set(heads))
        assert heads[0] > hello["head"]["seq"]
        assert client.token.encode() not in json.dumps(heard).encode()


def test_idle_readers_cost_the_agent_nothing(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102))
    with living(Agent(stage)) as agent:
        client = Client.of(agent)
        until(lambda: agent.said("pass_ended", "1 unchanged"), 60)
        streams = [client.stream() for _ in range(READERS)]  # none of them ever reads
        try:
            until(lambda: f'trueup_http_listeners{{cluster="lab"}} {READERS}.0' in client.get("/metrics").text, 60)
            began = time.monotonic()
            for _ in range(20):
                assert client.get("/healthz").status == 200
            assert time.monotonic() - began < 10
            stage.sim.by_hand(vmid=102, status="stopped")
            until(lambda: len([line for line in agent.events("op_ended") if line["kind"] == "start"]) == 2, 60)
            last = read_until(streams[-1], b'"what":"op_ended"')
            assert last.startswith(b"HTTP/1.1 200")
        finally:
            for stream in streams:
                stream.close()
        until(lambda: 'trueup_http_listeners{cluster="lab"} 0.0' in client.get("/metrics").text, 60)


def test_a_slow_reader_loses_events_and_is_told_how_many() -> None:
    async def story() -> tuple[list[tuple[str, dict]], list[tuple[str, dict]], int]:
        news = News(wake_s=0.01)
        slow, quick = news.read(encoded("hello", {})), news.read(encoded("hello", {}))
        await anext(slow)
        await anext(quick)
        heard = b""
        for number in range(limits.EVENTS_KEPT + 500):
            news.publish("note", {"number": number})
            if number % 100 == 0:
                heard += await anext(quick)
        heard += await anext(quick)
        late = b"".join([await anext(slow), await anext(slow)])
        await slow.aclose()
        await quick.aclose()
        assert news.readers == 0
        return events(heard), events(late), news.lost

    quick, slow, lost = asyncio.run(story())
    assert [data["number"] for _, data in quick] == list(range(limits.EVENTS_KEPT + 500))
    assert slow[0] == ("lost", {"events": 500})
    assert [data["number"] for _, data in slow[1:]] == list(range(500, limits.EVENTS_KEPT + 500))
    assert lost == 500


def test_silence_has_a_heartbeat_and_the_end_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEARTBEAT_S", 0.05)

    async def story() -> list[bytes]:
        news = News()
        reading = news.read(b"")
        got = [await anext(reading), await anext(reading)]
        news.end()
        return [*got, *[chunk async for chunk in reading]]

    assert asyncio.run(story())[:2] == [b"", b": heartbeat\n\n"]


def test_readers_are_woken_seldom_if_they_are_many() -> None:
    async def story() -> float:
        news = News(wake_s=0.01)
        readings = [news.read(b"") for _ in range(300)]
        for reading in readings:
            await anext(reading)
        began = asyncio.get_running_loop().time()
        waiting = [asyncio.ensure_future(anext(reading)) for reading in readings]
        await asyncio.sleep(0)
        news.publish("note", {})
        await asyncio.gather(*waiting)
        took = asyncio.get_running_loop().time() - began
        for reading in readings:
            await reading.aclose()
        return took

    assert asyncio.run(story()) >= 0.29


def test_listeners_and_others_have_room_beside_each_other() -> None:
    assert limits.EVENT_STREAMS_MAX < limits.HTTP_CONNECTIONS_MAX
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft > READERS * 2
