"""Each command of a node that a message names is typed there by bash, as it stands in the message, and it helps."""

import ast
import re

import pytest

from tests.cli.stage import Stage, guest
from tests.cli.test_crashes import until
from tests.operator.nodes_shell import TOOLS, on_a_node
from tests.operator.remedies import parsed
from tests.operator.test_doctor import SETUP, bare, findings

__all__ = ["bare"]
NO_TOOLS = {"trueup", "ssh-keygen", "createdb", "async", "daily", "keeper", "python", "webauthn"}
"""Commands of ours or of elsewhere, and other words in front of a blank."""

CONTAINER = (
    "source: {template: 'local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst'}",
    "config: {rootfs: {storage: local-lvm, size: 1G}}",
)


def quoted(text: str) -> list[str]:
    """The commands of a node in a text, in its order."""
    found = re.findall(r"`([^`]+)`", text)
    return [command for command in found if command.split()[0] in TOOLS]


def typed(stage: Stage, text: str) -> list[str]:
    """Type all of them; what each printed."""
    commands = quoted(text)
    assert commands, text
    return [on_a_node(stage.sim, command) for command in commands]


def test_every_tool_that_a_message_names_is_at_hand() -> None:
    named: set[str] = set()
    for tree in parsed().values():
        for node in ast.walk(tree):
            text = ast.unparse(node) if isinstance(node, ast.JoinedStr) else getattr(node, "value", None)
            if isinstance(text, str):
                named |= set(re.findall(r"`([a-z][a-z-]+) [^`]+`", text))
    assert named - NO_TOOLS <= set(TOOLS), "nobody has tried what it says"
    assert {"pvenode", "chronyc", "openssl"} <= named


# --- guests -----------------------------------------------------------------------------------------------------------


def locked(stage: Stage, lock: str, kind: str = "VirtualMachine") -> str:
    config = () if kind == "VirtualMachine" else CONTAINER
    stage.manifest(guest("db-1", 102, "power: stopped", *config, kind=kind))
    stage.json("apply", "--yes")
    stage.manifest(guest("db-1", 102, "power: running", *config, kind=kind))
    stage.sim.ask("/_sim/control", {"action": "lock", "vmid": 102, "lock": lock})
    return stage.run("plan").stdout


@pytest.mark.parametrize(
    "lock", ["backup", "clone", "create", "destroyed", "migrate", "rollback", "suspended", "snapshot"]
)
def test_a_locked_vm(stage: Stage, lock: str) -> None:
    text = locked(stage, lock)
    assert any(command == "qm unlock 102" for command in quoted(text))
    typed(stage, text)
    assert stage.json("apply", "--yes")["converged"] is True


@pytest.mark.parametrize("lock", ["disk", "mounted", "create", "snapshot-delete"])
def test_a_locked_container(stage: Stage, lock: str) -> None:
    typed(stage, locked(stage, lock, "Container"))
    assert stage.json("apply", "--yes")["converged"] is True


def test_ha_has_given_it_up(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102, "power: stopped"))
    stage.json("apply", "--yes")
    stage.sim.ask("/_sim/control", {"action": "lock", "vmid": 102, "lock": "backup"})
    stage.sim.ask("/_sim/control", {"action": "ha", "sid": "vm:102", "state": "started"})
    until(lambda: "vm:102 error" in on_a_node(stage.sim, "ha-manager status"), 40)
    stage.sim.ask("/_sim/control", {"action": "lock", "vmid": 102, "lock": ""})  # it is mended
    stage.manifest(guest("db-1", 102))
    disable, start, *_ = quoted(stage.run("plan").stdout)
    on_a_node(stage.sim, disable)
    until(lambda: "vm:102 stopped" in on_a_node(stage.sim, "ha-manager status"), 40)
    on_a_node(stage.sim, start)
    until(lambda: stage.run("plan").returncode == 0, 40)


