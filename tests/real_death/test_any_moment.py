"""SIGKILL at moments that chance chose, again and again; whatever the agent was at, the next one ends it."""

import contextlib
import random
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.real_death.evidence import account, mark_of, settled
from tests.real_death.stage import Simulator, Stage, ct, until, vm
from tests.sampling import sampled

ROUNDS = 10
SORTS: tuple[Callable[[int, str], str], ...] = (
    lambda n, node: vm(100 + n, "source: {empty: true}", "config: {scsi0: {storage: local-lvm, size: 8G}}", node=node),
    lambda n, node: vm(
        100 + n, "source: {clone: 9000}", "config: {cores: 4, tags: [web], scsi0: {size: 16G}}", node=node
    ),
    lambda n, node: ct(100 + n, node=node),
    lambda n, node: ct(100 + n, "source: {clone: 9001}", "config: {memory: 1024, rootfs: {size: 8G}}", node=node),
)


@pytest.mark.parametrize("seed", sampled([1, 2, 3, 4], 4))
def test_killed_at_any_moment(sim: Simulator, stage: Stage, seed: int) -> None:
    """Each round declares two guests more, so that there is something to die of."""
    chance = random.Random(seed)
    killed = 0
    for number in range(ROUNDS):
        for more in (2 * number, 2 * number + 1):
            stage.manifest(f"guest-{more}", chance.choice(SORTS)(more, chance.choice(("pve1", "pve2", "pve3"))))
        process = stage.start("apply", "--yes")
        # Counted from where it begins to work, so that a slow machine dies of the same things as a fast one.
        until(lambda process=process: process.poll() is not None or "epoch" in stage.err())
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.0, 0.9))
        process.kill()
        killed += process.wait(10) == -signal.SIGKILL
        account_so_far(sim, stage)
    done = stage.run("apply", "--yes")
    assert done.code == 0, done
    settled(sim, stage)
    assert killed >= ROUNDS // 2, "it was hardly ever killed at work"


def account_so_far(sim: Simulator, stage: Stage) -> None:
    """Whatever took effect has a record, and the chain is whole."""
    journal = stage.journal()
    assert journal.verification.ok, journal.verification
    marks = {mark_of(row) for row in sim.mutations() if row["effect"]} - {""}
    assert marks <= {op.op_id for op in journal.ops}
    if not journal.open:
        account(sim, stage)
