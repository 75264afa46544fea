"""Whom the client asks, how many at once, and what it makes of the answers."""

import asyncio
import inspect
import typing

import pytest

from tests.pve.fakes import (
    FakeTransport,
    api,
    client,
    died,
    failing,
    late,
    lost,
    ok,
    script,
    unreachable,
)
from tests.pve.servers import SteppedClock, run
from trueup import ports
from trueup.adapters.pve import PveClient
from trueup.adapters.pve_api import DAEMON_READS_PER_NODE, MUTATION_ANSWER_MAX_BYTES
from trueup.adapters.pve_endpoints import ENDPOINT_REST_S
from trueup.adapters.pve_http import HEADER_MAX_BYTES, KEEP_ALIVE_S
from trueup.adapters.pve_keeper import PveKeeper
from trueup.adapters.pve_wire import HttpAnswer, HttpRequest
from trueup.model.errors import Absent, BadInput, NotSent, ReadFailed, Refused, Unknown
from trueup.model.guests import Power
from trueup.model.ids import GuestType, NodeName, TokenId, Upid, Vmid
from trueup.model.limits import (
    ANSWER_MAX_BYTES,
    ERROR_TEXT_MAX,
    READ_TRIES,
    READS_AT_ONCE,
    READS_PER_NODE,
    TASK_PAGE,
    TASK_PAGES_MAX,
)
from trueup.model.pve import Call, Done

A, B, C = ENDPOINTS = ("https://pve1:8006", "https://pve2:8006", "https://pve3:8006")
VERSION = ok('{"version":"9.2.11"}')
SICK = died("RPCEnvironment init request failed: Unable to load access control list: Connection refused")
START = Call(method="POST", path="/nodes/pve1/qemu/105/status/start", send_by=99.0)
PVE1 = NodeName("pve1")


def asked(transport: FakeTransport) -> list[str]:
    return [request.endpoint for request in transport.requests]


def test_the_client_is_what_the_engine_asks_for() -> None:
    for port, adapter in ((ports.Pve, PveClient), (ports.Keeper, PveKeeper)):
        for name in typing.get_type_hints(port).keys() | {n for n in vars(port) if not n.startswith("_")}:
            wanted, found = getattr(port, name), getattr(adapter, name)
            if inspect.isfunction(wanted):
                assert inspect.signature(wanted) == inspect.signature(found), name
                assert inspect.iscoroutinefunction(wanted) == inspect.iscoroutinefunction(found), name
    pve: ports.Pve = client(script())
    assert pve.token == "agent@pve!epoch1"


def test_limits_lean_on_each_other() -> None:
    assert DAEMON_READS_PER_NODE < READS_PER_NODE < READS_AT_ONCE
    assert KEEP_ALIVE_S < 5  # PVE's own
    assert MUTATION_ANSWER_MAX_BYTES < ANSWER_MAX_BYTES
    assert HEADER_MAX_BYTES > ERROR_TEXT_MAX  # a reason phrase holds a whole error text


# --- reads over several endpoints


def test_a_read_goes_on_to_the_next_endpoint_and_stays_there() -> None:
    transport = script(unreachable(), VERSION, VERSION)
    pve = client(transport, ENDPOINTS)
    assert run(pve.version()) == "9.2.11"
    assert run(pve.version()) == "9.2.11"
    assert asked(transport) == [A, B, B]


def test_an_endpoint_that_failed_is_asked_last_until_it_has_rested() -> None:
    clock = SteppedClock()
    transport = script(unreachable(), VERSION, unreachable(), VERSION, unreachable(), VERSION)
    pve = client(transport, ENDPOINTS, clock)
    run(pve.version())
    run(pve.version())
    assert asked(transport)[2:] == [B, C]
    clock.now += ENDPOINT_REST_S + 1
    run(pve.version())
    assert asked(transport)[4:] == [C, A]


def test_with_every_endpoint_failing_the_read_fails_after_bounded_tries() -> None:
    transport = failing(unreachable())
    with pytest.raises(ReadFailed, match="cannot connect"):
        run(client(transport, ENDPOINTS).version())
    assert sorted(asked(transport)) == list(ENDPOINTS)
    transport = failing(unreachable())
    with pytest.raises(ReadFailed):
        run(client(transport).version())
    assert len(transport.requests) == 1
    transport = failing(lost())
    with pytest.raises(ReadFailed):
        run(client(transport).version())
    assert len(transport.requests) == READ_TRIES


