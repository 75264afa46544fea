"""The short form of `make chaos`."""

from pathlib import Path

import pytest

from tests.postgres import chaos


@pytest.mark.timeout(400)
def test_whatever_happens_to_leaders_nothing_happens_twice(database: str, tmp_path: Path) -> None:
    outcome = chaos.run(tmp_path, database, seconds=25, guests=24, seed=11, say=print)
    print(outcome.table())
    assert outcome.good, outcome.table()
    assert outcome.kills
    assert outcome.pauses
    assert outcome.epochs > len(outcome.take_overs_s)
