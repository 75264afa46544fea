"""Standbys as people meet them: they show what the leader shows, and what is handed in there the leader decides."""

import json
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.postgres.agents import Group, Member, wait
from tests.postgres.server import Server
from tests.processes import warm
from tests.real_death.stage import Simulator, vm

pytestmark = pytest.mark.timeout(300)

OFF = ("source: {empty: true}", "power: stopped")
POLICY = 'rules:\n  - {kinds: ["*"], people: 1, roles: [operator], longest: 4h}\n'


@dataclass
class Pair:
    """Two agents; the first leads, the second stands by."""

    group: Group
    leader: Member
    standby: Member
    postgres: Server
    database: str

    def trueup(self, member: Member, *arguments: str, code: int | None = 0) -> str:
        done = warm.run(
            [sys.executable, "-m", "trueup", *arguments], cwd=member.folder, capture_output=True, text=True,
            timeout=120, check=False, env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
        assert code is None or done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def http(self, member: Member, path: str, body: bytes | None = None) -> tuple[int, Any]:
        url = next(line["url"] for line in reversed(member.log()) if line["event"] == "listening")
        token = (member.folder / "http.token").read_text().strip()
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        asked = urllib.request.Request(f"{url}{path}", data=body, headers=headers)  # noqa: S310 - our own
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
            content = answer.read()
            return answer.status, json.loads(content) if "json" in answer.headers["content-type"] else content.decode()

    def stirred(self) -> bytes:
        """What an open page is told by the standby, up to the first word that something may be new."""
        url = next(line["url"] for line in reversed(self.standby.log()) if line["event"] == "listening")
        token = (self.standby.folder / "http.token").read_text().strip()
        asked = urllib.request.Request(f"{url}/events", headers={"authorization": f"Bearer {token}"})  # noqa: S310
        heard = b""
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310 - our own
            while b"changed" not in heard and len(heard) < 10_000:
                heard += answer.readline()
        return heard

    def signed(self, vmid: int) -> Path:
        """A request to destroy a guest, signed."""
        name = f"destroy-{vmid}.json"
        self.trueup(self.standby, "request", "destroy", str(vmid), "-o", name, "--reason", "ticket 4711")
        self.trueup(self.standby, "sign", name, "--key", "alice.key")
        return self.standby.folder / name

    def requests(self) -> dict[int, Any]:
        found = json.loads(self.trueup(self.standby, "requests", "--json"))["requests"]
        return {one["vmid"] if "vmid" in one else one["target"]["vmid"]: one for one in found}

    def guests(self) -> set[int]:
        return {int(guest["vmid"]) for guest in self.group.sim.ask("/_sim/state")["guests"]}

    def inbox(self) -> int:
        name = self.database.rpartition("/")[2]
        return int(self.postgres.sql(name, "SELECT count(*) FROM trueup.inbox")[0][0])

    def deletes(self, vmid: int) -> int:
        rows = self.group.sim.mutations()
        return sum(1 for row in rows if row["method"] == "DELETE" and str(row["path"]).endswith(f"/{vmid}"))


@pytest.fixture
def pair(tmp_path: Path, postgres: Server, database: str) -> Iterator[Pair]:
    with Simulator(tmp_path) as sim, Group(tmp_path / "group", sim, database, count=2) as group:
        first, second = group.members
        made = Pair(group, first, second, postgres, database)
        made.trueup(first, "keys", "new", "alice", "-o", "alice.key", "--role", "operator")
        (first.folder / "policy.yaml").write_text(POLICY)
        for name in ("keyring.yaml", "policy.yaml", "alice.key"):
            target = second.folder / name
            target.write_bytes((first.folder / name).read_bytes())
            target.chmod(0o600)
        group.manifest([vm(101, *OFF), vm(102, *OFF), vm(103, *OFF, node="pve2"), vm(104)])
        first.start()
        wait(lambda: "4 unchanged" in [line["text"] for line in first.log() if line["event"] == "pass_ended"])
        second.start()
        wait(lambda: second.ready().get("phase") == "standby")
        yield made


def test_a_standby_shows_what_the_leader_shows(pair: Pair) -> None:
    wait(lambda: pair.http(pair.standby, "/v1/status")[1]["guests"][0]["sync"] == "in_sync")
    _, leads = pair.http(pair.leader, "/v1/status")
    _, stands_by = pair.http(pair.standby, "/v1/status")
    command = json.loads(pair.trueup(pair.standby, "status", "--json"))
    assert leads["leader"]["holder"].endswith(f":{pair.leader.pid}")
    assert leads["leader"]["alive"] is True
    assert leads["leader"] == stands_by["leader"] == command["leader"]
    assert leads["guests"] == stands_by["guests"] == command["guests"]
    assert leads["head"] == stands_by["head"] == command["head"]
    assert {guest["sync"] for guest in command["guests"]} == {"in_sync", "unmanaged"}
    assert f"Standby, {leads['leader']['holder']} leads" in pair.http(pair.standby, "/")[1]
    assert pair.leader.ready() == {"status": 200, "ready": True, "phase": "leading", "epoch": 1}
    assert pair.standby.ready() == {"status": 200, "ready": True, "phase": "standby", "epoch": None}
    assert b"changed" in pair.stirred()
    _, plan = pair.http(pair.standby, "/v1/plan")
    assert plan["summary"]["unchanged"] == 4


def test_what_is_handed_in_at_a_standby_is_decided_by_the_leader(pair: Pair) -> None:
    pair.group.manifest([vm(104)])
    files = {vmid: pair.signed(vmid) for vmid in (101, 102, 103)}
    told = f"the leader {pair.http(pair.leader, '/v1/status')[1]['leader']['holder']} decides"

    # By HTTP, by a command, and as a file: each sender hears that it is recorded, and by whom it is decided.
    code, answer = pair.http(pair.standby, "/v1/requests", files[101].read_bytes())
    assert code == 202
    assert answer == {"request": None, "op": None, "state": "pending", "missing": None, "reason": f"recorded; {told}"}
    assert json.loads(pair.trueup(pair.standby, "submit", files[102].name, "--json"))["reason"] == f"recorded; {told}"
    spool = pair.standby.folder / "spool"
    (spool / "new.json").write_bytes(files[103].read_bytes())
    wait(lambda: list(spool.rglob("*answer*")))
    wait(lambda: pair.guests() & {101, 102, 103} == set())
    assert {vmid: one["via"] for vmid, one in pair.requests().items()} == {101: "http", 102: "command", 103: "spool"}
    wait(lambda: pair.inbox() == 0)

    # The leader died after it had decided and before the row was gone: the next look finds the row again.
    epoch = pair.http(pair.leader, "/v1/status")[1]["leader"]["epoch"]
    name, content = pair.database.rpartition("/")[2], files[101].read_bytes().hex()
    pair.leader.end()
    pair.postgres.sql(
        name,
        "INSERT INTO trueup.inbox (journal, via, request)"
        f" SELECT journal, 'http', decode('{content}', 'hex') FROM trueup.journals",
    )
    wait(lambda: pair.standby.ready().get("phase") == "leading")
    assert pair.http(pair.standby, "/v1/status")[1]["leader"]["epoch"] > epoch
    wait(lambda: pair.inbox() == 0)
    assert {vmid: pair.deletes(vmid) for vmid in files} == {101: 1, 102: 1, 103: 1}
    assert len(pair.requests()) == 3
    assert pair.http(pair.standby, "/v1/requests", files[101].read_bytes())[0] == 200
    assert pair.group.verification().ok


def test_nobody_leads_and_what_was_handed_in_waits_for_whoever_leads_next(pair: Pair) -> None:
    pair.group.manifest([vm(102, *OFF), vm(103, *OFF, node="pve2"), vm(104)])
    file = pair.signed(101)
    pair.leader.end()
    at = time.monotonic()
    code, answer = pair.http(pair.standby, "/v1/requests", file.read_bytes())
    assert (code, answer["state"]) == (202, "pending")
    malformed = json.loads(pair.trueup(pair.standby, "submit", "trueup.toml", "--json", code=1))
    assert malformed["state"] == "refused"
    wait(lambda: pair.deletes(101) == 1)
    print(f"decided and begun {time.monotonic() - at:.1f} s after it was handed in")
    assert pair.requests()[101]["via"] == "http"
