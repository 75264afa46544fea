"""What `trueup ops show` says is to be done about an operation is done, and then it is in order. On virtual time."""

import re
from collections.abc import Callable

import msgspec
import pytest

from pvesim import workers
from tests.operator.following import quoted
from tests.operator.night import LXC, QEMU, Person, all_but, limited, lived
from tests.simulation.cluster import SimCluster
from tests.simulation.gate_harness import OURS, spec_of
from tests.simulation.gate_people import POLICY
from tests.simulation.gate_stories import snapshot
from tests.simulation.scenarios import ct, vm
from trueup.edges.cli.words import TO_DO, TO_DO_ANEW, TO_DO_HALF_MADE
from trueup.model.errors import ReadFailed
from trueup.model.gate_answers import ResolvedAs
from trueup.model.guests import Clone, Power
from trueup.model.ids import GuestType, NodeName, Vmid
from trueup.model.ops import Kind, OpState, Reason

STARTS = vm(OURS, name="ours", config={"cores": "1", "memory": "512"})
CONFIGURED = msgspec.structs.replace(STARTS, power=Power.STOPPED, config={**STARTS.config, "onboot": "1"})
CLONE = vm(101, source=Clone(source=Vmid(9000)), power=Power.STOPPED)
TEMPLATE = {
    "type": "qemu", "vmid": 9000, "node": "pve1", "name": "debian-12", "template": True,
    "config": {"cores": 1, "memory": 1024, "scsi0": "shared:base-9000-disk-0,size=8G"},
}  # fmt: skip
NODE = "is the node up, and pvedaemon on it?"
START, CONFIG = r"/status/start$", r"/301/config$"


def with_template(node: str = "pve1") -> dict[str, object]:
    spec = spec_of(QEMU, {})
    return {**spec, "guests": [*spec["guests"], {**TEMPLATE, "node": node}]}  # type: ignore[misc]


def fault(name: str, path: str, **more: object) -> tuple[dict[str, object], ...]:
    return ({"fault": name, "path": path, **more},)


def graced(one: Person) -> None:
    """What is accepted waits for ten minutes."""
    one.post.people.policy = POLICY.replace(
        "people: 2, roles: [operator],", "people: 2, roles: [operator], grace: 10m,"
    )
    one.post.people._files = None


def test_a_node_that_cannot_be_read() -> None:
    """Every command that reads may say so."""

    async def person(one: Person) -> None:
        eyes, node = one.post._eyes(), NodeName("pve2")
        one.act(action="node_down", node=node)
        with pytest.raises(ReadFailed) as caught:
            await eyes.tasks(node)
        assert caught.value.remedy == NODE
        one.act(action="node_up", node=node)
        assert await eyes.tasks(node)

    lived(person)


# --- it failed, and a pass plans it anew ------------------------------------------------------------------------------


def test_a_task_that_ended_with_an_error() -> None:
    async def person(one: Person) -> None:
        one.act(action="quota", storage="local-lvm", bytes=1)
        failed = await one.reads(Kind.CREATE, TO_DO[Reason.TASK_ERROR])
        assert "free space in thin pool" in await one.log(failed)
        assert not failed.leftovers
        one.act(action="quota", storage="local-lvm")
        await one.succeeds(Kind.CREATE, failed)

    lived(person, desired=[vm(101, config={"scsi0": {"storage": "local-lvm", "size": "8G"}})])


def test_a_refusal_that_the_manifest_mends() -> None:
    wanted = [vm(101, config={"scsi0": {"storage": "nowhere", "size": "8G"}})]

    async def person(one: Person) -> None:
        failed = await one.reads(Kind.CREATE, TO_DO[Reason.REFUSED])
        assert "nowhere" in failed.exit_status
        wanted[:] = [vm(101, config={"scsi0": {"storage": "local-lvm", "size": "8G"}})]
        await one.succeeds(Kind.CREATE, failed)

    lived(person, desired=wanted)


def test_a_killed_task_whose_rest_is_cleared_away() -> None:
    async def person(one: Person) -> None:
        one.act(action="duration", type="qmclone", seconds=300)
        await one.under_way(Kind.CLONE, OpState.TASK_RUNNING)
        one.act(action="reboot", node="pve1")
        killed = await one.reads(Kind.CLONE, TO_DO[Reason.KILLED])
        state = await one.api("GET", "/nodes/pve1/status")
        assert isinstance(state, dict)
        assert int(state["uptime"]) < 600, "it was a reboot"
        assert killed.leftovers == ("lock: clone",)
        one.act(action="lock", vmid=101)
        await one.api("DELETE", "/nodes/pve1/qemu/101")
        await one.succeeds(Kind.CLONE, killed)

    lived(person, spec=with_template(), desired=[CLONE])


