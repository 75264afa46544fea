"""What people get wrong, as the command itself says it: one line, the exit code of an error, and nothing changed."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.hostile import strangers
from tests.hostile.strangers import Conversation, answers, stranger
from tests.real_death.stage import TRUEUP, Done, Simulator, Stage, spawn, until, vm
from trueup.model.ops import EpochTaken

Breaking = Callable[[Stage], object]


def says(done: Done, expected: str) -> None:
    """One clear line, and nothing of Python's."""
    lines = done.err.splitlines()
    assert done.code == 1, done
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: "), done.err
    assert expected in lines[0], done.err
    assert done.out == ""


def _manifest(text: str) -> Breaking:
    return lambda stage: stage.manifest("guests", text)


def _foreign_ca(stage: Stage) -> None:
    other = stage.folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    stage.change(str(stage.ca_file), str(other))


CASES: dict[str, tuple[Breaking, str]] = {
    "malformed YAML": (_manifest("kind: [\n"), "guests.yaml:2:1: not YAML"),
    "a key twice": (_manifest(vm(101) + "name: other\n"), "guests.yaml:6:1: duplicate key 'name'"),
    "a vmid twice": (
        _manifest(vm(101) + "---\n" + vm(101).replace("vm-101", "other")),
        "guests.yaml:9:1: vmid 101 is already that of 'vm-101'",
    ),
    "a key that nobody knows": (_manifest(vm(101) + "colour: red\n"), "guests.yaml:6:1: unknown key 'colour'"),
    "bytes that are no text": (
        lambda stage: (stage.folder / "manifests" / "guests.yaml").write_bytes(b"\x00\xff\xfe" * 100),
        "guests.yaml",
    ),
    "a wrong token": (lambda stage: (stage.folder / "token.secret").write_text("not-the-secret"), "401"),
    "a wrong authority": (_foreign_ca, "the certificate is not trusted"),
    "a wrong fingerprint": (
        lambda stage: stage.change(f'ca_file = "{stage.ca_file}"', f'fingerprint = "{":".join(["AB"] * 32)}"'),
        "the certificate has another fingerprint",
    ),
    "nobody there": (lambda stage: stage.change(stage.url, "https://127.0.0.1:9"), "https://127.0.0.1:9"),
    "a host that has no address": (
        lambda stage: stage.change(stage.url, "https://pve1.invalid:8006"), "pve1.invalid"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_clear_line(sim: Simulator, stage: Stage, name: str) -> None:
    stage.manifest("guests", vm(101))
    breaking, expected = CASES[name]
    breaking(stage)
    before = len(sim.mutations())
    says(stage.run("apply", "--yes"), expected)
    assert len(sim.mutations()) == before
    assert not stage.journal_file.exists() or stage.journal().records == ()


STRANGERS: dict[str, tuple[Conversation, bool, str]] = {
    "a web server without TLS": (strangers.plain_http, False, "TLS"),
    "noise": (strangers.noise, False, "TLS"),
    "somebody who hangs up": (strangers.hangs_up, False, ""),
    "a login page": (answers(strangers.LOGIN_PAGE, kind="text/html"), True, "not what PVE sends"),
    "a page that is not there": (answers(b"nothing here", status="404 Not Found", kind="text/plain"), True, "404"),
    "a redirect": (answers(b"", status="302 Found"), True, "302"),
    "JSON of something else": (answers(strangers.OTHER_JSON), True, "not what PVE sends"),
    "JSON with an odd version": (answers(strangers.ODD_JSON), True, "not what PVE sends"),
    "JSON that is not UTF-8": (answers(strangers.NOT_UTF8), True, "not what PVE sends"),
    "an endless answer": (strangers.endless, True, "larger than"),
    "an endless status line": (strangers.odd_head, True, ""),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_pve_at_all(stage: Stage, tmp_path: Path, name: str) -> None:
    talk, over_tls, expected = STRANGERS[name]
    authority = tmp_path / "stranger.pem"
    stage.manifest("guests", vm(101))
    with stranger(talk, tls=authority if over_tls else None) as url:
        stage.change(stage.url, url)
        if over_tls:
            stage.change(str(stage.ca_file), str(authority))
        done = stage.run("apply", "--yes")
    says(done, expected)
    assert url in done.err
    assert not stage.journal_file.exists() or stage.journal().records == ()


def test_a_node_that_is_down_blocks_its_guests_and_no_others(sim: Simulator, stage: Stage) -> None:
    stage.manifest("guests", vm(111), vm(112, node="pve3"))
    sim.control("node_down", node="pve3")
    try:
        done = stage.run("apply", "--yes", "--json")
        assert done.code == 2, done
        (change,) = done.json()["plan"]["changes"]
        assert change["vmid"] == 112
        assert "pve3" in change["blocked_by"]
        assert (sim.guest(111) or {})["status"] == "running"
        assert not stage.journal().of(112)
    finally:
        sim.control("node_up", node="pve3")
    assert until(lambda: stage.run("apply", "--yes").code == 0)
    sim.by_hand(vmid=111, deleted=True)
    sim.by_hand(vmid=112, deleted=True)


def test_of_several_agents_at_once_one_works(sim: Simulator, stage: Stage) -> None:
    """They start in the same instant, on a journal that is not there yet."""
    stage.manifest("guests", vm(131))
    outputs = [stage.folder / f"agent-{number}" for number in range(4)]
    agents = [spawn((*TRUEUP, "agent"), cwd=stage.folder, output=output) for output in outputs]
    stage.processes += agents
    until(lambda: sum(agent.poll() is None for agent in agents) == 1)
    (alive,) = [at for at, agent in enumerate(agents) if agent.poll() is None]
    until(lambda: "1 unchanged" in outputs[alive].with_suffix(".err").read_text())
    agents[alive].send_signal(signal.SIGTERM)
    assert agents[alive].wait(60) == 0
    for at, agent in enumerate(agents):
        if at != alive:
            said = outputs[at].with_suffix(".err").read_text()
            assert agent.returncode == 1
            assert said.count("\n") == 1, said
            # Who loses in the very instant in which the other one wins cannot know its pid yet.
            assert said.replace(f" (pid {agents[alive].pid})", "").startswith("error: ")
            assert "another trueup writes this journal" in said.replace(f" (pid {agents[alive].pid})", "")
    journal = stage.journal()
    assert journal.verification.ok
    assert sum(isinstance(record.event, EpochTaken) for record in journal.records) == 1
    assert [op.intent.kind.value for op in journal.of(131)] == ["create", "start"]