def test_an_endpoint_without_its_cluster_file_system_is_left_for_another() -> None:
    transport = script(SICK, VERSION, VERSION)
    pve = client(transport, ENDPOINTS)
    run(pve.version())
    run(pve.version())
    assert asked(transport) == [A, B, B]
    with pytest.raises(ReadFailed, match="RPCEnvironment"):
        run(client(failing(SICK), ENDPOINTS).version())


def test_an_answer_about_the_guest_or_its_node_is_not_asked_for_again_elsewhere() -> None:
    for answer in (died("anything"), HttpAnswer(status=595), HttpAnswer(status=596), HttpAnswer(status=401)):
        transport = failing(answer)
        with pytest.raises(ReadFailed):
            run(client(transport, ENDPOINTS).config(PVE1, GuestType.QEMU, Vmid(105)))
        assert asked(transport) == [A]


def test_no_endpoint_is_no_cluster() -> None:
    with pytest.raises(BadInput):
        client(script(), ())


# --- mutations over several endpoints


def test_a_mutation_goes_to_the_present_endpoint() -> None:
    transport = script(unreachable(), VERSION, ok("null"))
    pve = client(transport, ENDPOINTS)
    run(pve.version())
    assert run(pve.send(START)) == Done()
    assert asked(transport)[-1] == B
    sent = transport.requests[-1]
    assert (sent.mutation, sent.send_by, sent.node, sent.method) == (True, 99.0, "pve1", "POST")


def test_a_mutation_goes_on_only_while_not_one_byte_was_sent() -> None:
    transport = script(unreachable(), lost(sent=False), ok("null"))
    assert run(client(transport, ENDPOINTS).send(START)) == Done()
    assert asked(transport) == [A, B, C]

    transport = script(unreachable(), lost(sent=True))
    with pytest.raises(Unknown):
        run(client(transport, ENDPOINTS).send(START))
    assert asked(transport) == [A, B]

    transport = failing(unreachable())
    with pytest.raises(NotSent, match="cannot connect"):
        run(client(transport, ENDPOINTS).send(START))
    assert asked(transport) == [A, B, C]


def test_a_mutation_that_is_late_is_late_everywhere() -> None:
    transport = failing(late())
    with pytest.raises(NotSent, match="expired"):
        run(client(transport, ENDPOINTS).send(START))
    assert asked(transport) == [A]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (died("VM is locked (backup)"), Refused),
        (died("anything"), Unknown),
        (SICK, NotSent),
        (HttpAnswer(status=595, reason="Connection refused"), NotSent),
        (HttpAnswer(status=596, reason="Connection timed out"), Unknown),
        (HttpAnswer(status=401, reason="No ticket"), NotSent),
    ],
)
def test_an_answered_mutation_is_never_sent_again(answer: HttpAnswer, error: type[Exception]) -> None:
    transport = failing(answer)
    with pytest.raises(error):
        run(client(transport, ENDPOINTS).send(Call(method="PUT", path="/nodes/pve1/qemu/105/config")))
    assert asked(transport) == [A]


def test_odd_paths_are_quoted_and_quoted_ones_are_left_alone() -> None:
    transport = failing(ok("null"))
    pve = client(transport)
    run(pve.send(Call(method="DELETE", path="/nodes/pve1/storage/local/content/local:backup/a b\r\n.vma")))
    run(pve.send(Call(method="DELETE", path="/nodes/pve1/tasks/UPID%3Apve1")))
    assert [request.path for request in transport.requests] == [
        "/nodes/pve1/storage/local/content/local:backup/a%20b%0D%0A.vma",
        "/nodes/pve1/tasks/UPID%3Apve1",
    ]


# --- how many at once


class Crowd:
    """A transport that lets nobody through until told, and counts who waits."""

    def __init__(self) -> None:
        self.waiting: list[HttpRequest] = []
        self.open = asyncio.Event()

    async def exchange(self, request: HttpRequest) -> HttpAnswer:
        self.waiting.append(request)
        try:
            if request.node == "slow":
                await self.open.wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.waiting.remove(request)
        if request.path.endswith("/pending"):
            return ok('[{"key":"digest","value":"x"}]')
        return ok('{"status":"running","vmid":1}')


