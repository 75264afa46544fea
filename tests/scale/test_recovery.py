"""What recovery asks of PVE for hundreds of operations: pages of task lists, not a call for each operation.

The real client, engine and journal over the simulated cluster in virtual time; the transport counts.
"""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from pvesim.world import Request
from tests.real_death.stage import marked
from tests.simulation.cluster import START_S, SimCluster, SimTransport
from tests.simulation.deaths import Mortality
from tests.simulation.harness import SECRET, TOKEN, Listener, SimClock, SimEntropy
from tests.simulation.virtual_time import run
from trueup.adapters import sqlite
from trueup.adapters.pve import PveClient
from trueup.adapters.pve_api import PveApi
from trueup.adapters.pve_wire import HttpAnswer, HttpRequest
from trueup.core.intents import Prepared, Stamp, prepare
from trueup.engine.agent import Agent, Foundation
from trueup.engine.recoverer import Report
from trueup.model.ids import GuestType, NodeName, OpId, TokenId, Vmid
from trueup.model.ops import Draft, Event, Kind, Started, TaskRunning
from trueup.model.plan import PlannedOp
from trueup.model.settings import LimitSettings

NODES = tuple(f"pve{number}" for number in range(1, 7))
EACH = 300


class Counting(SimTransport):
    """Counts the calls by what they are about."""

    def __init__(self, cluster: SimCluster) -> None:
        super().__init__(cluster, node="pve1", authorization=f"PVEAPIToken={TOKEN}={SECRET}", mortality=Mortality(None))
        self.calls: Counter[str] = Counter()

    async def exchange(self, request: HttpRequest) -> HttpAnswer:
        self.calls[f"{request.method} {re.sub('/[0-9]+|UPID:[^/]+', '/N', request.path).replace('//', '/')}"] += 1
        return await super().exchange(request)


def planned(kind: Kind, number: int) -> PlannedOp:
    goal = {"power": "running"} if kind is Kind.START else {}
    params = {} if kind is Kind.START else {"memory": "512"}
    vmid = Vmid((2_000 if kind is Kind.START else 1_000) + number)
    node = NodeName(NODES[number % len(NODES)])
    return PlannedOp(kind=kind, type=GuestType.QEMU, vmid=vmid, node=node, name=f"vm-{vmid}", params=params, goal=goal)


def prepared(op: PlannedOp, number: int) -> tuple[OpId, Prepared]:
    op_id = OpId(f"op-{op.kind.value}-{number}")
    now_ms = int(START_S * 1000)
    stamp = Stamp(
        op_id=op_id, uid=f"uid-{op.vmid}", installation="record-0", token=TOKEN, now_ms=now_ms, send_by_ms=now_ms
    )
    return op_id, prepare(op, None, stamp)


async def recovered(path: Path, kind: Kind, upids_known: bool) -> tuple[Report, Counter[str]]:
    guests = [
        {
            "type": "qemu", "vmid": 2_000 + number, "node": NODES[number % len(NODES)], "name": f"vm-{2_000 + number}",
            "config": {"memory": 512, "description": marked("record-0", 2_000 + number)},
        }
        for number in range(EACH)
    ]  # fmt: skip
    spec = {"nodes": list(NODES), "guests": guests, "tokens": [{"id": TOKEN, "secret": SECRET}], "users": ["agent@pve"]}
    cluster = SimCluster(spec, seed=1)
    journal = sqlite.open_journal(path, inline=True)
    epoch = await journal.take_epoch(holder="before", token=TOKEN, record_id="record-0", at_ms=int(START_S * 1000))
    ops = [prepared(planned(kind, number), number) for number in range(EACH)]
    tickets = [(op_id, one, cluster.submit(_request(one))) for op_id, one in ops]
    drafts: list[Draft] = []

    def note(op_id: OpId, event: Event) -> None:
        drafts.append(Draft(record_id=f"r-{len(drafts)}", at_ms=int(START_S * 1000), op_id=op_id, event=event))

    for op_id, one, ticket in tickets:
        note(op_id, Started(intent=one.intent))
        answer = await cluster.answer(ticket)
        assert answer.status == 200, answer
        if upids_known:
            note(op_id, TaskRunning(upid=json.loads(answer.body)["data"]))
    await journal.append(epoch, drafts)
    clock = SimClock(Mortality(None))
    await clock.sleep(60)

    transport = Counting(cluster)
    api = PveApi(transport=transport, clock=clock, endpoints=["https://pve1:8006"])

    async def open_pve(token: TokenId | None, secret: str) -> PveClient:
        return PveClient(api=api, token=TOKEN)

    agent = await Agent.begin(
        Foundation(
            journal=journal, open_pve=open_pve, clock=clock, entropy=SimEntropy(1), reporter=Listener(),
            holder="after", limits=LimitSettings(),
        )
    )  # fmt: skip
    report = await agent.recover()
    await journal.close()
    assert sqlite.verify(path).ok
    return report, transport.calls


def _request(one: Prepared) -> Request:
    return Request(
        node="pve1",
        method=one.intent.method,
        path=one.intent.path,
        params=dict(one.params),
        authorization=f"PVEAPIToken={TOKEN}={SECRET}",
    )


@pytest.mark.parametrize("upids_known", [True, False], ids=["UPIDs recorded", "UPIDs lost"])
@pytest.mark.parametrize("kind", [Kind.CREATE, Kind.START])
def test_recovery_costs_pages(tmp_path: Path, kind: Kind, upids_known: bool) -> None:
    """No call for a single operation or guest: whether a guest runs, where a start only queues, comes in bulk too."""
    report, calls = run(recovered(tmp_path / "journal.db", kind, upids_known))
    print(f"\n{EACH} {kind} in flight on {len(NODES)} nodes: {dict(calls)}")
    assert (report.examined, report.resumed) == (EACH, EACH)
    assert report.adopted == (0 if upids_known else EACH)
    assert not [call for call in calls if "/qemu/N/" in call], calls
    if kind is Kind.CREATE:
        assert calls == {f"GET /nodes/{node}/tasks": 1 for node in NODES}
    assert sum(calls.values()) <= len(NODES) * 3 + 6, calls
