"""What the loop remembers takes no more room than the pass before, and hides nothing by that."""

import random

from trueup.adapters.system import SystemClock
from trueup.core import reread
from trueup.core.reread import Remembered
from trueup.engine.memory import Memory
from trueup.model.guests import Observed, Power, ResourceRow
from trueup.model.ids import GuestType, NodeName, Vmid

NODE = NodeName("pve1")


class Clock(SystemClock):
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


def row(vmid, uptime_s, **values):
    return ResourceRow(type=GuestType.QEMU, vmid=Vmid(vmid), node=NODE, uptime_s=uptime_s, **values)


def seen(vmid):
    return Observed(type=GuestType.QEMU, vmid=Vmid(vmid), node=NODE, name="", status=Power.RUNNING)


def test_the_rows_of_the_last_pass_are_the_ones_that_are_kept(monkeypatch):
    monkeypatch.setattr(reread.limits, "REREAD_LEAST", 0)
    clock, rows = Clock(), {Vmid(vmid): row(vmid, 50) for vmid in (100, 101, 102)}
    memory = Memory(clock)
    for vmid, one in rows.items():
        memory.saw(one, seen(vmid), 0.0)
    clock.now = 0.1
    newer = {vmid: row(vmid, 51) for vmid in rows}
    kept = memory.kept(newer)
    assert len(kept) == 2
    assert all(memory._known[vmid].row is newer[vmid] for vmid in kept)


def test_whom_to_read_is_judged_by_the_moment_of_the_last_read_however_many_passes_ago_it_was(monkeypatch):
    """The plain rule: rows and instants as they were when the configs were read, never touched since."""
    monkeypatch.setattr(reread.limits, "REREAD_LEAST", 0)
    for seed in range(40):
        chance, clock = random.Random(seed), Clock()
        memory, known, last, told = Memory(clock), {}, 0.0, 0
        up = {vmid: chance.choice([0, 5, 500]) for vmid in range(100, 112)}
        for _ in range(25):
            step_s = chance.choice([0.5, 1.0, 30.0])
            clock.now += step_s
            for vmid, uptime_s in up.items():
                restarted = chance.random() < 0.03
                up[vmid] = 0 if not uptime_s and chance.random() < 0.9 else 1 if restarted else uptime_s + int(step_s)
            lag = {vmid: chance.choice([0, 0, 3, 9]) for vmid in up}
            tags = {vmid: "new" if chance.random() < 0.02 else "" for vmid in up}
            rows = {Vmid(v): row(v, max(0, uptime_s - lag[v]), tags=tags[v]) for v, uptime_s in up.items()}
            due = reread.due(known, rows, clock.now, clock.now - last)
            last = clock.now
            assert memory.kept(rows).keys() == rows.keys() - due
            told += len(due)
            for vmid in due:
                known[vmid] = Remembered(row=rows[vmid], at=clock.now)
                memory.saw(rows[vmid], seen(vmid), clock.now)
        assert told > len(up)
