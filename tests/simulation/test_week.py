"""A week of a small cluster ends converged, with no operation unexplained and no foreign guest touched."""

from collections import Counter

import pytest

from tests.simulation import invariants
from tests.simulation.week import FOREIGN, GUESTS, simulate_week
from trueup.model.ops import OpState


@pytest.mark.timeout(300)
def test_a_week_of_a_small_cluster() -> None:
    this, run = simulate_week(seed=1)
    story = "\n".join(this.happened)
    invariants.check(run)
    end = run.lives[-1].converged
    assert end is not None
    assert (end.exit_code, end.failing, end.left_open) == (0, (), 0), story
    assert len(end.plan.guests) == GUESTS
    assert Counter(op.state for op in run.ops).keys() <= {OpState.SUCCEEDED, OpState.FAILED}, story
    touched = {part for row in run.mutations for part in str(row["path"]).split("/") if part.isdigit()}
    assert not touched & {str(vmid) for vmid in FOREIGN}
    assert len(this.happened) > 60, "a week in which nothing happens proves nothing"
    assert len(run.lives) > 5
