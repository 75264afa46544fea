"""The journal's head is kept outside of the journal: in the agent's log and in the status."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from tests.cli.stage import Stage, guest
from tests.operator.living import Agent, living
from trueup.edges import journal_head
from trueup.model.ids import Epoch, OpId
from trueup.model.ops import Acknowledged, Record


def test_the_log_has_it_at_the_start_and_at_the_end(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102, "power: stopped"))
    with living(Agent(stage)) as agent:
        agent.until_said("op_ended")
    said = [(line["seq"], line["hash"]) for line in agent.events("journal_head")]
    assert len(said) == 2
    with closing(sqlite3.connect(stage.journal())) as connection:
        (count,) = connection.execute("SELECT count(*) FROM records").fetchone()
    assert said[0][0] < said[1][0] == count
    found = stage.json("status")
    assert (found["head"]["seq"], found["head"]["hash"]) == said[1]
    assert stage.json("journal", "verify")["head"] == said[1][1]
    assert found["doubts"] == []


class Records:
    """A journal with these numbers."""

    def __init__(self, seqs: list[int]) -> None:
        self.seqs = seqs
        self.reads = 0

    async def records(self, *, after_seq: int = 0, limit: int = 0) -> tuple[Record, ...]:
        self.reads += 1
        later = [seq for seq in self.seqs if seq > after_seq][:limit]
        return tuple(
            Record(
                seq=seq, epoch=Epoch(1), record_id="r", at_ms=1, op_id=OpId(""), event=Acknowledged(),
                prev_hash="", hash="",
            )
            for seq in later
        )  # fmt: skip


@pytest.mark.parametrize("last", [*range(40), 1023, 1024, 1025, 70_000])
def test_the_newest_record_is_found(last: int) -> None:
    whole = list(range(1, last + 1))
    for seqs in (whole, whole[:1] + whole[last // 2 :], whole[last // 3 :]):
        journal = Records(seqs)
        found = asyncio.run(journal_head.newest_record(journal))  # type: ignore[arg-type]
        assert (found.seq if found else 0) == (seqs[-1] if seqs else 0)
        assert journal.reads < 50
