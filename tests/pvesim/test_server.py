"""The world over HTTPS, as a process."""

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import time
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

TLS_CLOSE_S = 0.2  # the client closes its TLS connections in the background


class Server:
    def __init__(self, *arguments):
        command = [sys.executable, "-m", "pvesim", "--json", "--time-scale", "0.02", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.info = json.loads(self.process.stdout.readline())
        self.header = {"Authorization": f"PVEAPIToken={self.info['token_id']}={self.info['token_secret']}"}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=10)
        return self.process.returncode, rest

    def run(self, story):
        async def told():
            context = ssl.create_default_context(cafile=self.info["ca_file"])
            connector = aiohttp.TCPConnector(ssl=context, force_close=True)
            async with aiohttp.ClientSession(connector=connector) as session:

                async def call(method, path, base="/api2/json", **rest):
                    begin = time.monotonic()
                    url = self.info["url"] + base + path
                    rest.setdefault("headers", self.header)
                    async with session.request(method, url, **rest) as answer:
                        text = await answer.text()
                        return answer, text, time.monotonic() - begin

                await story(call)
            await asyncio.sleep(TLS_CLOSE_S)

        asyncio.run(told())


@pytest.fixture(scope="module")
def server():
    running = Server()
    yield running
    code, rest = running.stop()
    assert code == 0
    assert rest == ""


def test_one_line_of_json(server):
    assert set(server.info) == {"url", "ca_file", "token_id", "token_secret"}
    assert server.info["url"].startswith("https://127.0.0.1:")


def test_from_nothing_to_a_running_guest(server):
    async def story(call):
        answer, text, _ = await call("GET", "/version")
        assert json.loads(text)["data"]["release"] == "9.2"
        assert answer.headers["Date"].endswith("GMT")
        form = {"newid": "101", "name": "web", "full": "1", "target": "pve2"}
        _, text, _ = await call("POST", "/nodes/pve1/qemu/9000/clone", data=form)
        upid = json.loads(text)["data"]
        for _ in range(100):
            _, text, _ = await call("GET", f"/nodes/pve1/tasks/{upid.replace(':', '%3A')}/status")
            if json.loads(text)["data"]["status"] == "stopped":
                break
            await asyncio.sleep(0.02)
        assert json.loads(text)["data"]["exitstatus"] == "OK"
        answer, _, _ = await call("PUT", "/nodes/pve2/qemu/101/config", json={"cores": 2, "onboot": True})
        assert answer.status == 200
        _, text, _ = await call("GET", "/nodes/pve2/qemu/101/config")
        assert (json.loads(text)["data"]["cores"], json.loads(text)["data"]["onboot"]) == (2, 1)
        _, text, _ = await call("POST", "/nodes/pve2/qemu/101/status/start")
        await asyncio.sleep(0.3)
        _, text, _ = await call("GET", "/nodes/pve2/qemu/101/status/current")
        assert json.loads(text)["data"]["status"] == "running"
        _, text, _ = await call("GET", "/_sim/mutations", base="")
        rows = json.loads(text)["mutations"]
        assert set(rows[0]) == {"seq", "time", "method", "path", "params", "user", "upid", "effect"}
        assert rows[0]["upid"] == upid
        assert abs(rows[0]["time"] - time.time()) < 60
        _, text, _ = await call("GET", "/_sim/state", base="")
        assert {guest["vmid"] for guest in json.loads(text)["guests"]} >= {101, 9000, 9001}

    server.run(story)


def test_refusals_of_the_web_server(server):
    async def chunks():
        yield b"vmid=500"

    async def story(call):
        answer, _, _ = await call("POST", "/nodes/pve1/qemu", data=chunks())
        assert (answer.status, answer.reason) == (501, "chunked transfer encoding not supported")
        for method in ("GET", "DELETE"):
            answer, _, _ = await call(method, "/nodes/pve1/qemu/9000", data={"purge": "1"})
            assert (answer.status, answer.reason) == (501, f"Unexpected content for method '{method}'")
        answer, _, _ = await call(
            "PUT",
            "/nodes/pve1/qemu/9000/config",
            data=b"cores=1",
            headers=server.header | {"Content-Type": "text/plain"},
        )
        assert answer.status == 506
        answer, _, _ = await call("DELETE", "/nodes/pve1/qemu/9000?purge=maybe")
        assert answer.status == 400

    server.run(story)


def test_reasons_and_bodies_of_errors(server):
    async def story(call):
        answer, text, _ = await call("GET", "/nodes/pve1/qemu/999/config")
        assert answer.reason == "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist"
        assert json.loads(text) == {"data": None, "message": answer.reason + "\n"}
        answer, text, seconds = await call("GET", "/version", headers={})
        assert (answer.status, answer.reason, text) == (401, "No ticket", "")
        assert seconds >= 3
        answer, text, _ = await call("GET", "/nosuch")
        assert answer.status == 501

    server.run(story)


