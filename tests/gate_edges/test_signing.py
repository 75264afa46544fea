"""Signing on the command line: passphrases on a terminal only, ssh-keygen's signatures, keys that do not do."""

import os
import pty
import shutil
import subprocess
import sys
import time

import pytest

from tests.cli.stage import QUIET, TRUEUP, Stage
from tests.gate_edges.house import VM, House, opened
from tests.processes import warm
from trueup.adapters.signing_keys import new_private

SECRET = "correct horse battery"


def _on_a_terminal(stage: Stage, *arguments: str, says: str) -> tuple[int, str]:
    """Run a command with a terminal for its standard input, and answer each question with the same line."""
    mine, theirs = pty.openpty()
    process = warm.Popen(
        [*TRUEUP, *arguments],
        cwd=stage.folder,
        env=QUIET,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    os.close(theirs)
    assert process.stdout is not None
    said = b""
    try:
        while byte := process.stdout.read(1):
            said += byte
            if said.endswith((b".key: ", b"none): ", b"confirmation: ")):
                time.sleep(0.2)  # what was typed before the terminal goes silent is thrown away
                os.write(mine, f"{says}\n".encode())
    finally:
        os.close(mine)
        process.stdout.close()
    return process.wait(60), said.decode()


def test_a_passphrase_is_asked_for_on_a_terminal_and_nowhere_else(house: House) -> None:
    house.asked("stop")
    private, _ = new_private(SECRET)
    (house.folder / "locked.key").write_bytes(private)
    before = (house.folder / "request.json").read_bytes()
    no = house.run("sign", "request.json", "--key", "locked.key", "--as", "alice")
    assert no.returncode == 1
    assert "on a terminal" in no.stderr
    code, said = _on_a_terminal(house, "sign", "request.json", "--key", "locked.key", "--as", "alice", says="wrong")
    assert (code, "the passphrase is wrong" in said) == (1, True)
    assert (house.folder / "request.json").read_bytes() == before
    code, said = _on_a_terminal(house, "sign", "request.json", "--key", "locked.key", "--as", "alice", says=SECRET)
    assert code == 0, said
    assert SECRET not in said
    assert "nobody of the keyring has this key" in said
    assert len(opened(house.folder / "request.json")["signatures"]) == 1


def test_a_new_key_may_have_a_passphrase(house: House) -> None:
    code, said = _on_a_terminal(house, "keys", "new", "erin", "-o", "erin.key", "--role", "operator", says=SECRET)
    assert code == 0, said
    assert SECRET not in said
    house.asked("stop")
    assert house.run("sign", "request.json", "--key", "erin.key").returncode == 1
    code, said = _on_a_terminal(house, "sign", "request.json", "--key", "erin.key", says=SECRET)
    assert code == 0, said
    assert house.submit()["state"] == "accepted"


def test_keys_new_leaves_all_else_as_it_is(house: House) -> None:
    keyring = house.folder / "keyring.yaml"
    text = keyring.read_text() + "  # kept by ops\n"
    keyring.write_text(text)
    house.ok("keys", "new", "alice", "-o", "second.key")
    assert [line for line in text.splitlines() if "alice" not in line] == [
        line for line in keyring.read_text().splitlines() if "alice" not in line
    ]
    before = keyring.read_text()
    there = house.run("keys", "new", "bob", "-o", "second.key")
    assert (there.returncode, "a file already" in there.stderr) == (1, True)
    wrong = house.run("keys", "new", "../bob", "-o", "third.key")
    assert wrong.returncode == 1
    assert not (house.folder / "third.key").exists()
    assert keyring.read_text() == before


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no ssh-keygen")
def test_ssh_keygen_signs_what_is_pending(house: House) -> None:
    house.without(VM)
    house.signed("alice")
    request = house.submit()["request"]
    house.ok("approve", request, "--payload-out", "payload")
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "trueup", "-f", "bob.key", "payload"]
    subprocess.run(command, cwd=house.folder, check=True, stdin=subprocess.DEVNULL)
    wrong = subprocess.run(
        [*command[:4], "-n", "file", "-f", "bob.key"], cwd=house.folder, input=b"x", capture_output=True, check=True
    )
    (house.folder / "wrong.sig").write_bytes(wrong.stdout)
    assert house.run("approve", request, "--ssh-signature", "wrong.sig").returncode == 1
    assert house.json("approve", request, "--ssh-signature", "payload.sig")["state"] == "accepted"
    forms = [one["form"] for one in house.json("requests")["requests"][0]["approvals"]]
    assert forms == ["dsse", "sshsig"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sign", "request.json"), "--key FILE or URI"),
        (("sign", "request.json", "--key", "none.key"), "check --key"),
        (("sign", "request.json", "--key", "trueup.toml"), "not a private key"),
        (("sign", "request.json", "--key", "alice.key", "--as", "bob"), "the key is alice's"),
        (("sign", "trueup.toml", "--key", "alice.key"), "no JSON"),
        (("sign", "none.json", "--key", "alice.key"), "check the name"),
        (("sign", "request.json", "--key", "hsm:1?label=x"), "public key"),
        (("sign", "request.json", "--payload-out", "out"), "--as PERSON"),
        (("request", "destroy", "150"), "there is no guest 150"),
        (("request", "explode", "101"), "requestable: "),
        (("request", "rollback", "101"), "needs the param snapshot"),
        (("request", "destroy", "101", "--param", "purge"), "NAME=VALUE"),
        (("request", "destroy", "101", "--as", "nobody"), "keys list"),
        (("approve", "0", "--key", "alice.key"), "trueup requests"),
        (("veto", "zzz", "--key", "alice.key"), "trueup requests"),
        (("submit", "none.json"), "check the name"),
        (("ops", "resolve", "zzz", "--as", "failed", "--reason", "x", "--key", "carol.key"), "ops list"),
    ],
)
def test_errors_are_one_line_with_a_remedy(errant: House, arguments: tuple[str, ...], says: str) -> None:
    done = errant.run(*arguments)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, done.stderr
    assert says in lines[0]
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def errant(tmp_path_factory: pytest.TempPathFactory):
    from tests.cli.stage import Simulator

    simulator = Simulator()
    house = House(folder=tmp_path_factory.mktemp("errors"), sim=simulator)
    house.asked("stop")
    yield house
    simulator.stop()


def test_a_signer_needs_no_settings(house: House) -> None:
    """On somebody's own machine: only the file and the key."""
    file = house.asked("stop")
    away = house.folder / "away"
    away.mkdir()
    shutil.copy(file, away / "request.json")
    shutil.copy(house.folder / "bob.key", away / "bob.key")
    command = [sys.executable, "-m", "trueup", "sign", "request.json", "--key", "bob.key"]
    lost = warm.run(command, cwd=away, env=QUIET, capture_output=True, text=True, check=False)
    assert (lost.returncode, "--as PERSON" in lost.stderr) == (1, True)
    warm.run([*command, "--as", "bob"], cwd=away, env=QUIET, capture_output=True, check=True)
    assert house.json("submit", str(away / "request.json"))["state"] == "accepted"
