"""The same stories with the journal in a real PostgreSQL: each kind, with deaths around its writes and its COMMITs.

A sample in each commit; `make simulate JOURNAL=postgres KINDS=1` takes every kind with a death at every point that
makes a difference, and with TRUEUP_JOURNAL=postgres all tests of this folder keep their journals there.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.simulation import invariants, kinds, stores
from tests.simulation.database import WHATS, Accident, Host
from tests.simulation.deaths import AtWrite
from tests.simulation.examples import EXAMPLES
from tests.simulation.harness import simulate
from tests.simulation.kinds import Example
from tests.simulation.scenarios import CLONED_CT, EMPTY_VM
from tests.simulation.stories import ending, ops
from trueup.model.ids import GuestType
from trueup.model.ops import Kind, OpState

COMMIT = {"database COMMIT before", "database COMMIT after"}
SAMPLE = kinds.every()[2::5]
"""Of both types of guest, of the loop and signed."""


@pytest.fixture(autouse=True)
def _in_the_database(host: Host) -> Iterator[None]:
    with stores.kept_in(stores.database(host)):
        yield


@pytest.mark.parametrize("example", SAMPLE, ids=lambda one: one.name)
def test_a_kind_ends_rightly_after_a_death(example: Example) -> None:
    """Around one of its last writes, chosen by chance; a COMMIT is among those."""
    with stores.kept_in(stores.file):
        plain = simulate(example.scenario).lives[0]
    # On PostgreSQL each append passes two points more: before and after its COMMIT.
    begin = plain.stage_at if example.scenario.then is not None else 0
    late = [name for name in plain.mortality.passed[begin:] if AtWrite.counts(name)]
    early = [name for name in plain.mortality.passed[:begin] if AtWrite.counts(name)]
    before = len(early) + early.count("journal.append before") * 2 + 2  # and the epoch has a COMMIT
    count = len(late) + late.count("journal.append before") * 2
    run = simulate(example.scenario, AtWrite(before + random.Random(example.name).randrange(count)))
    assert len(run.lives) == 2
    example.check(run)


def test_points_of_a_commit_are_points_to_die_at(host: Host) -> None:
    passed = simulate(EMPTY_VM).lives[0].mortality.passed
    assert set(passed) >= COMMIT
    assert sum(name in COMMIT for name in passed) >= 2 * sum(name == "journal.append before" for name in passed)


@pytest.mark.parametrize("lingering", [False, True], ids=["process", "machine"])
def test_a_death_in_the_middle_of_an_append(host: Host, lingering: bool) -> None:
    """A machine that is gone leaves its transaction, with the journal's head locked, until the server tires of it."""
    place = stores.database(host, lingering=lingering)
    passed = simulate(EMPTY_VM, journal=place).lives[0].mortality.passed
    commits = [number for number, name in enumerate(passed) if name in COMMIT]
    for point in commits[2:4]:
        run = simulate(EMPTY_VM, point, journal=place)
        invariants.converged(run)
        assert [life.epoch for life in run.lives] == [1, 2]


# --- The database dies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("commit", [2, 3])
def test_a_database_that_fails_around_a_commit(host: Host, what: str, commit: int) -> None:
    """The append counts once, whether its COMMIT was heard or not; the operation is done once."""
    accident = Accident(commit=commit, what=what)
    run = simulate(EMPTY_VM, journal=stores.database(host, accidents=[accident]))
    assert host.struck == [accident]
    invariants.converged(run)
    assert [ending(op) for op in ops(run, Kind.CREATE)] == [("succeeded", "task_ok", "R3")]
    assert len(run.lives) == 1, "the lease outlasts it"


@pytest.mark.parametrize("what", ["before", "after"])
def test_a_database_that_is_gone_for_longer_than_a_lease(host: Host, what: str) -> None:
    """The agent stops, and begins anew with another epoch when the database is back; nothing is guessed."""
    # The first COMMIT is that of the epoch, the second that of the intent: the request has not left.
    place = stores.database(host, accidents=[Accident(commit=2, what=what, seconds=300.0)])
    run = simulate(CLONED_CT, journal=place)
    invariants.converged(run)
    assert [life.epoch for life in run.lives] == [1, 2]
    assert not run.lives[0].mortality.sent
    clones = [ending(op) for op in ops(run, Kind.CLONE)]
    presumed = [("failed", "presumed_not_started", "R12")] if what == "after" else []
    assert clones == [*presumed, ("succeeded", "task_ok", "R3")]


def test_a_request_is_accounted_for_by_a_later_epoch_if_its_answer_could_not_be_written(host: Host) -> None:
    story = EXAMPLES[GuestType.QEMU][Kind.START]
    passed = simulate(story).lives[0]
    at = next(number for number, name in enumerate(passed.mortality.passed) if name.endswith("/status/start sent"))
    commit = sum(name == "database COMMIT before" for name in passed.mortality.passed[:at]) + 1
    place = stores.database(host, accidents=[Accident(commit=commit, what="before", seconds=300.0)])
    run = simulate(replace(story), journal=place)
    invariants.converged(run)
    assert [op.state for op in ops(run, Kind.START)] == [OpState.SUCCEEDED]
    assert len([row for row in run.effects() if str(row["path"]).endswith("/start")]) == 1
