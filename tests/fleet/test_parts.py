"""What a fleet is made of, each part alone: signals for many, one reading of the settings, who is begun anew when."""

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from trueup.app import parts
from trueup.edges import daemon, fleet
from trueup.edges.alarms import Alarms
from trueup.edges.ears import Ears
from trueup.edges.log import Log, open_log
from trueup.edges.stopping import Stopping
from trueup.edges.web.doors import TRUSTED, Doors
from trueup.edges.web.hall import Hall
from trueup.model.errors import BadInput, JournalFailed
from trueup.model.settings import LogFormat, LogSettings, Secret, Settings

TABLE = '[[cluster]]\nname = "{0}"\nendpoints = ["https://{0}.example"]\ntoken_id = "ag@pve!tok"\nca_file = "ca.pem"\n'


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "trueup.toml"
    made.write_text(TABLE.format("lab") + TABLE.format("shop"))
    return made


def to_stderr() -> Log:
    """Made in the test, since `capsys` puts its own file there then."""
    return open_log(LogSettings(format=LogFormat.JSON), parts().clock())


def test_each_agent_hears_each_signal() -> None:
    heard: list[str] = []

    async def agent(name: str, ears: Ears, began: asyncio.Event) -> str:
        stopping = Stopping(lambda _: heard.append(f"{name} at once"))
        gone = asyncio.Event()
        try:
            with ears.stopping(stopping), ears.reloading(lambda: heard.append(f"{name} reloads")):
                if name == "lab":
                    stopping.gently(gone.set)
                began.set()
                await gone.wait()
        except asyncio.CancelledError:
            return "cancelled"
        return "well"

    async def story() -> list[str]:
        sound = True
        ears = Ears(lambda: sound)
        with ears.open():
            events = [asyncio.Event(), asyncio.Event()]
            tasks = [asyncio.create_task(agent(*of)) for of in (("lab", ears, events[0]), ("shop", ears, events[1]))]
            for event in events:
                await event.wait()
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0)
            while len(heard) < 2:
                await asyncio.sleep(0.01)
            sound = False  # settings that are wrong are no news to anybody
            ears.reload()
            assert not ears.asked
            assert not await ears.stop_within(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            ends = await asyncio.gather(*tasks)
            assert await ears.stop_within(60)
            # Who begins to listen afterwards hears of it too.
            late = await asyncio.create_task(agent("late", ears, asyncio.Event()))
            return [*ends, late]

    assert asyncio.run(story()) == ["well", "cancelled", "cancelled"]
    assert heard == ["lab reloads", "shop reloads", "shop at once", "late at once"]


def test_the_settings_are_read_once_for_all(file, capsys) -> None:
    made, times = parts(), 0

    def clusters(at: Any) -> Sequence[Settings]:
        nonlocal times
        times += 1
        return made.clusters(at)

    several = made.clusters(file)
    reading = fleet.Reading(replace(made, clusters=clusters), several, to_stderr())
    mine = [reading.parts_of(settings) for settings in several]
    file.write_text(file.read_text() + TABLE.format("new") + '[reconcile]\nmode = "observe"\n')
    assert {one.settings(file).reconcile.mode for one in mine} == {"enforce"}  # until somebody says so
    assert reading.renew()
    assert {one.settings(file).reconcile.mode for one in mine} == {"observe"}
    assert [one.settings(file).cluster.name for one in mine] == ["lab", "shop"]
    assert times == 1
    file.write_text("[cluster")
    assert not reading.renew()
    assert [one.settings(file).cluster.name for one in mine] == ["lab", "shop"]
    file.write_text(TABLE.format("lab"))
    assert reading.renew()
    with pytest.raises(BadInput, match="there is no cluster 'shop'"):
        mine[1].settings(file)
    said = capsys.readouterr().err
    assert "cluster new is new: restart the agent to serve it" in said
    assert said.count("not taken over") == 1


@pytest.fixture
def hall() -> Hall:
    doors = Doors(Secret("x" * 40), parts().clock(), tls=False)
    return Hall(["lab", "shop"], doors, parts().clock(), lambda _: None)


def test_an_agent_that_ends_is_begun_anew_later_each_time(file, hall, capsys, monkeypatch) -> None:
    waits: list[float] = []
    ends = iter([JournalFailed(what="no"), JournalFailed(what="no"), KeyError("k"), "ready", JournalFailed(what="no")])
    told: list[str] = []

    class Patient(Ears):
        async def stop_within(self, seconds: float) -> bool:
            waits.append(seconds)
            assert hall.places["lab"].phase == "down"
            assert hall.places["shop"].phase == "starting"
            return False

    async def one_life(_parts: object, _settings: object, _log: object, _alarms: object, host: fleet.Member) -> int:
        end = next(ends, None)
        if end == "ready":
            host.systemd.ready()
            raise JournalFailed(what="no")
        if isinstance(end, Exception):
            raise end
        return 0

    monkeypatch.setattr(daemon, "lead_in_turn", one_life)
    monkeypatch.setattr(Alarms, "ends", lambda _self, why: told.append(why))
    settings = parts().clusters(file)[0]
    member = fleet.Member(parts().of_cluster("lab"), settings, to_stderr(), hall, Patient(lambda: True))
    asyncio.run(member.keep(fleet.Manager(hall)))
    assert [round(wait / 5) for wait in waits[:3]] == [1, 2, 4]
    assert waits[3] < 7  # it had worked
    assert waits[4] > waits[3]
    assert max(waits) <= fleet.AGAIN_MOST_S * 1.25
    assert told == ["no", "something of ours went wrong (KeyError); the log has all of it", "no"]
    said = capsys.readouterr().err
    assert said.count('"event": "cluster_down"') == 5
    assert said.count('"event": "bug"') == 1
    assert "Traceback" in said


def test_the_manager_is_ready_with_the_first_and_counts_all(hall, monkeypatch) -> None:
    manager, lines = fleet.Manager(hall), []
    monkeypatch.setattr(manager.systemd, "_tell", lines.append)
    hall.places["lab"].problem = "its journal is damaged"
    manager.count()
    manager.ready()
    manager.ready()
    assert lines == [
        "STATUS=0 of 2 clusters ready; down: lab", "READY=1", *["STATUS=0 of 2 clusters ready; down: lab"] * 2
    ]  # fmt: skip


def test_a_place_without_an_agent_says_so(hall: Hall) -> None:
    hall.places["lab"].problem = "its journal <is> damaged"

    async def ask(path: str, **headers: str) -> tuple[int, str]:
        sent: list[dict[str, Any]] = []
        scope = {
            "type": "http", "method": "GET", "path": path, "query_string": b"", "scheme": "http", TRUSTED: True,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await hall(scope, receive, send)
        return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:]).decode()

    def asked(path: str, **headers: str) -> tuple[int, str]:
        return asyncio.run(ask(path, **headers))

    status, page = asked("/", accept="text/html")
    assert status == 200
    assert "0 of 2 clusters ready." in page
    assert "its journal &lt;is&gt; damaged" in page
    assert page.index('id="cluster-lab"') < page.index('id="cluster-shop"')
    assert asked("/c/lab/v1/status")[0] == asked("/c/shop/v1/status")[0] == 503
    assert "its journal <is> damaged" in asked("/c/lab/v1/status")[1]
    assert "its agent begins" in asked("/c/shop/v1/status")[1]
    status, page = asked("/c/lab/ops", accept="text/html")
    assert (status, "Service Unavailable" in page, 'href="/"' in page) == (503, True, True)
    assert asked("/c/nobody/")[0] == asked("/c/nobody/metrics")[0] == asked("/nothing")[0] == 404
    assert asked("/c/lab")[0] == 307
    assert asked("/c/lab/readyz") == (503, '{"ready":false,"phase":"starting","epoch":null}')
    assert asked("/readyz") == (503, '{"ready":false,"clusters":{"down":1,"starting":1}}')
    assert 'trueup_cluster_up{cluster="lab"} 0.0' in asked("/metrics")[1]
    assert cast("Any", asked("/openapi.json"))[0] == 200
    assert '"down"' in asked("/openapi.json")[1]