def test_a_task_with_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = workers.launch

    def warns(*given: object, **named: object) -> workers.Job:
        job = launch(*given, **named)  # type: ignore[arg-type]
        if job.task.type == "qmstart":
            job.warnings = 1
            job.log("WARN: no efidisk configured! Using temporary efivars disk.")
        return job

    monkeypatch.setattr(workers, "launch", warns)

    async def person(one: Person) -> None:
        started = await one.reads(Kind.START, TO_DO[Reason.TASK_WARNINGS])
        assert "efidisk" in await one.log(started)

    lived(person, desired=[STARTS])


# --- it failed, and only people can ask for it anew -------------------------------------------------------------------


def test_a_signed_one_that_was_never_acted_on() -> None:
    async def person(one: Person) -> None:
        paper = await one.asks("destroy")
        failed = await one.reads(Kind.DESTROY, TO_DO_ANEW)
        assert failed.reason is Reason.NOT_STARTED
        await one.anew(paper)
        assert not one.cluster.has(OURS)

    lived(person, faults=fault("request_lost", CONFIG, method="PUT"))


def test_a_signed_one_that_was_refused() -> None:
    async def person(one: Person) -> None:
        paper = await one.asks("destroy")
        failed = await one.reads(Kind.DESTROY, TO_DO[Reason.REFUSED], TO_DO_ANEW)
        assert "running" in failed.exit_status
        await one.api("POST", f"/nodes/pve1/qemu/{OURS}/status/stop")
        await one.anew(paper)

    lived(person, spec=spec_of(QEMU, {}, "running"))


def test_a_signed_one_that_somebody_vetoed() -> None:
    async def person(one: Person) -> None:
        graced(one)
        paper = await one.asks("destroy")
        (op,) = await one.ops(Kind.DESTROY)
        await one.post.hand_in(one.post.veto(op.op_id, by="bob"), "http")
        failed = await one.reads(Kind.DESTROY, TO_DO[Reason.VETOED], TO_DO_ANEW)
        said = " ".join(moment.words for moment in (await one.story(failed)).moments)
        found = re.search(r"(\w+) vetoed it, because of \"not today\"", said)
        assert found
        assert found[1] == "bob", "he is the one to ask; by now he agrees, and signs"
        await one.anew(paper)

    lived(person)


def test_a_guest_that_is_not_what_was_signed_for() -> None:
    async def person(one: Person) -> None:
        graced(one)
        paper = await one.asks("destroy")
        one.cluster.put({"vmid": OURS, "config": {"memory": 777}})
        await one.reads(Kind.DESTROY, TO_DO[Reason.NOT_AS_SIGNED], TO_DO_ANEW)
        seen = await one.api("GET", f"/nodes/pve1/qemu/{OURS}/config")
        assert isinstance(seen, dict)
        assert str(seen["memory"]) == "777"
        await one.anew(paper)

    lived(person)


def test_a_signed_one_that_was_killed() -> None:
    async def person(one: Person) -> None:
        one.act(action="duration", type="qmrollback", seconds=300)
        paper = await one.asks("rollback", snapshot="before")
        await one.under_way(Kind.ROLLBACK, OpState.TASK_RUNNING)
        one.act(action="reboot", node="pve1")
        killed = await one.reads(Kind.ROLLBACK, TO_DO[Reason.KILLED], TO_DO_ANEW)
        assert killed.leftovers == ("lock: rollback",)
        one.act(action="lock", vmid=OURS)
        one.act(action="duration", type="qmrollback", seconds=1)
        await one.anew(paper)

    lived(person, set_up=snapshot)


# --- it is open -------------------------------------------------------------------------------------------------------


def test_a_task_list_of_a_node_that_is_down() -> None:
    spec = spec_of(QEMU, {})
    there = [{**guest, "node": "pve2"} for guest in spec["guests"]]  # type: ignore[attr-defined]

    async def person(one: Person) -> None:
        await one.under_way(Kind.START)
        one.act(action="node_down", node="pve2")
        op = await one.reads(Kind.START, TO_DO[Reason.TASK_UNKNOWN])
        one.act(action="node_up", node="pve2")
        await one.succeeds(Kind.START, await one.ended(op))

    wanted = msgspec.structs.replace(STARTS, node=NodeName("pve2"))
    lived(person, spec={**spec, "guests": there}, desired=[wanted], faults=fault("request_lost", START))


