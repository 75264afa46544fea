"""What PVE 8.4 and 9 really answered, and what is made of it."""

import json
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.pve.fakes import client, failing, script
from tests.pve.servers import run
from trueup.adapters.pve_wire import HttpAnswer
from trueup.core.answers import Effect
from trueup.model.errors import Absent, NotSent, PveError, ReadFailed, Refused, Unknown
from trueup.model.guests import Power
from trueup.model.ids import GuestType, NodeName, Upid, Vmid
from trueup.model.pve import Call, ClusterState, NodeState, TaskState

RECORDINGS = Path(__file__).parent / "recordings"
MUTATIONS: list[dict[str, Any]] = json.loads((RECORDINGS / "mutations.json").read_text(encoding="utf-8"))
READS: list[dict[str, Any]] = json.loads((RECORDINGS / "reads.json").read_text(encoding="utf-8"))

ERRORS = {Effect.NOT_SENT: NotSent, Effect.REFUSED: Refused, Effect.UNKNOWN: Unknown}
PVE1 = NodeName("pve1")


def recorded(row: dict[str, Any]) -> HttpAnswer:
    date = int(parsedate_to_datetime(row["date"]).timestamp()) if row.get("date") else 0
    return HttpAnswer(status=row["status"], reason=row["reason"] or "", date_s=date, body=row["body"].encode())


@pytest.mark.parametrize("row", MUTATIONS, ids=lambda row: f"{row['method']} {row['status']} {row['row']}")
def test_a_recorded_refusal_is_sorted_by_its_effect(row: dict[str, Any]) -> None:
    pve = client(script(recorded(row)))
    with pytest.raises(PveError) as caught:
        run(pve.send(Call(method=row["method"], path=row["path"])))
    assert type(caught.value) is ERRORS[Effect(row["effect"])]
    assert caught.value.status == row["status"]
    assert str(caught.value).isprintable()


def reads(name: str) -> list[HttpAnswer]:
    found = [recorded(row) for row in READS if row["name"] == name]
    assert found, name
    return found


def test_versions_are_read() -> None:
    assert {run(client(script(answer)).version()) for answer in reads("version")} == {"8.4.21", "9.2.11"}


def test_a_node_that_stands_alone_is_quorate() -> None:
    for status, nodes in zip(reads("cluster status"), reads("nodes"), strict=True):
        seen = run(client(script(status, nodes)).cluster())
        expected = NodeState(name=PVE1, online=True, uptime_s=seen.nodes[0].uptime_s)
        assert seen == ClusterState(quorate=True, nodes=(expected,), date_s=status.date_s)
        assert expected.uptime_s > 0
        assert status.date_s > 1_790_000_000


def test_resources_with_lock_and_template_are_read() -> None:
    for answer in reads("resources"):
        rows = {row.vmid: row for row in run(client(script(answer)).resources())}
        assert rows[Vmid(900)].status is Power.STOPPED
        assert rows[Vmid(900)].lock == ""
        assert rows[Vmid(901)].lock == "create"
    for answer in reads("resources with a container"):
        (row,) = run(client(script(answer)).resources())
        assert (row.type, row.vmid, row.node) == (GuestType.LXC, Vmid(800), PVE1)
        assert (row.name, row.status, row.max_cpu) == ("ct800", Power.STOPPED, 2.0)
        assert (row.max_memory // 2**20, row.max_disk) in {(64, 4 * 2**30), (65, 4 * 2**30)}


def test_the_guests_of_a_node_are_read() -> None:
    for qemu, lxc in zip(reads("qemu list"), reads("lxc list"), strict=True):
        live = run(client(script(qemu, lxc)).statuses(PVE1))
        assert live[Vmid(904)] is live[Vmid(800)] is Power.STOPPED


def test_configs_become_text_with_the_digest_apart_and_what_waits_named() -> None:
    for answer in reads("pending"):
        read = run(client(script(answer)).config(PVE1, GuestType.QEMU, Vmid(900)))
        assert read.pending == ("cores",)
        assert read.config["cores"] == "2"
        assert read.config["kvm"] == "0"
        assert "digest" not in read.config
        assert len(read.digest) == 40
    for answer in reads("nothing pending"):
        assert run(client(script(answer)).config(PVE1, GuestType.QEMU, Vmid(900))).pending == ()


def test_power_is_read() -> None:
    for name, expected in (("current running", True), ("current stopped", False)):
        for answer in reads(name):
            assert run(client(script(answer)).running(PVE1, GuestType.QEMU, Vmid(900))) is expected


@pytest.mark.parametrize("name", ["qemu absent", "lxc absent"])
def test_a_guest_that_is_not_there_is_absent(name: str) -> None:
    for answer in reads(name):
        with pytest.raises(Absent):
            run(client(script(answer)).config(PVE1, GuestType.QEMU, Vmid(999)))
        with pytest.raises(Absent):
            run(client(script(answer)).running(PVE1, GuestType.QEMU, Vmid(999)))


@pytest.mark.parametrize(
    "name",
    ["config not permitted", "daemon down", "entry without pmxcfs", "no such call", "unauthenticated", "unknown node"],
)
def test_no_other_failure_is_taken_for_absence(name: str) -> None:
    for answer in reads(name):
        with pytest.raises(ReadFailed) as caught:
            run(client(failing(answer)).config(PVE1, GuestType.QEMU, Vmid(900)))
        assert not isinstance(caught.value, Absent)
        assert caught.value.status == answer.status


def test_task_lists_name_running_and_finished_tasks_by_their_upid() -> None:
    permitted = HttpAnswer(status=200, body=b'{"data":{"/nodes/pve1":{"Sys.Audit":0}}}')
    for answer in reads("tasks"):
        listed = run(client(script(permitted, answer, permitted)).tasks(PVE1))
        assert {row.status for row in listed.rows} >= {"RUNNING", "OK"}
        assert all("!" in row.upid.user for row in listed.rows)  # the list's own `user` has lost it for some
        assert listed.sees_all
        assert listed.index_bytes == sum(
            len(row.upid.text) + len(row.status) + 12 for row in listed.rows if row.status != "RUNNING"
        )
    for answer in reads("no tasks"):
        assert run(client(script(permitted, answer, permitted)).tasks(PVE1)).rows == ()


def test_task_states_are_read() -> None:
    upid = Upid.parse("UPID:pve1:00001E85:0008EA42:6B046C7F:qmstart:720:agent@pve!ag:")
    expected = {
        "task running": TaskState(running=True),
        "task ok": TaskState(running=False, exit_status="OK"),
        "task warnings": TaskState(running=False, exit_status="WARNINGS: 1"),
        "task killed": TaskState(running=False, exit_status="unexpected status"),
        "no such task": None,
    }
    for name, state in expected.items():
        for answer in reads(name):
            assert run(client(script(answer)).task(upid)) == state
    for name in ("task not permitted", "unparsable UPID"):
        for answer in reads(name):
            with pytest.raises(ReadFailed):
                run(client(script(answer)).task(upid))


@pytest.mark.parametrize(
    ("name", "sees"),
    [("permissions agent-token", True), ("permissions audit-token", True), ("permissions token-noprivs", False)],
)
def test_privileges_are_read(name: str, sees: bool) -> None:
    for answer in reads(name):
        assert run(client(script(answer)).sees_all_guests()) is sees
