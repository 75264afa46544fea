"""What commands say is done, beside one simulator for all scenes here; each has a folder and a user of its own."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trustme

from tests.cli.stage import Simulator, Stage, guest, several
from tests.cli.test_crashes import until
from tests.operator.following import fits, followed, quoted
from tests.operator.living import Agent
from tests.operator.nodes_shell import on_a_node
from tests.operator.test_agent_by_hand import run
from tests.operator.test_doctor import ADMIN, SECRET, SETUP, findings
from tests.operator.test_host_remedies import CONTAINER
from trueup import app
from trueup.adapters.control_socket import Message, socket_path
from trueup.adapters.sqlite import file, open_journal
from trueup.edges import acts, doctor, incarnation
from trueup.edges.cli.output import warn
from trueup.edges.cli.words import TO_DO_IN_FLIGHT
from trueup.edges.demo.stage import open_stage
from trueup.edges.parts import Parts
from trueup.edges.reporters import Lines
from trueup.model import limits
from trueup.model.settings import Settings

pytestmark = pytest.mark.xdist_group("commands_by_hand")

KEEPER = "check the keeper's token and its User.Modify right: `trueup doctor` names what is missing"
GIVES = "`trueup doctor --setup --keeper` gives the keeper what is missing"
NODES = "name all nodes: whether a token is dead is asked of each node at its own address"
PRIVILEGE = "give the API token's user the privilege that PVE names"
KEEP = "delete the token in PVE and run it again once the file can be written"
FILE = "set token_secret_file"
HAND_OVER = {
    "VirtualMachine": "hand it over: `qm disk move {} DISK --target-vmid {}`, then write its new name",
    "Container": "hand it over: `pct move-volume {} VOLUME --target-vmid {}`, then write its new name",
}
ADDRESS = "is the address right, and pveproxy up there?"
NOT_PVE = "is this the address of a PVE API (https, port 8006)?"
AUTHORITY = "ca_file must be the authority of this cluster (/etc/pve/pve-root-ca.pem on a node)"
UPGRADE = "upgrade PVE, or try it with care"
OLDER = "start `trueup agent` once: it brings the journal up to date"
SENT = "wait for its end, or look with `trueup ops show {}`; `trueup pause` keeps new ones back"
HANGS = "it hangs, asks a person, or is just ending: `trueup status` names it; end it, then try again"
UNHEARD = "look with `trueup status`, then ask again"
VERSION = "use the same version as the agent"
AFTERWARDS = "try again afterwards"
SIM = "try `trueup sim`"
FOLLOWED = {
    ADDRESS,
    NOT_PVE,
    AUTHORITY,
    UPGRADE,
    KEEPER,
    GIVES,
    NODES,
    PRIVILEGE,
    KEEP,
    FILE,
    *HAND_OVER.values(),
    OLDER,
    SENT,
    HANGS,
    UNHEARD,
    VERSION,
    AFTERWARDS,
    SIM,
    TO_DO_IN_FLIGHT,
}


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    simulator = Simulator()
    try:
        simulator.ask("/_sim/guests", {"tokens": [{"id": ADMIN, "secret": SECRET}]})
        yield simulator
    finally:
        simulator.stop()


@pytest.fixture
def stage(tmp_path: Path, sim: Simulator) -> Stage:
    return Stage(folder=tmp_path, sim=sim)


def on_our_own(stage: Stage, user: str, *, keeper: bool = False) -> Stage:
    """Settings for a user that is still to be made, with an administrator's token at hand."""
    (stage.folder / "admin.secret").write_text(SECRET)
    (stage.folder / "token.secret").unlink()
    kept = f'keeper = {{token_id = "{user}-keeper@pve!keeper", token_secret_file = "keeper.secret", '
    kept += f'user = "{user}@pve", prefix = "agent-"}}\n'
    stage.settings((f'token_id = "{stage.sim.token_id}"', f'{kept * keeper}token_id = "{user}@pve!looking"'))
    return stage


# --- rights and secrets -----------------------------------------------------------------------------------------------


def test_a_keeper_that_may_not(stage: Stage) -> None:
    on_our_own(stage, "kept", keeper=True)
    run(stage, *SETUP, "--keeper")
    stage.sim.ask("/_sim/guests", {"roles": {"TrueupKeeper": []}})

    def follow(remedy: str) -> None:
        assert quoted(remedy) == ["trueup doctor"]
        ((_, what, gives),) = [row for row in findings(stage, 1)["keeper"] if row[0] == "problem"]
        assert "User.Modify" in what
        assert gives == GIVES
        run(stage, *quoted(gives)[0].split()[1:], *SETUP[2:])

    followed(KEEPER, lambda: run(stage, "apply", "--yes"), follow)


