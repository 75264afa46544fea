"""The demo itself, as people start it: it ends well, says so in JSON, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRUEUP = [sys.executable, "-m", "trueup"]
COUNTS = ["examined", "resumed", "failed", "rolled_back", "presumed", "still_running", "unresolved", "adopted"]


@pytest.mark.timeout(400)
def test_it_holds_and_sums_up(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    command = [*TRUEUP, "demo", "--json", "--keep", str(kept), "--picture", str(tmp_path / "demo.svg")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1  # one line of data, the story is elsewhere
    summary = json.loads(done.stdout)
    recovery = summary.pop("recovery")
    assert summary == {
        "guests": 8, "kills": 5, "final_changes": 0, "journal_ok": True, "duplicates": 0,
        "signed_deliveries": 3, "signed_executions": 1,
    }  # fmt: skip
    assert list(recovery) == COUNTS
    parts = ("resumed", "failed", "rolled_back", "still_running", "unresolved")
    assert recovery["examined"] == sum(recovery[part] for part in parts) > 0
    assert recovery["adopted"] > 0
    assert recovery["unresolved"] == recovery["failed"] == 0

    assert done.stderr.count("SIGKILL") == 6  # the introduction names it too
    assert "FAILED" not in done.stderr.split("All of it held")[0].rpartition("ok  ")[2]
    assert "[R3: The task ended well" in done.stderr
    for state in ("accepted", "started", "succeeded"):
        assert f"`trueup submit` says: {state}." in done.stderr
    assert (kept / "state" / "journal.db").exists()
    secret = (kept / "token.secret").read_text()
    assert (kept / "token.secret").stat().st_mode & 0o777 == 0o600
    assert secret not in done.stderr + done.stdout
    assert "What became of these" in (tmp_path / "demo.svg").read_text().replace("&#160;", " ")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = subprocess.run([*TRUEUP, "demo", "--keep", str(tmp_path)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "not empty" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_takes_its_children_and_its_folder_along(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*TRUEUP, "demo"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    for line in process.stdout:
        if "at work in PVE" in line:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "trueup: interrupted"
    deadline = time.monotonic() + 10
    while _alive(process.pid):
        assert time.monotonic() < deadline, "children are left"
        time.sleep(0.1)
    assert list(tmp_path.glob("trueup-demo-*")) == []


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
