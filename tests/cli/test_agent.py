"""The daemon: it tells how it is, reads manifests anew, survives broken ones, is alone, and ends well."""

import json
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stage import Stage, guest
from tests.cli.test_crashes import until


class Agent:
    """`trueup agent`, with its log as it comes."""

    def __init__(self, stage: Stage, **environment: str) -> None:
        self.process = stage.start("agent", **environment)
        self.lines: list[dict] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(json.loads(line))

    def events(self, event: str) -> list[dict]:
        return [line for line in self.lines if line["event"] == event]

    def said(self, event: str, text: str = "") -> bool:
        return any(text in line.get("text", "") for line in self.events(event))

    def get(self, path: str) -> tuple[int, dict]:
        until(lambda: self.events("listening"))
        try:
            with urllib.request.urlopen(self.events("listening")[0]["url"] + path) as answer:  # noqa: S310 - our own
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(15)
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()
        return code


@pytest.fixture
def agent(stage: Stage) -> Iterator[Agent]:
    stage.manifest(guest("db-1", 102))
    started = Agent(stage)
    yield started
    if started.process.poll() is None:
        started.stop()


def test_a_life(stage: Stage, agent: Agent) -> None:
    until(lambda: agent.get("/readyz")[0] == 200)
    assert agent.get("/healthz") == (200, {"alive": True, "phase": "leading"})
    assert agent.get("/readyz")[1] == {"ready": True, "phase": "leading", "epoch": 1}
    until(lambda: agent.said("pass_ended", "1 unchanged"))

    # It reads manifests anew; broken ones change nothing, and it says so.
    stage.manifest("kind: [", "broken.yaml")
    until(lambda: agent.said("alarm", "not YAML"))
    assert agent.get("/readyz")[0] == 200
    (stage.folder / "manifests" / "broken.yaml").unlink()
    stage.sim.by_hand(vmid=102, status="stopped")
    until(lambda: len([line for line in agent.events("op_ended") if line["kind"] == "start"]) == 2)

    # An emptied folder is not a wish to be rid of everything, though the agent itself made the guest.
    (stage.folder / "manifests" / "guests.yaml").rename(stage.folder / "guests.yaml")
    until(lambda: agent.said("alarm", "is empty, but 1 guest is managed"))
    (stage.folder / "guests.yaml").rename(stage.folder / "manifests" / "guests.yaml")

    # It is alone, and others may look.
    for command in (("agent",), ("apply", "--yes"), ("recover",)):
        second = stage.run(*command)
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1
        assert f"another trueup (pid {agent.process.pid}) writes this journal" in second.stderr
    assert stage.json("status")["leader"]["alive"] is True
    assert stage.run("plan").returncode == 0
    assert stage.run("recover", "--dry-run").returncode == 0

    assert agent.stop() == 0
    assert agent.said("stopping")
    assert agent.lines[-1]["event"] == "stopped"
    assert stage.json("status")["leader"]["alive"] is False
    assert stage.json("journal", "verify")["ok"] is True


def test_to_observe_changes_nothing(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102))
    stage.settings(('mode = "enforce"', 'mode = "observe"'), (f'ca_file = "{stage.sim.ca_file}"', "insecure = true"))
    agent = Agent(stage)
    until(lambda: agent.said("pass_ended", "1 create"))
    assert agent.said("settings", "certificate is not checked")
    assert agent.stop() == 0
    assert stage.sim.mutations() == []


def test_systemd_hears_of_it(stage: Stage, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(address))
        listening.settimeout(10)
        agent = Agent(stage, NOTIFY_SOCKET=str(address), WATCHDOG_USEC="200000")
        heard: set[str] = set()
        while not {"READY=1", "WATCHDOG=1"} <= heard:
            heard.add(listening.recv(4096).decode())
        assert agent.stop() == 0
        while "STOPPING=1" not in heard:
            heard.add(listening.recv(4096).decode())


def test_an_address_that_is_taken_is_one_line(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stage.settings(("127.0.0.1:0", f"127.0.0.1:{port}"))
        done: subprocess.CompletedProcess[str] = stage.run("agent")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: 127.0.0.1:{port}: cannot listen: Address already in use")
    assert done.stderr.count("\n") == 1