def test_a_keeper_and_nodes_that_are_not_named(stage: Stage) -> None:
    on_our_own(stage, "named", keeper=True)
    run(stage, *SETUP, "--keeper")

    def told() -> list[str]:
        return [remedy for _, _, remedy in findings(stage, 0)["keeper"] if remedy]

    assert told() == [NODES]
    others = ", ".join(f'"{stage.sim.url.replace("127.0.0.1", f"127.0.0.{n}")}"' for n in (2, 3))
    stage.settings((f'"{stage.sim.url}"', f'"{stage.sim.url}", {others}'))
    assert told() == []


def test_a_privilege_that_is_missing(stage: Stage) -> None:
    on_our_own(stage, "weak")
    run(stage, *SETUP)
    on_a_node(stage.sim, "pveum role add Weak --privs VM.Audit")
    on_a_node(stage.sim, "pveum acl modify / --users weak@pve --roles Weak --propagate 0")  # in the place of its sight

    def follow(_: str) -> None:
        said = stage.run("plan").stderr
        path, missing = re.findall(r"\((/\S*), ([\w.]+)\)", said)[0]
        assert path == "/"
        on_a_node(stage.sim, f"pveum role modify Weak --privs {missing}")

    stage.sim.ask("/_sim/guests", {"roles": {"TrueupSight": []}})
    followed(PRIVILEGE, lambda: run(stage, "plan"), follow)
    stage.sim.ask("/_sim/guests", {"roles": {"TrueupSight": ["Sys.Audit"]}})


def test_a_secret_that_could_not_be_kept(stage: Stage) -> None:
    on_our_own(stage, "lost")
    stage.settings(('token_secret_file = "token.secret"', 'token_secret_file = "secrets/token.secret"'))
    (stage.folder / "secrets").write_text("a file where a folder should be")

    def follow(_: str) -> None:
        on_a_node(stage.sim, "pveum user token remove lost@pve looking")
        (stage.folder / "secrets").unlink()

    followed(KEEP, lambda: run(stage, *SETUP), follow)
    assert stage.json("plan", code=0)


def test_no_file_for_a_secret(stage: Stage) -> None:
    on_our_own(stage, "unfiled")
    stage.settings(('token_secret_file = "token.secret"', ""))
    followed(
        FILE,
        lambda: run(stage, *SETUP),
        lambda text: stage.settings(("[cluster]\n", f'[cluster]\n{text.removeprefix("set ")} = "token.secret"\n')),
    )


# --- addresses and certificates ---------------------------------------------------------------------------------------


