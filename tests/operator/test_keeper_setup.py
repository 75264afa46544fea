"""From a root login to an agent with tokens of its own: the set-up with a keeper, and no right more than is needed."""

import re

import pytest

from tests.cli.stage import Stage, guest, several
from tests.operator.living import Agent, living
from tests.operator.nodes_shell import on_a_node
from tests.operator.test_doctor import ADMIN, SECRET, SETUP, findings
from trueup.adapters import pve_setup

KEEPER = (
    'keeper = {token_id = "trueup-keeper@pve!keeper", token_secret_file = "keeper.secret", '
    'user = "trueup@pve", prefix = "agent-a-"}\ntoken_id = "trueup@pve!looking"'
)


@pytest.fixture
def kept(stage: Stage) -> Stage:
    stage.sim.ask("/_sim/guests", {"tokens": [{"id": ADMIN, "secret": SECRET}]})
    (stage.folder / "admin.secret").write_text(SECRET)
    stage.settings((f'token_id = "{stage.sim.token_id}"', KEEPER))
    (stage.folder / "token.secret").unlink()
    return stage


def test_all_is_made_shown_and_suffices(kept: Stage) -> None:
    kept.manifest(guest("db-1", 102))
    done = kept.run(*SETUP, "--keeper")
    assert done.returncode == 0, done.stderr + done.stdout
    for shown in (
        "pveum group add trueup-agents",
        "pveum user modify trueup@pve --groups trueup-agents --append 1",
        'pveum role add TrueupKeeper --privs "User.Modify"',
        "pveum acl modify /access/groups/trueup-agents --users trueup-keeper@pve --roles TrueupKeeper",
        "pveum user token add trueup-keeper@pve keeper --privsep 0",
    ):
        assert shown in done.stderr, shown
    for name in ("keeper.secret", "token.secret"):
        assert (kept.folder / name).stat().st_mode & 0o777 == 0o600
        assert (kept.folder / name).read_text().strip() not in done.stderr + done.stdout
    again = kept.run(*SETUP, "--keeper")
    assert again.returncode == 0, again.stderr
    assert "POST" not in again.stderr
    assert {mark for mark, _, _ in findings(kept, 0)["keeper"]} <= {"ok", "warning"}


def test_the_agents_tokens_may_do_what_manifests_ask_for_and_no_more(kept: Stage) -> None:
    kept.manifest(guest("db-1", 102))
    assert kept.run(*SETUP, "--keeper").returncode == 0
    policies = ("backups: {schedule: hourly, keep: 1, storage: backup}", "snapshots: {schedule: hourly, keep: 1}")
    disk = "config: {cores: 1, scsi0: {storage: shared, size: 1G}}"
    first = several(
        guest("db-1", 102, disk, *policies, "disruption: {restart: allowed}"),
        guest("web-1", 101, "source: {clone: 9000, full: true}"),
        guest("ct-1", 103, "source: {template: 'local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst'}",
              "config: {rootfs: {storage: local-lvm, size: 1G}}", kind="Container"),
    )  # fmt: skip
    kept.manifest(first)
    with living(Agent(kept)) as agent:
        agent.until_said("epoch", "token trueup@pve!agent-a-1")
        agent.until_said("pass_ended", "3 unchanged")
        kept.sim.ask("/_sim/control", {"action": "ha", "sid": "vm:101", "state": "started"})
        kept.manifest(
            first.replace("cores: 1", "cores: 2").replace(
                "name: db-1\nvmid: 102\nnode: pve1", "name: db-1\nvmid: 102\nnode: pve2"
            )
        )
        agent.until_said("pass_ended", "2 unchanged", times=1)
        agent.until_said("pass_ended", "3 unchanged", times=2)
    kinds = {line["kind"] for line in agent.events("op_ended") if line["state"] == "succeeded"}
    assert {"create", "clone", "configure", "start", "snapshot", "backup", "migrate"} <= kinds
    assert not [line for line in agent.events("op_ended") if line["state"] == "failed"]
    users = {row["user"] for row in kept.sim.mutations() if "/qemu" in row["path"] or "/lxc" in row["path"]}
    assert users == {"trueup@pve!agent-a-1"}
    with living(Agent(kept)) as agent:
        agent.until_said("epoch", "token trueup@pve!agent-a-2")
        agent.until_said("fence_raised", "trueup@pve!agent-a-1 of an earlier epoch is deleted")


def test_each_line_that_the_setup_shows_does_the_same_on_a_node(kept: Stage) -> None:
    """The calls fail for want of rights; each message names a line for root, after which it goes on from there."""
    kept.manifest(guest("db-1", 102))
    weak = {
        "roles": {"Seeing": ["Sys.Audit", "User.Modify"]},
        "acl": [{"path": "/", "ugid": "weak@pve", "role": "Seeing"}],
        "tokens": [{"id": "weak@pve!admin", "secret": SECRET}],
    }
    kept.sim.ask("/_sim/guests", weak)
    setup = (*("weak@pve!admin" if word == ADMIN else word for word in SETUP), "--keeper")
    typed: list[str] = []
    done = kept.run(*setup)
    while len(typed) < 40:
        found = re.search(r"\(as root on a node: (.*); then run it again, it goes on from there\)", done.stderr)
        if found is None:
            break
        assert found[1] not in typed, "it does not go on from there"
        typed.append(found[1])
        said = on_a_node(kept.sim, found[1])
        if "token add" in found[1]:  # the secret is shown this once: it goes where the settings say
            secret = re.search(r'"value": "([^"]+)"', said)
            assert secret
            name = "keeper.secret" if "keeper" in found[1] else "token.secret"
            (kept.folder / name).write_text(secret[1])
            (kept.folder / name).chmod(0o600)
        done = kept.run(*setup)
    assert done.returncode == 0, done.stderr + done.stdout
    assert len(typed) >= 10, done.stderr
    assert any(line.startswith("pveum group add") for line in typed)
    assert kept.json("apply", "--yes")["converged"] is True


def test_no_right_is_asked_for_twice() -> None:
    wanted = [(right.path, name) for right in pve_setup.rights_for(pools=True) for name in right.privileges]
    assert len(wanted) == len(set(wanted))


def test_the_keeper_is_never_given_the_agents_rights(kept: Stage) -> None:
    """With the keeper's token alone, nobody is told to make it as powerful in itself: another token is for looking."""
    kept.manifest(guest("db-1", 102))
    kept.settings(('\ntoken_id = "trueup@pve!looking"', ""))
    done = kept.run(*SETUP, "--keeper")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "pveum" not in done.stdout
    found = re.search(r'write (token_id = "trueup@pve!looking") into \[cluster\], then `trueup ([^`]+)`', done.stdout)
    assert found
    kept.settings(('prefix = "agent-a-"}', f'prefix = "agent-a-"}}\n{found[1]}'))
    assert kept.run(*found[2].split(), *SETUP[2:]).returncode == 0
    assert all(mark == "ok" for mark, _, _ in findings(kept, 0)["rights"])
