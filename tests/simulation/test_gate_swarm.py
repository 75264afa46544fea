"""Random stories of the gate, a fixed handful for each commit; `make simulate` runs on."""

import pytest

from tests.simulation.gate_swarm import Figures, sweep, tale
from tests.simulation.report import Report

TALES = 24
SHARDS = 3


@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_tale_breaks_a_promise(shard: int) -> None:
    for number in range(shard, TALES, SHARDS):
        one = tale(number)
        one.check(one.run())


def test_the_same_number_tells_the_same_tale() -> None:
    first, second = tale(5).run(), tale(5).run()
    assert first.post.deliveries == second.post.deliveries
    assert first.run.verification.head == second.run.verification.head


def test_the_sweep_dies_somewhere_else_each_time() -> None:
    assert len({(one.name, one.deaths) for one in map(sweep, range(200))}) == 200


def test_the_report_tells_of_the_gate_and_still_ends_with_what_machines_read() -> None:
    told, report = tale(5).run(), Report()
    report.add(told.run)
    report.gate.add(told)
    figures = Figures()
    figures.add(told)
    assert figures.delivered == len(told.post.deliveries)
    assert figures.delivered > figures.redelivered > 0
    lines = report.lines()
    assert any(line.startswith("at the gate: ") for line in lines)
    assert lines[-4:] == ["schedules: 1", "ops lost: 0", "effects doubled: 0", "wrong records: 0"]