def test_a_slow_node_holds_up_its_own_reads_and_nobody_elses() -> None:
    async def story() -> None:
        crowd = Crowd()
        pve = PveClient(api=api(crowd), token=TokenId("a@pve!x"))  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as group:
            for vmid in range(200):
                group.create_task(pve.config(NodeName("slow"), GuestType.QEMU, Vmid(vmid)))
                group.create_task(pve.running(NodeName("slow"), GuestType.QEMU, Vmid(vmid)))
            await asyncio.sleep(0.01)
            assert len(crowd.waiting) == READS_PER_NODE
            daemon = [request for request in crowd.waiting if request.path.endswith("current")]
            assert len(daemon) <= DAEMON_READS_PER_NODE
            for vmid in range(200):
                await pve.running(PVE1, GuestType.QEMU, Vmid(vmid))
            crowd.open.set()

    run(story())


def test_all_reads_together_and_the_mutations_of_a_node_are_bounded() -> None:
    async def story() -> None:
        crowd = Crowd()
        pve = PveClient(api=api(crowd, slots=3), token=TokenId("a@pve!x"))  # type: ignore[arg-type]
        most = 0

        async def count(request: HttpRequest) -> HttpAnswer:
            nonlocal most
            crowd.waiting.append(request)
            most = max(most, len(crowd.waiting))
            await asyncio.sleep(0.001)
            crowd.waiting.remove(request)
            return ok('{"status":"running","vmid":1}')

        crowd.exchange = count  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as group:
            for number in range(400):
                group.create_task(pve.running(NodeName(f"n{number % 40}"), GuestType.QEMU, Vmid(1)))
        assert most == READS_AT_ONCE
        most = 0
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(pve.send(START))
        assert most == 3

    run(story())


# --- reads one by one


def test_quorum_nodes_and_uptime_come_from_two_lists() -> None:
    status = """[{"type":"cluster","name":"c","quorate":0,"nodes":2,"version":2},
        {"type":"node","name":"pve1","online":1,"local":1},{"type":"node","name":"pve2","online":0}]"""
    nodes = '[{"node":"pve1","status":"online","uptime":77.0},{"node":"pve2","status":"offline"}]'
    state = run(client(script(ok(status), ok(nodes))).cluster())
    assert not state.quorate
    assert [(node.name, node.online, node.uptime_s) for node in state.nodes] == [("pve1", True, 77), ("pve2", False, 0)]
    with pytest.raises(ReadFailed):
        run(client(script(ok("[]"), ok("[]"))).cluster())


def test_numbers_and_booleans_come_in_every_spelling_of_perl() -> None:
    rows = """[{"vmid":"105","type":"qemu","node":"pve1","name":7,"status":"running","template":"1",
         "hastate":"started"},
        {"vmid":106,"type":"lxc","node":"pve1","status":"unknown","template":"","lock":null},
        {"vmid":107,"type":"lxc","node":"pve1","name":null,"status":null,"template":true}]"""
    first, second, third = run(client(failing(ok(rows))).resources())
    assert (first.vmid, first.name, first.template, first.ha, first.status) == (
        105,
        "7",
        True,
        "started",
        Power.RUNNING,
    )
    assert (second.template, second.lock, second.status, second.name) == (False, "", Power.UNKNOWN, "")
    assert (third.template, third.status) == (True, Power.UNKNOWN)
    values = """[{"key":"digest","value":"abc"},{"key":"a","value":1},{"key":"b","value":true},
        {"key":"c","value":false},{"key":"d","value":1.5},{"key":"e","value":2.0},{"key":"f","value":"x"},
        {"key":"g","value":null},{"key":"lxc","value":[["lxc.a","b"]]}]"""
    read = run(client(failing(ok(values))).config(PVE1, GuestType.LXC, Vmid(105)))
    assert read.config == {
        "a": "1",
        "b": "1",
        "c": "0",
        "d": "1.5",
        "e": "2",
        "f": "x",
        "g": "",
        "lxc": '[["lxc.a","b"]]',
    }


@pytest.mark.parametrize(
    "rows",
    [
        '[{"vmid":105,"type":"openvz","node":"pve1"}]',
        '[{"vmid":105,"type":"qemu"}]',
        '[{"vmid":"x","type":"qemu","node":"pve1"}]',
        '[{"type":"qemu","node":"pve1"}]',
        '[{"vmid":105,"type":"qemu","node":"pve1"},null]',
        "null",
    ],
)
def test_a_list_with_a_row_that_cannot_be_read_is_not_read_at_all(rows: str) -> None:
    with pytest.raises(ReadFailed, match="not what PVE sends"):
        run(client(failing(ok(rows))).resources())