def test_faults_and_guests_by_hand(server):
    async def story(call):
        await call(
            "POST", "/_sim/guests", base="", json={"vmid": 300, "type": "qemu", "node": "pve1", "config": {"name": "x"}}
        )
        await call(
            "POST", "/_sim/faults", base="", json={"fault": "reply_lost", "method": "POST", "path": "/300/config"}
        )
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await call("POST", "/nodes/pve1/qemu/300/config", data={"description": "written"})  # a PUT aiohttp resends
        await asyncio.sleep(0.2)
        _, text, _ = await call("GET", "/nodes/pve1/qemu/300/config")
        assert json.loads(text)["data"]["description"] == "written"
        answer, text, _ = await call("POST", "/_sim/faults", base="", json={"fault": "nonsense"})
        assert answer.status == 400
        answer, text, _ = await call("POST", "/_sim/control", base="", json={"action": "node_down", "node": "pve3"})
        assert json.loads(text) == {"ok": True, "results": [None]}
        answer, text, _ = await call("GET", "/nodes/pve3/qemu")
        assert answer.status == 595
        await call("POST", "/_sim/control", base="", json={"action": "node_up", "node": "pve3"})
        answer, text, _ = await call("GET", "/nodes/pve3/qemu")
        assert answer.status == 200
        await call("POST", "/_sim/guests", base="", json={"vmid": 300, "deleted": True})
        answer, _, _ = await call("GET", "/nodes/pve1/qemu/300/config")
        assert answer.status == 500

    server.run(story)


def test_each_node_has_an_address(server):
    async def story(call):
        port = server.info["url"].rpartition(":")[2]
        await call("POST", "/_sim/control", base="", json={"action": "clock", "node": "pve2", "offset_s": -7200})
        await call("POST", "/_sim/control", base="", json={"action": "node_down", "node": "pve1"})
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await call("GET", "/version")
        first = server.info["url"]
        server.info["url"] = f"https://127.0.0.2:{port}"
        answer, _, _ = await call("GET", "/version")
        server.info["url"] = first
        assert answer.status == 200
        assert parsedate_to_datetime(answer.headers["Date"]).timestamp() < time.time() - 7000
        await call("POST", "/_sim/control", base="", json={"action": "node_up", "node": "pve1"})
        await call("POST", "/_sim/control", base="", json={"action": "clock", "node": "pve2", "offset_s": 0})

    server.run(story)


def test_many_requests_at_once_and_keep_alive(server):
    async def story(_):
        context = ssl.create_default_context(cafile=server.info["ca_file"])
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=8)) as session:

            async def one():
                url = f"{server.info['url']}/api2/json/cluster/resources?type=vm"
                async with session.get(url, headers=server.header) as answer:
                    return answer.status

            assert set(await asyncio.gather(*(one() for _ in range(200)))) == {200}
        await asyncio.sleep(TLS_CLOSE_S)

    server.run(story)


def test_files_and_bad_files(tmp_path):
    guests = tmp_path / "guests.json"
    guest = {"type": "lxc", "vmid": 105, "node": "b2", "name": "ct", "status": "running", "config": {"memory": 64}}
    tokens = [{"id": "agent@pve!ag", "secret": "given"}]
    guests.write_text(json.dumps({"nodes": ["a1", "b2"], "guests": [guest], "tokens": tokens}))
    faults = tmp_path / "faults.jsonl"
    faults.write_text('{"fault": "error_595", "method": "GET", "path": "version"}\n')
    server = Server("--guests", str(guests), "--faults", str(faults), "--seed", "7")

    async def story(call):
        assert (await call("GET", "/version"))[0].status == 595
        _, text, _ = await call("GET", "/nodes/b2/lxc/105/status/current")
        assert json.loads(text)["data"]["status"] == "running"

    server.run(story)
    assert server.info["token_id"] == "agent@pve!ag"
    assert server.stop() == (0, "")
    guests.write_text("[]")
    bad = subprocess.run(
        [sys.executable, "-m", "pvesim", "--guests", str(guests)], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 2
    assert bad.stderr.startswith("pvesim: ")


def test_friendly_lines_and_interrupt():
    process = subprocess.Popen([sys.executable, "-m", "pvesim"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("pvesim listens on https://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_the_api_viewer_needs_no_login(server):
    async def story(call):
        answer, body, _ = await call("GET", "/pve-docs/api-viewer/apidoc.js", base="", headers={})
        assert answer.status == 200
        assert body.startswith("const apiSchema = [")

    server.run(story)