def test_an_address_where_nobody_is(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nowhere = f"https://127.0.0.1:{free.getsockname()[1]}"
    stage.settings((stage.sim.url, nowhere))
    followed(ADDRESS, lambda: run(stage, "plan"), lambda _: stage.settings((nowhere, stage.sim.url)))


def plan_says(stage: Stage, remedy: str) -> None:
    said = stage.run("plan")
    assert said.returncode == 1
    assert f"({remedy})" in " ".join(said.stderr.split())


class Silent(BaseHTTPRequestHandler):
    """A web server that speaks no TLS."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_an_address_of_something_else(stage: Stage) -> None:
    with HTTPServer(("127.0.0.1", 0), Silent) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        elsewhere = f"https://127.0.0.1:{other.server_port}"
        stage.settings((stage.sim.url, elsewhere))
        plan_says(stage, NOT_PVE)
        other.shutdown()
        thread.join()
    stage.settings((elsewhere, stage.sim.url))
    run(stage, "plan")


def test_another_authority(stage: Stage) -> None:
    trustme.CA().cert_pem.write_to_path(stage.folder / "other.pem")
    stage.settings((stage.sim.ca_file, "other.pem"))
    plan_says(stage, AUTHORITY)
    stage.settings(("other.pem", stage.sim.ca_file))
    run(stage, "plan")


def test_an_old_version_of_pve() -> None:
    """No other PVE is at hand: an upgraded node tells another version."""

    def told(version: str) -> list[str]:
        return [one.remedy for one in doctor._version("pve1", version)]

    assert told("8.2.4") == [UPGRADE]
    assert told("9.2.1") == []


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "mine", "theirs"), [("VirtualMachine", 120, 121), ("Container", 122, 123)])
def test_a_disk_of_another_guest(stage: Stage, kind: str, mine: int, theirs: int) -> None:
    vm = kind == "VirtualMachine"
    base = () if vm else CONTAINER[:1]
    config = "" if vm else "rootfs: {storage: local-lvm, size: 1G}, "
    stage.manifest(guest(f"m-{mine}", mine, "power: stopped", *base, f"config: {{{config}}}", kind=kind))
    run(stage, "apply", "--yes")
    key, more = ("scsi1", "") if vm else ("mp1", ",mp=/srv")
    kept = {key: f"local-lvm:vm-{theirs}-disk-1,size=1G{more}"}
    rest = {} if vm else {"rootfs": f"local-lvm:vm-{theirs}-disk-0,size=1G", "memory": 512}
    kinds = {True: "qemu", False: "lxc"}
    stage.sim.by_hand(
        vmid=theirs, type=kinds[vm], node="pve1", name=f"t-{theirs}", status="stopped", config={**rest, **kept}
    )

    def wants(owner: int) -> None:
        disk = f"local-lvm:vm-{owner}-disk-1{more}"
        text = f"config: {{{config}{key}: '{disk}'}}"
        stage.manifest(guest(f"m-{mine}", mine, "power: stopped", *base, text, kind=kind))

    wants(theirs)
    said = stage.run("plan").stdout
    found = re.search(rf"\(({'.+'.join(map(re.escape, HAND_OVER[kind].split('{}')))})\)", " ".join(said.split()))
    assert found, said
    on_a_node(stage.sim, quoted(found[1])[0].replace("DISK", key).replace("VOLUME", key))
    wants(mine)
    assert stage.json("plan", code=0)["summary"]["unchanged"] == 1


# --- beside an agent --------------------------------------------------------------------------------------------------


def older(stage: Stage) -> None:
    """A journal as an earlier trueup made it."""
    stage.journal().parent.mkdir()
    stage.journal().touch(mode=0o600)
    with contextlib.closing(file.connect(stage.journal(), write=True)) as connection, pytest.MonkeyPatch.context() as m:
        known = file.migrations()
        m.setattr(file, "migrations", lambda: known[:-1])
        file.migrate(connection)


def test_a_life_of_an_agent(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older journal, an operation that is under way, and an agent that hangs."""
    older(stage)
    stage.manifest(guest("slow-130", 130, "source: {clone: 9000}", "power: stopped"))
    stage.sim.ask("/_sim/control", {"action": "duration", "type": "qmclone", "seconds": 60})
    started: list[Agent] = []

    def start(remedy: str) -> None:
        assert quoted(remedy) == ["trueup agent"]
        started.append(Agent(stage))
        started[0].until_said("epoch")

    try:
        followed(OLDER, lambda: run(stage, "journal", "verify"), start)
        agent = started[0]
        agent.until_said("op_task")
        under_way(stage)
        run(stage, "resume")
        agent.until_said("op_task", times=2)
        hangs(stage, agent, monkeypatch)
        cut_off(stage)
    finally:
        stage.sim.ask("/_sim/control", {"action": "duration", "type": "qmclone", "seconds": 10})
        for one in started:
            one.process.kill()
            one.stop()


def under_way(stage: Stage) -> None:
    """It is too late to cancel it: new ones are kept back, it is looked at, and its end is awaited."""
    (op,) = stage.json("status", code=2)["in_flight"]
    held = ["ops", "cancel", op["op_id"]]
    with pytest.raises(Exception, match="takes nothing back") as caught:
        run(stage, *held)
    (remedy,) = re.findall(r"\(([^()]*)\)$", str(caught.value))
    assert fits(SENT, remedy)
    show, pause = quoted(remedy)
    clones = [guest(f"slow-{n}", n, "source: {clone: 9000}", "power: stopped") for n in (130, 131)]
    stage.manifest(several(*clones))
    assert stage.run(*pause.split()[1:]).returncode == 0
    until(lambda: "It succeeded" in stage.run(*show.split()[1:]).stdout, 40)
    assert stage.json("status", code=2)["in_flight"] == []
    assert not [row for row in stage.json("ops", "list")["ops"] if row["vmid"] == 131], "new ones are kept back"


def hangs(stage: Stage, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SOCKET_TIMEOUT_S", 0.3)
    agent.process.send_signal(signal.SIGSTOP)

    def end(_: str) -> None:
        holder = stage.json("status", code=2)["leader"]["holder"]
        assert int(holder.rpartition(":")[2]) == agent.process.pid
        os.kill(agent.process.pid, signal.SIGKILL)
        agent.process.wait(20)

    followed(HANGS, lambda: run(stage, "pause"), end)


def cut_off(stage: Stage) -> None:
    """What the agent was at when it was ended."""
    (op,) = stage.json("status", code=2)["in_flight"]
    assert TO_DO_IN_FLIGHT in stage.run("ops", "show", op["op_id"]).stdout
    until(lambda: stage.run(*quoted(TO_DO_IN_FLIGHT)[0].split()[1:]).returncode == 0, 40)
    assert "It succeeded" in stage.run("ops", "show", op["op_id"]).stdout


@contextmanager
def dies_in_mid_answer(stage: Stage) -> Generator[None]:
    """An agent that takes a message, and is gone before it answers."""
    journal = open_journal(stage.journal())
    listening = socket.socket(socket.AF_UNIX)
    with contextlib.chdir(stage.journal().parent):
        listening.bind(socket_path(stage.journal()).name)
    listening.listen()

    def take() -> None:
        taken, _ = listening.accept()
        with taken:
            taken.recv(4096)
            taken.send(b'{"taken":true}\n')
            asyncio.run(journal.close())

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        listening.close()


def test_an_agent_that_ended_before_it_answered(stage: Stage) -> None:
    stage.manifest(guest("db-1", 132, "power: stopped"))
    run(stage, "apply", "--yes")

    def look(remedy: str) -> None:
        assert stage.json(quoted(remedy)[0].split()[1], code=0)["paused"] == [], "it was not done"

    with dies_in_mid_answer(stage):
        followed(UNHEARD, lambda: run(stage, "pause", "db-1"), look)
    assert stage.json("status", code=0)["paused"] == ["db-1"]


def test_a_message_of_another_version_and_one_that_comes_too_early(stage: Stage) -> None:
    stage.manifest(guest("own-1", 133, "power: stopped"))
    stage.sim.by_hand(vmid=133, name="own-1", status="stopped", config={"cores": 1})
    parts = app.parts()
    with contextlib.chdir(stage.folder):
        settings = parts.settings(Path("trueup.toml"))
        asyncio.run(too_early(parts, settings))
    assert stage.json("plan", code=0)["summary"]["unchanged"] == 1


async def too_early(parts: Parts, settings: Settings) -> None:
    """As the agent does it: it takes messages from its start on, and has an engine once recovery is over."""
    async with (
        incarnation.journal_for_work(parts, settings) as journal,
        incarnation.incarnation(parts, settings, journal, Lines(print), warn) as agent,
    ):
        work = acts.Acts(agent.deck, lambda: parts.manifests(settings.manifests.path)().guests)
        loop, due, ready = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        messages = [Message(command="do-what-is-new")]

        def ask() -> None:
            asyncio.run_coroutine_threadsafe(work.do(messages[-1]), loop).result(30)

        def waits(_: str) -> None:
            loop.call_soon_threadsafe(due.set)
            asyncio.run_coroutine_threadsafe(ready.wait(), loop).result(30)

        await asyncio.to_thread(followed, VERSION, ask, lambda _: messages.append(Message(command=acts.RESUME)))
        messages.append(Message(command=acts.ADOPT, guests=("133",)))
        asking = asyncio.create_task(asyncio.to_thread(followed, AFTERWARDS, ask, waits))
        await due.wait()
        await agent.recover()
        async with agent.reconciler() as reconciler:
            with work.working(agent, reconciler):
                ready.set()
                await asking


# --- the demo ---------------------------------------------------------------------------------------------------------


def test_a_simulator_that_does_not_come_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pvesim.py").write_text("raise RuntimeError('this Python is not whole')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    folders = iter((tmp_path / "one", tmp_path / "two"))

    async def begins() -> None:
        folder = next(folders)
        folder.mkdir()
        async with open_stage(folder, app.parts(), seed=1):
            pass

    def follow(remedy: str) -> None:
        command = [sys.executable, "-m", *quoted(remedy)[0].split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=dict(os.environ))
        assert "this Python is not whole" in done.stderr
        monkeypatch.delenv("PYTHONPATH")

    followed(SIM, lambda: asyncio.run(begins()), follow)