def test_a_task_list_that_the_token_may_not_see() -> None:
    async def person(one: Person) -> None:
        op = await one.reads(Kind.START, TO_DO[Reason.TASK_UNKNOWN])
        await one.give(*all_but())
        await one.succeeds(Kind.START, await one.ended(op))

    spec = limited(spec_of(QEMU, {}), "Sys.Audit")
    lived(person, dies_at="start sent", spec=spec, desired=[STARTS], keeper=True, faults=fault("request_lost", START))


def test_a_goal_that_is_not_reached() -> None:
    async def person(one: Person) -> None:
        op = await one.reads(Kind.START, TO_DO[Reason.GOAL_NOT_REACHED])
        seen = await one.api("GET", f"/nodes/pve1/qemu/{OURS}/status/current")
        assert isinstance(seen, dict)
        assert seen["status"] == "stopped"
        assert not seen["ha"]["managed"]
        await one.api("POST", f"/nodes/pve1/qemu/{OURS}/status/start")
        assert (await one.ended(op)).state is OpState.SUCCEEDED

    lived(person, desired=[STARTS], faults=fault("task_ok_without_effect", START))


@pytest.mark.parametrize("how", ["wait", "end them"])
def test_children_that_may_live(how: str) -> None:
    async def person(one: Person) -> None:
        op = await one.reads(Kind.START, TO_DO[Reason.CHILDREN_MAY_LIVE])
        if how == "wait":
            assert (await one.ended(op)).state is OpState.SUCCEEDED
            return
        kernel = one.cluster.world._m.kernel
        (child,) = kernel.group(("orphan", "pve1"))
        kernel.kill(child)
        assert (await one.ended(op)).reason is Reason.KILLED
        await one.succeeds(Kind.START, op)

    lived(person, desired=[STARTS], faults=fault("task_killed", START))


def test_a_guest_that_the_token_may_not_see() -> None:
    async def person(one: Person) -> None:
        await one.under_way(Kind.START)
        await one.give(*all_but("VM.Audit"))
        op = await one.reads(Kind.START, TO_DO[Reason.UNREADABLE])
        await one.give(*all_but())
        await one.succeeds(Kind.START, await one.ended(op))

    lived(person, spec=limited(spec_of(QEMU, {})), desired=[STARTS], faults=fault("request_lost", START))


def test_half_a_guest_on_which_nobody_works() -> None:
    async def person(one: Person) -> None:
        one.act(action="duration", type="qmclone", seconds=300)
        await one.under_way(Kind.CLONE, OpState.TASK_RUNNING)
        one.act(action="node_down", node="pve1")
        one.act(action="forget_tasks", node="pve1")
        one.act(action="node_up", node="pve1")
        half = TO_DO_HALF_MADE.format(tool="qm", vmid=101)
        op = await one.reads(Kind.CLONE, TO_DO[Reason.PARTIAL], half)
        assert one.guest(101)["lock"] == "clone"
        assert await one.api("GET", "/nodes/pve1/tasks", source="active") == [], "nobody is at work"
        assert quoted(half) == ["qm unlock 101", "qm destroy 101"]
        one.act(action="lock", vmid=101)
        await one.api("DELETE", "/nodes/pve1/qemu/101")
        await one.ended(op)
        await one.succeeds(Kind.CLONE, op)

    lived(person, spec=with_template(), desired=[CLONE])


def test_what_only_a_person_can_tell() -> None:
    """A rollback of a container, cut off by a power failure that took the task's log with it."""

    async def person(one: Person) -> None:
        one.act(action="duration", type="vzrollback", seconds=300)
        await one.asks("rollback", snapshot="before")
        await one.under_way(Kind.ROLLBACK, OpState.TASK_RUNNING)
        one.act(action="node_down", node="pve1")
        one.act(action="forget_tasks", node="pve1")
        one.act(action="node_up", node="pve1")
        await one.reads(Kind.ROLLBACK, TO_DO[Reason.PARTIAL])
        one.act(action="lock", vmid=OURS)
        op = await one.reads(Kind.ROLLBACK, TO_DO[Reason.UNKNOWABLE])
        seen = await one.api("GET", f"/nodes/pve1/lxc/{OURS}/config")
        assert isinstance(seen, dict)
        await one.resolves(op, ResolvedAs.FAILED)

    lived(person, spec=spec_of(LXC, {}), set_up=snapshot)


