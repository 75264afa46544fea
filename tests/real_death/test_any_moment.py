"""SIGKILL at moments that chance chose, again and again; whatever the agent was at, the next one ends it."""

import contextlib
import random
import signal
import subprocess

import pytest

from tests.real_death.evidence import account, settled
from tests.real_death.stage import Simulator, Stage, ct, vm

MIXED = (
    vm(101, "source: {empty: true}", "config: {cores: 2, memory: 512, scsi0: {storage: local-lvm, size: 8G}}"),
    vm(
        102,
        "source: {clone: 9000}",
        "config: {cores: 4, tags: [web], scsi0: {storage: shared, size: 16G}}",
        node="pve2",
    ),
    vm(103, "source: {clone: 9000}", "config: {memory: 2048}", "after: [ct-201]", node="pve3"),
    ct(201, node="pve2"),
    ct(202, "source: {clone: 9001}", "config: {memory: 1024, rootfs: {size: 8G}}", node="pve3"),
)
ROUNDS = 12


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment(sim: Simulator, stage: Stage, seed: int) -> None:
    chance = random.Random(seed)
    stage.manifest("guests", *MIXED)
    killed, start_s = 0, 0.6
    for _ in range(ROUNDS):
        process = stage.start("apply", "--yes")
        # From the very start to the middle of the work, on whatever machine this is.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(start_s + chance.uniform(0.05, 1.5))
        process.kill()
        killed += process.wait(10) == -signal.SIGKILL
        if stage.journal_file.exists():
            account_so_far(sim, stage)
    done = stage.run("apply", "--yes")
    assert done.code == 0, done
    settled(sim, stage)
    assert killed >= ROUNDS // 3, "it was hardly ever killed at work"


def account_so_far(sim: Simulator, stage: Stage) -> None:
    journal = stage.journal()
    assert journal.verification.ok, journal.verification
    if not journal.open:
        account(sim, stage)
