"""The client against the simulator, a process of its own, over HTTPS: the two were written from PVE's own texts."""

import asyncio
import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pve.servers import RealClock, run
from trueup.adapters import pve_schema
from trueup.adapters.pve import PveClient
from trueup.adapters.pve_http import Login, connect, connect_keeper
from trueup.core.option_schema import fault_of
from trueup.model.errors import Absent, NotSent, ReadFailed, Refused, Unknown
from trueup.model.guests import Power
from trueup.model.ids import GuestType, NodeName, TokenId, Upid, Vmid
from trueup.model.pve import Call, Done, TaskStarted
from trueup.model.settings import CaFile, Secret

PVE1, PVE2 = NodeName("pve1"), NodeName("pve2")
SIMULATOR = ("-m", "pvesim", "--json", "--port", "0", "--time-scale", "0.02", "--seed", "7")


@dataclass
class Simulator:
    url: str
    login: Login

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        trust = self.login.trust
        assert isinstance(trust, CaFile)
        host, port = self.url.removeprefix("https://").split(":")
        asked = http.client.HTTPSConnection(
            host, int(port), context=ssl.create_default_context(cafile=trust.path), timeout=10
        )
        asked.request("POST" if body else "GET", path, json.dumps(body) if body else None)
        answer = asked.getresponse().read()
        asked.close()
        return json.loads(answer or b"{}")

    def mutations(self) -> list[tuple[str, str, bool]]:
        return [(row["method"], row["path"], row["effect"]) for row in self.ask("/_sim/mutations")["mutations"]]

    def story(self, tell: Callable[[PveClient], Coroutine[Any, Any, None]]) -> None:
        async def all_of_it() -> None:
            async with connect(self.login, RealClock()) as pve:
                await tell(pve)

        run(all_of_it())


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with subprocess.Popen([sys.executable, *SIMULATOR], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = json.loads(process.stdout.readline())
            login = Login(
                endpoints=(found["url"],),
                trust=CaFile(path=Path(found["ca_file"])),
                token=TokenId(found["token_id"]),
                secret=Secret(found["token_secret"]),
            )
            yield Simulator(found["url"], login)
        finally:
            process.terminate()


def test_the_data_of_the_api_viewer_is_a_schema_of_options(simulator: Simulator, tmp_path: Path) -> None:
    async def story(pve: PveClient) -> None:
        looked = await pve_schema.look_up(pve, tmp_path)
        assert looked.note == ""
        assert looked.schema is not None
        for key, value in (("cores", "2"), ("net0", "virtio,bridge=vmbr0"), ("scsi0", "a:8,iothread=1")):
            assert fault_of(looked.schema, GuestType.QEMU, key, value) is None
        fault = fault_of(looked.schema, GuestType.LXC, "coers", "2")
        assert fault is not None
        assert fault.remedy.startswith("did you mean 'cores'? PVE: ")

    simulator.story(story)


def create(vmid: int, node: str = "pve1") -> Call:
    params = {"vmid": str(vmid), "name": f"vm{vmid}", "memory": "512", "description": "a %41 + ü\n<!-- x -->"}
    return Call(method="POST", path=f"/nodes/{node}/qemu", params=params)


async def ended(pve: PveClient, upid: Upid) -> str:
    while True:
        state = await pve.task(upid)
        assert state is not None
        if not state.running:
            return state.exit_status
        await asyncio.sleep(0.02)


async def done(pve: PveClient, call: Call) -> None:
    reply = await pve.send(call)
    if isinstance(reply, TaskStarted):
        assert await ended(pve, reply.upid) == "OK"


def test_reads(simulator: Simulator) -> None:
    async def story(pve: PveClient) -> None:
        assert await pve.version() == "9.2.11"
        cluster = await pve.cluster()
        assert cluster.quorate
        assert {node.name: node.online for node in cluster.nodes} == {"pve1": True, "pve2": True, "pve3": True}
        assert all(node.uptime_s > 0 for node in cluster.nodes)
        assert abs(cluster.date_s - RealClock().now_ms() // 1000) < 5
        rows = {row.vmid: row for row in await pve.resources()}
        assert rows[Vmid(9000)].type is GuestType.QEMU
        assert rows[Vmid(9000)].template
        assert rows[Vmid(9001)].type is GuestType.LXC
        assert await pve.sees_all_guests()
        assert (await pve.statuses(PVE1))[Vmid(9001)] is Power.STOPPED
        assert await pve.statuses(PVE2) == {}
        config = await pve.config(PVE1, GuestType.QEMU, Vmid(9000))
        assert config.config["cores"] == "1"
        assert len(config.digest) == 40
        assert config.pending == ()
        assert not await pve.running(PVE1, GuestType.LXC, Vmid(9001))
        with pytest.raises(Absent):
            await pve.config(PVE2, GuestType.QEMU, Vmid(9000))
        with pytest.raises(Absent):
            await pve.running(PVE1, GuestType.LXC, Vmid(555))
        with pytest.raises(ReadFailed) as caught:
            await pve.config(NodeName("nowhere"), GuestType.QEMU, Vmid(9000))
        assert not isinstance(caught.value, Absent)
        listed = await pve.tasks(PVE1)
        assert listed.sees_all
        assert listed.rows == ()
        gone = Upid.parse("UPID:pve1:00001E85:0008EA42:6B046C7F:qmstart:720:root@pam!trueup:")
        assert await pve.task(gone) is None

    simulator.story(story)


def test_a_guest_from_its_making_to_its_end(simulator: Simulator) -> None:
    guest = "/nodes/pve1/qemu/105"

    async def story(pve: PveClient) -> None:
        reply = await pve.send(create(105))
        assert isinstance(reply, TaskStarted)
        assert (reply.upid.type, reply.upid.id, reply.upid.user) == ("qmcreate", "105", pve.token)
        assert await ended(pve, reply.upid) == "OK"
        config = await pve.config(PVE1, GuestType.QEMU, Vmid(105))
        assert config.config["description"] == "a %41 + ü\n<!-- x -->"
        await done(pve, Call(method="POST", path=f"{guest}/status/start"))
        assert await pve.running(PVE1, GuestType.QEMU, Vmid(105))
        write = Call(method="PUT", path=f"{guest}/config", params={"cores": "2", "digest": config.digest})
        assert await pve.send(write) == Done()
        assert (await pve.config(PVE1, GuestType.QEMU, Vmid(105))).pending == ("cores",)
        with pytest.raises(Refused, match="checksum mismatch"):
            await pve.send(write)
        with pytest.raises(Refused, match="already exists"):
            await pve.send(create(105))
        with pytest.raises(Refused, match="is running"):
            await pve.send(Call(method="DELETE", path=guest))
        await done(pve, Call(method="POST", path=f"{guest}/status/stop"))
        await done(pve, Call(method="PUT", path=f"{guest}/config", params={"protection": "1"}))
        with pytest.raises(Refused, match="protection mode enabled"):
            await pve.send(Call(method="DELETE", path=guest))
        await done(pve, Call(method="PUT", path=f"{guest}/config", params={"delete": "protection"}))
        await done(pve, Call(method="DELETE", path=guest, params={"purge": "1"}))
        with pytest.raises(Absent):
            await pve.config(PVE1, GuestType.QEMU, Vmid(105))
        with pytest.raises(Refused, match="does not exist"):
            await pve.send(Call(method="DELETE", path=guest))
        with pytest.raises(Unknown):
            await pve.send(Call(method="PUT", path="/nodes/pve1/qemu/9000/config", params={"nosuch": "1"}))
        with pytest.raises(NotSent, match="nosuch: property is not defined"):
            await pve.send(Call(method="POST", path="/nodes/pve1/qemu", params={"vmid": "106", "nosuch": "1"}))
        with pytest.raises(NotSent):
            await pve.send(Call(method="POST", path="/nodes/pve1/nosuch"))
        listed = await pve.tasks(PVE1)
        assert [row.upid.type for row in listed.rows].count("qmcreate") == 1
        assert {row.status for row in listed.rows} == {"OK"}

    simulator.story(story)
    effects = [(method, path) for method, path, effect in simulator.mutations() if effect]
    assert effects.count(("POST", "/nodes/pve1/qemu")) == 1
    assert effects.count(("DELETE", guest)) == 1


@pytest.mark.parametrize(
    ("fault", "error", "happened"),
    [
        ("request_lost", Unknown, False),
        ("reply_lost", Unknown, True),
        ("error_500_worker_runs", Unknown, True),
        ("error_596_work_continues", Unknown, True),
        ("error_595", NotSent, False),
        ("unauthorized", NotSent, False),
    ],
)
def test_what_goes_wrong_on_the_way_is_told_by_its_effect(
    simulator: Simulator, fault: str, error: type[Exception], happened: bool
) -> None:
    calls = {"POST": create(105), "PUT": create(105), "DELETE": create(105)}
    calls["PUT"] = Call(method="PUT", path="/nodes/pve1/qemu/9000/config", params={"tags": "a"})
    calls["DELETE"] = Call(method="DELETE", path="/nodes/pve1/qemu/9000")
    methods = ["POST", "DELETE"] if fault == "error_500_worker_runs" else list(calls)
    for method in methods:
        simulator.ask("/_sim/faults", {"fault": fault, "method": method, "times": 5})

    async def story(pve: PveClient) -> None:
        answers = await asyncio.gather(*(pve.send(calls[method]) for method in methods), return_exceptions=True)
        assert [type(answer) for answer in answers] == [error] * len(methods)
        await asyncio.sleep(0.5)

    simulator.story(story)
    faults = {row["method"]: row["done"] for row in simulator.ask("/_sim/state")["faults"]}
    assert faults == dict.fromkeys(methods, 1)  # the simulator heard each of them once
    effects = [method for method, _, effect in simulator.mutations() if effect]
    assert sorted(effects) == (sorted(methods) if happened else [])


def test_tokens_are_made_listed_and_deleted_and_a_deleted_one_is_told_so(simulator: Simulator) -> None:
    user, _, _ = simulator.login.token.partition("!")
    mine = TokenId(f"{user}!epoch1")

    async def story(_pve: PveClient) -> None:
        async with connect_keeper(simulator.login, RealClock(), user=user) as keeper:
            before = await keeper.listed(PVE1)
            assert simulator.login.token in before
            secret = await keeper.create(mine)
            assert set(await keeper.listed(PVE2)) == {*before, mine}
            with pytest.raises(NotSent, match="already exists"):
                await keeper.create(mine)
            login = Login(
                endpoints=simulator.login.endpoints, trust=simulator.login.trust, token=mine, secret=Secret(secret)
            )
            async with connect(login, RealClock()) as pve:
                assert await pve.sees_all_guests()
                await done(pve, create(105))
                assert {row.upid.user for row in (await pve.tasks(PVE1)).rows} == {mine}
                await keeper.delete(mine)
                await keeper.delete(mine)
                assert await keeper.listed(PVE1) == before
                sent, read = await asyncio.gather(pve.send(create(106)), pve.version(), return_exceptions=True)
                assert isinstance(sent, NotSent)
                assert isinstance(read, ReadFailed)
                assert "401" in str(sent)
                assert "check the API token" in str(read)

    simulator.story(story)