@pytest.mark.parametrize("data", ['{"name":"a"}', '{"digest":""}', "null", "[]"])
def test_a_config_without_a_digest_is_not_read(data: str) -> None:
    with pytest.raises(ReadFailed):
        run(client(failing(ok(data))).config(PVE1, GuestType.QEMU, Vmid(105)))


def test_deletions_and_changes_are_pending() -> None:
    rows = """[{"key":"cores","value":2,"pending":4},{"key":"net1","value":"x","delete":1},{"key":"a","value":"b"},
        {"key":"new","pending":""},{"key":"gone","value":"x","delete":"2"},{"key":"digest","value":"abc"}]"""
    read = run(client(failing(ok(rows))).config(PVE1, GuestType.QEMU, Vmid(105)))
    assert read.pending == ("cores", "gone", "net1", "new")
    assert read.config == {"cores": "4", "a": "b", "new": ""}


def test_one_config_is_one_call() -> None:
    transport = failing(ok('[{"key":"digest","value":"abc"}]'))
    run(client(transport).config(PVE1, GuestType.QEMU, Vmid(105)))
    assert [(r.method, r.path, dict(r.params)) for r in transport.requests] == [
        ("GET", "/nodes/pve1/qemu/105/pending", {})
    ]


def test_a_digest_that_is_left_out_is_asked_for() -> None:
    transport = script(ok('[{"key":"cores","value":2,"pending":4}]'), ok('{"cores":4,"digest":"abc"}'))
    read = run(client(transport).config(PVE1, GuestType.QEMU, Vmid(105)))
    assert (read.config, read.digest, read.pending) == ({"cores": "4"}, "abc", ("cores",))
    with pytest.raises(ReadFailed):
        run(client(script(ok("[]"), ok('{"cores":4}'))).config(PVE1, GuestType.QEMU, Vmid(105)))


@pytest.mark.parametrize("status", ["paused", "", "unknown"])
def test_a_power_state_that_is_neither_is_not_read(status: str) -> None:
    with pytest.raises(ReadFailed):
        run(client(failing(ok(f'{{"vmid":1,"status":"{status}"}}'))).running(PVE1, GuestType.QEMU, Vmid(1)))


# --- tasks


def upid(number: int) -> str:
    return f"UPID:pve1:{number:08X}:0008EA42:6B046C7F:qmstart:{number}:agent@pve!epoch1:"


def rows_of(numbers: range, status: str = "OK") -> str:
    return "[" + ",".join(f'{{"upid":"{upid(n)}","status":"{status}","endtime":5}}' for n in numbers) + "]"


PERMITTED = ok('{"/nodes/pve1":{"Sys.Audit":1}}')
UNPERMITTED = ok("{}")


def test_a_task_list_is_read_page_by_page_to_its_end_and_each_task_once() -> None:
    first, second = range(TASK_PAGE), range(TASK_PAGE - 10, TASK_PAGE + 7)
    transport = script(PERMITTED, ok(rows_of(first)), ok(rows_of(second)), PERMITTED)
    listed = run(client(transport).tasks(PVE1))
    assert len(listed.rows) == TASK_PAGE + 7
    pages = [dict(request.params) for request in transport.requests if request.path == "/nodes/pve1/tasks"]
    assert pages == [
        {"source": "all", "limit": str(TASK_PAGE), "start": "0"},
        {"source": "all", "limit": str(TASK_PAGE), "start": str(TASK_PAGE)},
    ]


def test_a_full_last_page_is_followed_by_an_empty_one_and_a_list_without_end_is_not_read() -> None:
    transport = script(PERMITTED, ok(rows_of(range(TASK_PAGE))), ok("[]"), PERMITTED)
    assert len(run(client(transport).tasks(PVE1)).rows) == TASK_PAGE
    transport = FakeTransport(failing(ok(rows_of(range(TASK_PAGE)))).exchange)
    with pytest.raises(ReadFailed, match="does not end"):
        run(client(transport).tasks(PVE1))
    assert len(transport.requests) == TASK_PAGES_MAX + 1


def test_a_task_that_ends_between_two_pages_has_ended() -> None:
    running = rows_of(range(TASK_PAGE - 1))[:-1] + f',{{"upid":"{upid(7777)}","status":"RUNNING"}}]'
    ended = f'[{{"upid":"{upid(7777)}","status":"OK","endtime":9}}]'
    listed = run(client(script(PERMITTED, ok(running), ok(ended), PERMITTED)).tasks(PVE1))
    assert [row.status for row in listed.rows if row.upid.text == upid(7777)] == ["OK"]
    backwards = run(client(script(PERMITTED, ok(f"[{ended[1:-1]},{running[1:]}"), ok("[]"), PERMITTED)).tasks(PVE1))
    assert [row.status for row in backwards.rows if row.upid.text == upid(7777)] == ["OK"]


