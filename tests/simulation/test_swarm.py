"""Random stories, a fixed handful for each commit; `make simulate` runs on."""

import pytest

from tests.simulation.invariants import check
from tests.simulation.report import Report
from tests.simulation.swarm import story

STORIES = 80
SHARDS = 6


@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_story_breaks_a_promise(shard: int) -> None:
    for number in range(shard, STORIES, SHARDS):
        one = story(number)
        check(one.run(), believe_tasks=not one.tasks_lie)


def test_the_same_number_tells_the_same_story() -> None:
    first, second = story(11).run(), story(11).run()
    assert [row["path"] for row in first.mutations] == [row["path"] for row in second.mutations]
    assert [life.mortality.passed for life in first.lives] == [life.mortality.passed for life in second.lives]
    assert first.verification.head == second.verification.head


def test_the_report_ends_with_what_machines_read() -> None:
    report = Report()
    report.add(story(3).run())
    assert report.lines()[-4:] == ["schedules: 1", "ops lost: 0", "effects doubled: 0", "wrong records: 0"]
