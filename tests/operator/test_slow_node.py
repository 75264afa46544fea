"""One node that answers slowly or not at all does not hold up the guests on the others. On virtual time."""

import asyncio

import pytest

from tests.simulation.harness import Life, Scenario, simulate
from tests.simulation.scenarios import vm
from trueup.engine.agent import Agent, Pace, run
from trueup.model.guests import Power
from trueup.model.ops import Kind

SPEC = {"nodes": ["pve1", "pve2", "pve3"]}
HEALTHY = [vm(200 + n, node="pve1", power=Power.STOPPED) for n in range(6)]
SLOW = [vm(300 + n, node="pve2", power=Power.STOPPED) for n in range(3)]
STALLED_S, END_S = 900.0, 1500.0
READ_S = 60.0
"""More than a read may take that is not answered; a pass waits for it, so it costs one of them and no more."""


@pytest.mark.parametrize("guests_there", [0, 3])
def test_the_others_converge_while_one_does_not_answer(guests_there: int) -> None:
    async def body(agent: Agent, life: Life) -> None:
        await agent.recover()
        async with agent.reconciler() as reconciler:
            asyncio.get_running_loop().call_later(END_S, reconciler.wind_down)
            pace = Pace(interval_s=30.0, enforce=True)
            await run(reconciler, agent.deck, lambda: [*SLOW, *HEALTHY, *looked_at], pace=lambda: pace)

    freeze = {"action": "freeze", "node": "pve2", "daemon": "pvedaemon"}
    thaw = freeze | {"action": "thaw"}
    there = [{"type": "qemu", "vmid": 400 + n, "node": "pve2", "name": f"vm-{400 + n}"} for n in range(guests_there)]
    looked_at = [vm(400 + n, node="pve2", power=Power.IGNORE) for n in range(guests_there)]  # not adopted
    scenario = Scenario(
        spec={**SPEC, "guests": there},
        desired=[*SLOW, *HEALTHY],
        body=body,
        events=[(0.0, lambda cluster: cluster.act(freeze)), (STALLED_S, lambda cluster: cluster.act(thaw))],
    )
    story = simulate(scenario)
    ended = {
        op.intent.vmid: op.ended_at_ms / 1000 - 1_800_000_000
        for op in story.ops
        if op.intent.kind is Kind.CREATE and op.state == "succeeded"
    }
    assert max(ended[want.vmid] for want in HEALTHY) < (2 * READ_S if guests_there else READ_S)
    assert min(ended[want.vmid] for want in SLOW) > STALLED_S
    assert len(ended) == len(HEALTHY) + len(SLOW)
