"""Pausing keeps every change back, with an agent and without one; the way to a live agent is short and guarded."""

import asyncio
import os
import signal
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from tests.cli.stage import Stage, guest, several
from tests.cli.test_crashes import until
from tests.operator.living import Agent, living
from trueup.adapters import control_socket
from trueup.adapters.control_socket import Message
from trueup.model import limits
from trueup.model.errors import BadInput, JournalBusy


@pytest.fixture
def two(stage: Stage) -> Stage:
    stage.manifest(several(guest("web-1", 101), guest("db-1", 102)))
    return stage


def socket_of(stage: Stage) -> Path:
    return control_socket.socket_path(stage.journal())


def test_paused_guests_are_left_alone_until_they_are_resumed(two: Stage) -> None:
    assert two.json("pause", "102") == {"paused": ["db-1"]}
    assert two.json("status", code=2)["paused"] == ["db-1"]
    two.json("apply", "--yes", code=2)
    plan = two.json("plan", code=2)
    assert [(c["name"], c["blocked_by"]) for c in plan["changes"]] == [("db-1", "paused (`trueup resume db-1`)")]
    assert two.json("resume", "db-1") == {"paused": []}
    assert two.json("apply", "--yes")["converged"] is True
    assert "Paused: db-1, by " in two.run("journal", "tail").stdout
    assert two.json("journal", "verify")["ok"] is True


def test_everything_can_be_paused(two: Stage) -> None:
    two.json("pause", "web-1")
    assert two.json("pause")["paused"] == ["*", "web-1"]
    two.json("apply", "--yes", code=2)
    assert two.sim.mutations() == []
    still = two.run("resume", "web-1")
    assert "everything is still paused" in still.stderr
    assert two.json("resume") == {"paused": []}
    assert two.json("resume") == {"paused": []}
    assert two.json("apply", "--yes")["converged"] is True


def test_a_guest_that_nobody_declares_is_not_paused_in_silence(two: Stage) -> None:
    done = two.run("pause", "wbe-1")
    assert done.returncode == 1
    assert "no manifest declares a guest 'wbe-1' (give a name or a vmid; see `trueup status`)" in done.stderr
    two.json("pause", "db-1")
    two.manifest(guest("web-1", 101))
    assert two.json("resume", "db-1") == {"paused": []}  # its manifest is gone, and it is found all the same


def test_a_live_agent_is_paused_and_resumed(two: Stage) -> None:
    two.settings(('interval = "1s"', 'interval = "1h"'))
    with living(Agent(two)) as agent:
        until(lambda: len([line for line in agent.events("op_ended") if line["kind"] == "start"]) == 2, 40)
        assert stat.S_IMODE(socket_of(two).stat().st_mode) == 0o600
        assert two.json("pause") == {"paused": ["*"]}
        two.sim.by_hand(vmid=101, status="stopped")
        agent.hang_up()
        agent.until_said("pass_ended", "1 blocked")
        count = len(two.sim.mutations())
        assert two.json("resume") == {"paused": []}  # a pass begins at once, though the next one is an hour away
        until(lambda: len(two.sim.mutations()) > count, 40)
    assert not socket_of(two).exists()


def test_an_agent_that_hangs_is_told_as_such(two: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SOCKET_TIMEOUT_S", 0.5)
    with living(Agent(two)) as agent:
        agent.until_said("pass_ended")
        os.kill(agent.process.pid, signal.SIGSTOP)
        try:
            done = two.run("pause")
        finally:
            os.kill(agent.process.pid, signal.SIGCONT)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert (
            f"another trueup (pid {agent.process.pid}) writes this journal, and whoever holds the journal"
            in done.stderr
        )
        assert "did not answer within" in done.stderr


def test_only_whole_small_messages_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SOCKET_MESSAGE_MAX_BYTES", 200)
    monkeypatch.setattr(limits, "SOCKET_TIMEOUT_S", 1.0)
    journal = tmp_path / ("a" * 90) / "journal.db"  # longer than a socket's address may be
    journal.parent.mkdir()

    async def handler(message: Message) -> msgspec.Raw:
        if message.command == "fail":
            raise BadInput(what="no", where="here", remedy="try")
        return msgspec.Raw(b'{"ok":true}')

    async def talk() -> None:
        path = control_socket.socket_path(journal)
        path.write_text("left behind by a dead one")
        async with control_socket.listening(journal, handler):
            assert bytes(await control_socket.ask(journal, Message(command="fine"))) == b'{"ok":true}'
            with pytest.raises(BadInput, match=r"here: no \(try\)"):
                await control_socket.ask(journal, Message(command="fail"))
            with pytest.raises(BadInput, match="too large"):
                await control_socket.ask(journal, Message(command="x" * 300))
            for junk in (b"x" * 300 + b"\n", b"[]\n", b"no end"):
                assert b"a message must be" in await raw(path, junk) or b"not understood" in await raw(path, junk)
        with pytest.raises(JournalBusy, match="did not answer"):
            await control_socket.ask(journal, Message(command="fine"))

    async def raw(path: Path, data: bytes) -> bytes:
        here = os.open(path.parent, os.O_RDONLY)
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(data)
        answer = await reader.read()
        writer.close()
        return answer

    asyncio.run(talk())
