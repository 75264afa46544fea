"""The check-up finds what is wrong and says what to do; the set-up makes what is missing, call by call."""

import re
import stat

import pytest

from tests.cli.stage import Stage, guest

ADMIN = "root@pam!admin"
SECRET = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def bare(stage: Stage) -> Stage:
    """A cluster with an administrator's token, and settings that name a user who is not there yet."""
    stage.sim.ask("/_sim/guests", {"tokens": [{"id": ADMIN, "secret": SECRET}]})
    (stage.folder / "admin.secret").write_text(SECRET)
    stage.settings((stage.sim.token_id, "trueup@pve!agent-a"))
    (stage.folder / "token.secret").unlink()
    stage.manifest(guest("db-1", 102))
    return stage


SETUP = ("doctor", "--setup", "--admin-token", ADMIN, "--admin-secret-file", "admin.secret", "--yes")


def findings(stage: Stage, code: int) -> dict[str, list[tuple[str, str, str | None]]]:
    found: dict[str, list[tuple[str, str, str | None]]] = {}
    for row in stage.json("doctor", code=code)["findings"]:
        found.setdefault(row["check"], []).append((row["mark"], row["what"], row["remedy"]))
    return found


def test_all_is_well(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102))
    assert findings(stage, 0)["store"][0][1].startswith("there is no journal yet")
    stage.json("apply", "--yes")
    found = findings(stage, 0)
    assert {mark for rows in found.values() for mark, _, _ in rows} <= {"ok", "unknown"}
    assert [what for _, what, _ in found["token"]] == [f"nobody else worked with {stage.sim.token_id} in the last day"]
    assert "the journal is sound" in found["store"][0][1]
    assert "No problems." in stage.run("doctor").stdout


def test_setup_makes_a_user_that_can_do_all_that_is_needed_and_no_more(bare: Stage) -> None:
    done = bare.run(*SETUP)
    assert done.returncode == 0, done.stderr + done.stdout
    for shown in (
        "POST /access/roles roleid=TrueupGuests privs=VM.Audit,",
        "pveum acl modify /vms --users trueup@pve --roles TrueupGuests",
        "pveum acl modify / --users trueup@pve --roles TrueupSight --propagate 0",
        "pveum user token add trueup@pve agent-a --privsep 0",
    ):
        assert shown in done.stderr, shown
    secret = bare.folder / "token.secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.read_text().strip() not in done.stderr + done.stdout
    assert bare.json("apply", "--yes")["converged"] is True
    again = bare.run(*SETUP)  # nothing is made twice
    assert again.returncode == 0, again.stderr
    assert "POST" not in again.stderr


def test_each_missing_right_is_named_with_the_command_that_gives_it(bare: Stage) -> None:
    assert bare.run(*SETUP).returncode == 0
    bare.sim.ask("/_sim/guests", {"roles": {"TrueupGuests": ["VM.Audit"], "TrueupStorage": []}})
    rights = [row for row in findings(bare, 1)["rights"] if row[0] == "problem"]
    named = {what.split(" lacks ")[1].split(" (")[0] for _, what, _ in rights}
    assert {"VM.Allocate on /vms", "VM.PowerMgmt on /vms", "Datastore.AllocateSpace on /storage"} <= named
    assert all(remedy and remedy.startswith("pveum role modify Trueup") for _, _, remedy in rights)
    assert bare.run(*SETUP).returncode == 0
    assert all(mark == "ok" for mark, _, _ in findings(bare, 0)["rights"])


def test_what_cannot_be_reached_or_trusted_is_told(stage: Stage) -> None:
    (stage.folder / "token.secret").write_text("wrong")
    found = findings(stage, 1)
    assert "401" in found["endpoint"][0][1] or "Authentication" in found["endpoint"][0][1]
    assert found["endpoint"][0][2]
    stage.settings(("ca_file", 'fingerprint = "' + "AA:" * 31 + 'AA" #'))
    assert "fingerprint" in findings(stage, 1)["endpoint"][0][1]
    (stage.folder / "token.secret").unlink()
    assert "cannot read the token secret" in findings(stage, 1)["token"][0][1]


def test_clocks_and_nodes(stage: Stage) -> None:
    stage.sim.ask("/_sim/control", {"action": "clock", "node": "pve1", "offset_s": 300})
    stage.sim.ask("/_sim/control", {"action": "node_down", "node": "pve3"})
    found = findings(stage, 1)
    mark, what, remedy = found["clock"][0]
    assert mark == "problem"
    assert re.search(r"the clock of pve1 is (299|300) s ahead of ours", what)
    assert remedy
    assert ("warning", "pve3") in {(mark, what.split()[0]) for mark, what, _ in found["node"]}
    stage.sim.ask("/_sim/control", {"action": "quorum", "quorate": False})
    assert findings(stage, 1)["quorum"][0][0] == "problem"


def test_somebody_else_with_our_token_is_noticed(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102))
    stage.json("apply", "--yes")
    (stage.folder / "state").rename(stage.folder / "elsewhere")  # so the journal knows none of these tasks
    (row,) = [row for row in findings(stage, 1)["token"] if row[0] == "problem"]
    assert "2 tasks of root@pam!trueup in the last day are in no journal" in row[1]


def test_the_house_is_looked_at_too(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102))
    stage.json("apply", "--yes")
    stage.journal().chmod(0o644)
    stage.manifest("kind: [", "broken.yaml")
    (stage.folder / "keyring.yaml").unlink()
    found = findings(stage, 1)
    assert "not YAML" in found["manifests"][0][1]
    assert any("others may read the journal" in what for _, what, _ in found["store"])
    assert any("there is no keyring" in what for _, what, _ in found["gate"])


def test_setup_says_what_it_lacks(bare: Stage) -> None:
    assert "needs an administrator's token" in bare.run("doctor", "--setup").stderr
    assert "there is no terminal to ask on" in bare.run(*SETUP[:-1]).stderr
    assert 'write token_id = "other@pve!agent"' in bare.run(*SETUP, "--user", "other@pve").stderr
    assert "the settings name no keeper" in bare.run(*SETUP, "--keeper").stderr
    (bare.folder / "token.secret").write_text("old")
    assert "move the old secret away" in bare.run(*SETUP).stderr