def test_the_log_of_a_failed_task(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102, "power: stopped"))
    stage.json("apply", "--yes")
    stage.sim.fault(fault="task_fails", path="start", error="no such bridge")
    stage.manifest(guest("db-1", 102))
    stage.run("apply", "--yes", "--once")
    failed = next(op for op in stage.json("ops", "list")["ops"] if op["state"] == "failed")
    found = re.search(r"The task's log: (pvesh get \S+)", stage.run("ops", "show", failed["op_id"]).stdout)
    assert found
    assert "no such bridge" in on_a_node(stage.sim, found[1])


# --- the check-up -----------------------------------------------------------------------------------------------------


def remedies(stage: Stage, check: str, code: int = 1) -> list[str]:
    return [remedy for mark, _, remedy in findings(stage, code)[check] if mark != "ok" and remedy]


def test_missing_rights(bare: Stage) -> None:
    assert bare.run(*SETUP).returncode == 0
    bare.sim.ask("/_sim/guests", {"roles": {"TrueupGuests": ["VM.Audit"], "TrueupStorage": [], "TrueupSight": []}})
    for line in remedies(bare, "rights"):
        on_a_node(bare.sim, line)
    assert all(mark == "ok" for mark, _, _ in findings(bare, 0)["rights"])


def test_rights_that_are_not_handed_down(bare: Stage) -> None:
    assert bare.run(*SETUP).returncode == 0
    on_a_node(bare.sim, "pveum acl modify /vms --users trueup@pve --roles TrueupGuests --propagate 0")
    lines = remedies(bare, "rights")
    assert set(lines) == {"pveum acl modify /vms --users trueup@pve --roles TrueupGuests"}
    on_a_node(bare.sim, lines[0])
    assert all(mark == "ok" for mark, _, _ in findings(bare, 0)["rights"])


def test_clocks(stage: Stage) -> None:
    stage.sim.ask("/_sim/control", {"action": "clock", "node": "pve1", "offset_s": 300})
    (line,) = remedies(stage, "clock")
    (said,) = typed(stage, line)
    assert "pve1: System time : 300.000000000 seconds fast" in said  # it says which one is wrong
    stage.sim.ask("/_sim/control", {"action": "clock", "node": "pve1", "offset_s": 0})
    assert not remedies(stage, "clock", 0)


def test_quorum(stage: Stage) -> None:
    stage.sim.ask("/_sim/control", {"action": "quorum", "quorate": False})
    (line,) = remedies(stage, "quorum")
    (said,) = typed(stage, line)
    assert re.search(r"^pvesim 0$", said, re.MULTILINE), said
    stage.sim.ask("/_sim/control", {"action": "quorum", "quorate": True})
    assert not remedies(stage, "quorum", 0)


def test_a_journal_that_others_may_read(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.manifest(guest("db-1", 102))
    stage.json("apply", "--yes")
    stage.journal().chmod(0o644)
    (stage.folder / "token.secret").chmod(0o644)
    monkeypatch.chdir(stage.folder)
    found = findings(stage, 0)
    (line,) = [remedy for _, what, remedy in found["store"] if "others may read" in what]
    assert line
    on_a_node(stage.sim, line)
    (told,) = [what for mark, what, _ in found["token"] if mark == "warning"]
    on_a_node(stage.sim, told.rpartition("(")[2].rstrip(")"))
    assert not [mark for rows in findings(stage, 0).values() for mark, _, _ in rows if mark == "warning"]


def test_another_certificate(stage: Stage) -> None:
    stage.settings(("ca_file", 'fingerprint = "' + "AA:" * 31 + 'AA" #'))
    (line,) = remedies(stage, "endpoint")
    (said,) = typed(stage, line)
    shown = said.strip().rpartition("=")[2]
    assert shown.replace(":", "").lower() in findings(stage, 1)["endpoint"][0][1].replace(":", "").lower()
    stage.settings(("AA:" * 31 + "AA", shown))
    assert findings(stage, 0)["endpoint"][0][0] == "ok"


def test_names_of_nodes_and_storages(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102, node="pve_1"))
    (said,) = typed(stage, stage.run("plan").stderr)
    assert "pve1" in said
    stage.manifest(guest("db-1", 102, "backups: {schedule: hourly, keep: 1, storage: '-x'}"))
    (said,) = typed(stage, stage.run("plan").stderr)
    assert "backup" in said