def test_rows_without_a_upid_are_left_out_but_their_bytes_count() -> None:
    rows = f'[{{"upid":"nonsense","status":"OK"}},{{"upid":"{upid(1)}","status":"RUNNING"}},{{"status":"x"}}]'
    listed = run(client(script(PERMITTED, ok(rows), PERMITTED)).tasks(PVE1))
    assert [row.status for row in listed.rows] == ["RUNNING"]
    assert listed.index_bytes == (8 + 2 + 12) + (0 + 1 + 12)


@pytest.mark.parametrize(
    ("before", "after", "sees_all"),
    [
        (PERMITTED, PERMITTED, True),
        (UNPERMITTED, PERMITTED, False),
        (PERMITTED, UNPERMITTED, False),
        (PERMITTED, died("no", 501), False),
        (died("no", 403), PERMITTED, False),
        (PERMITTED, died("anything"), False),
        (ok("[]"), PERMITTED, False),
    ],
)
def test_all_tasks_are_seen_only_if_the_privilege_was_there_before_and_after(
    before: HttpAnswer, after: HttpAnswer, sees_all: bool
) -> None:
    listed = run(client(script(before, ok("[]"), after)).tasks(PVE1))
    assert listed.sees_all is sees_all


def test_a_list_that_proves_nothing_costs_its_pages_alone() -> None:
    transport = script(ok("[]"), PERMITTED, ok("[]"), PERMITTED, ok("[]"))
    pve = client(transport)
    assert [run(pve.tasks(PVE1, proven=proven)).sees_all for proven in (False, True, False)] == [False, True, False]
    assert len(transport.requests) == 5


def test_later_lists_cost_one_look_at_the_privileges() -> None:
    transport = script(PERMITTED, ok("[]"), PERMITTED, ok("[]"), PERMITTED, ok("[]"), UNPERMITTED, ok("[]"), PERMITTED)
    pve = client(transport)
    assert [run(pve.tasks(PVE1)).sees_all for _ in range(4)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("data", "sees"),
    [
        ('{"/vms":{"VM.Audit":1}}', True),
        ('{"/vms":{"VM.Audit":"1"}}', True),
        ('{"/vms":{"VM.Audit":true}}', True),
        ('{"/vms":{"VM.Audit":0}}', False),  # not handed down to the guests
        ('{"/vms":{"VM.PowerMgmt":1}}', False),
        ('{"/":{"VM.Audit":0}}', False),
        ("{}", False),
    ],
)
def test_all_guests_are_seen_only_with_the_privilege_on_them(data: str, sees: bool) -> None:
    transport = failing(ok(data))
    assert run(client(transport).sees_all_guests()) is sees
    assert dict(transport.requests[0].params) == {"path": "/vms"}


def test_a_task_is_looked_up_on_the_node_of_its_upid() -> None:
    transport = failing(ok('{"status":"stopped","exitstatus":"OK "}'))
    text = "UPID:pve7:00001E85:0008EA42:6B046C7F:qmstart:720:agent@pve!ag:"
    state = run(client(transport).task(Upid.parse(text)))
    assert state is not None
    assert state.exit_status == "OK "
    assert transport.requests[0].path == (
        "/nodes/pve7/tasks/UPID%3Apve7%3A00001E85%3A0008EA42%3A6B046C7F%3Aqmstart%3A720%3Aagent%40pve%21ag%3A/status"
    )
    assert transport.requests[0].node == "pve7"


@pytest.mark.parametrize("data", ['{"status":"stopped"}', '{"status":"odd","exitstatus":"OK"}', "{}", "null"])
def test_a_task_state_that_says_neither_is_not_read(data: str) -> None:
    with pytest.raises(ReadFailed):
        run(client(failing(ok(data))).task(Upid.parse(upid(1))))


def test_absence_on_one_node_is_told_from_every_other_failure() -> None:
    gone = died("Configuration file 'nodes/pve1/qemu-server/105.conf' does not exist")
    with pytest.raises(Absent):
        run(client(failing(gone)).config(PVE1, GuestType.QEMU, Vmid(105)))