def test_what_somebody_else_did() -> None:
    async def person(one: Person) -> None:
        await one.asks("stop")
        await one.under_way(Kind.STOP)
        await one.api("POST", f"/nodes/pve1/qemu/{OURS}/status/stop")
        op = await one.reads(Kind.STOP, TO_DO[Reason.NOT_ATTRIBUTABLE])
        rows = await one.api("GET", "/nodes/pve1/tasks", vmid=str(OURS), typefilter="qmstop")
        assert isinstance(rows, list)
        assert {row["user"] for row in rows} == {"root@pam"}
        await one.resolves(op, ResolvedAs.FAILED)

    lived(person, spec=spec_of(QEMU, {}, "running"), faults=fault("request_lost", "/status/stop$"))


def lose_quorum(cluster: SimCluster) -> Callable[[], None]:
    cluster.act({"action": "quorum", "quorate": False})
    return lambda: cluster.act({"action": "quorum", "quorate": True})


def lose_node(cluster: SimCluster) -> Callable[[], None]:
    cluster.act({"action": "node_down", "node": "pve2"})
    return lambda: cluster.act({"action": "node_up", "node": "pve2"})


def lose_marker(cluster: SimCluster) -> Callable[[], None]:
    guests = cluster.world.state()["guests"]
    text = next(guest["config"]["description"] for guest in guests if guest["vmid"] == OURS)  # type: ignore[union-attr, index, call-overload]
    cluster.put({"vmid": OURS, "config": {"description": None}})
    return lambda: cluster.put({"vmid": OURS, "config": {"description": text}})


@pytest.mark.parametrize(("lose", "guest"), [(lose_quorum, QEMU), (lose_node, LXC), (lose_marker, QEMU)])
def test_a_guest_that_cannot_be_fenced(lose: Callable[[SimCluster], Callable[[], None]], guest: GuestType) -> None:
    """The config of a container is written without a task, so the silence of its node's list matters to nobody."""
    spec = spec_of(guest, {})
    there = [{**guest, "node": "pve2"} for guest in spec["guests"]]  # type: ignore[attr-defined]

    async def person(one: Person) -> None:
        await one.under_way(Kind.CONFIGURE)
        back = lose(one.cluster)
        op = await one.reads(Kind.CONFIGURE, TO_DO[Reason.FENCE_IMPOSSIBLE])
        back()
        assert (await one.ended(op)).reason is Reason.NOT_STARTED
        await one.succeeds(Kind.CONFIGURE, op)

    wanted = [msgspec.structs.replace(CONFIGURED, node=NodeName("pve2"))]
    if guest is LXC:
        wanted = [ct(OURS, name="ours", node=NodeName("pve2"), power=Power.STOPPED, config={"onboot": "1"})]
    lived(person, spec={**spec, "guests": there}, desired=wanted, faults=fault("request_lost", CONFIG))


def test_a_lock_that_somebody_holds() -> None:
    async def person(one: Person) -> None:
        one.act(action="duration", type="vzdump", seconds=900)
        await one.under_way(Kind.START)
        await one.api("POST", "/nodes/pve1/vzdump", waits=False, vmid=str(OURS), storage="backup")
        op = await one.reads(Kind.START, TO_DO[Reason.LOCK_HELD])
        await one.succeeds(Kind.START, await one.ended(op))

    lived(person, desired=[STARTS], faults=fault("request_lost", START))


FOLLOWED = {NODE, TO_DO_ANEW, TO_DO_HALF_MADE} | {
    TO_DO[reason]
    for reason in (
        Reason.TASK_WARNINGS,
        Reason.REFUSED,
        Reason.TASK_ERROR,
        Reason.KILLED,
        Reason.VETOED,
        Reason.NOT_AS_SIGNED,
        Reason.TASK_UNKNOWN,
        Reason.GOAL_NOT_REACHED,
        Reason.CHILDREN_MAY_LIVE,
        Reason.UNREADABLE,
        Reason.PARTIAL,
        Reason.UNKNOWABLE,
        Reason.NOT_ATTRIBUTABLE,
        Reason.FENCE_IMPOSSIBLE,
        Reason.LOCK_HELD,
    )
}
