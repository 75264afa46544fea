"""20 guests made and started, by whole commands as a person would type them.

The bare script makes the same changes with nothing around them: it keeps no record, looks at nothing, and asks for
each task's state ten times a second. Ansible's community.proxmox is asked for the same guests, present and started.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import fleet, peers, stage
from benchmarks.measure import Figure, Goal, Sample, Size, Stopwatch, compared, in_turn

AGAINST_BARE = Goal(bound=1.2)
AGAINST_ANSIBLE = Goal(bound=50, least=True)


async def measure(size: Size) -> list[Figure]:
    """Against a bare script with tasks of 2 s, against Ansible with a server that answers at once."""
    count = size.of(2, 20, 20)
    with stage.scratch() as folder, stage.StandIn(folder) as stand_in:
        turn = _Turn(folder, stand_in, count, task_s=0.2 if size is Size.TINY else 2.0)
        ours, bare = await in_turn(size.of(1, 3, 7), turn.ours, turn.bare)
        figure = compared(
            "apply/bare",
            f"apply of {count} guests, tasks of 2 s",
            Sample(name="trueup apply", values=ours),
            Sample(name="bare asyncio script", values=bare),
            AGAINST_BARE,
            {"calls": turn.calls},
        )
        return [figure, await _ansible(size, folder, stand_in)]


async def _ansible(size: Size, folder: Path, stand_in: stage.StandIn) -> Figure:
    count = size.of(1, 2, 20)
    what = f"apply of {count} guests, server answers at once: times faster than Ansible"
    turn = _Turn(folder, stand_in, count, task_s=0.0)
    (ours,) = await in_turn(size.of(1, 3, 5), turn.ours)
    sample = Sample(name="trueup apply", values=ours)
    if size is Size.TINY:
        return Figure(key="apply/ansible", what=what, goal=AGAINST_ANSIBLE, ours=sample, missing="not at this size")
    await stand_in.set(guests=0, ops=0, task_s=0.0)
    args = [stand_in.url, str(count), str(folder), json.dumps([fleet.vmid_of(n) for n in range(count)])]
    theirs = await asyncio.to_thread(
        peers.numbers, "ansible_apply.py", *args, timeout_s=400, env={"PEER_FLEET": json.dumps(_fleet(count))}
    )
    if isinstance(theirs, str):
        return Figure(key="apply/ansible", what=what, goal=AGAINST_ANSIBLE, ours=sample, missing=theirs)
    made = (await stand_in.stats())["counts"].get("POST", 0)
    if made != 2 * count:
        why = f"Ansible sent {made} mutations for {count} guests"
        return Figure(key="apply/ansible", what=what, goal=AGAINST_ANSIBLE, ours=sample, missing=why)
    peer = Sample(name="ansible-playbook, community.proxmox", values=theirs)
    return Figure(
        key="apply/ansible", what=what, value=peer.median / sample.median, goal=AGAINST_ANSIBLE, ours=sample, peer=peer
    )


def _fleet(count: int) -> dict[str, object]:
    user, _, name = fleet.TOKEN.partition("!")
    guests = [{"vmid": fleet.vmid_of(n), "node": fleet.node_of(n)} for n in range(count)]
    return {"user": user, "name": name, "secret": fleet.SECRET, "guests": guests}


class _Turn:
    def __init__(self, folder: Path, stand_in: stage.StandIn, count: int, task_s: float) -> None:
        self._folder, self._stand_in, self._count, self._task_s = folder, stand_in, count, task_s
        self._turns = 0
        self.calls: dict[str, int] = {}

    async def ours(self) -> float:
        """`trueup apply --yes` in a folder of its own."""
        await self._stand_in.set(guests=0, ops=0, task_s=self._task_s)
        self._turns += 1
        lab = self._folder / f"lab-{self._count}-{self._task_s}-{self._turns}"
        stage.write_lab(lab, self._stand_in)
        fleet.write_manifests(lab / "manifests", range(self._count), fleet.new_vm)
        with Stopwatch() as watch:
            done = await asyncio.to_thread(stage.trueup, lab, "apply", "--yes")
        if done.returncode:
            raise RuntimeError(f"apply ended with {done.returncode}: {done.stderr[-2000:]}")
        counts = (await self._stand_in.stats())["counts"]
        if counts["POST"] != 2 * self._count:
            raise RuntimeError(f"{counts} for {self._count} guests")
        self.calls = counts
        return watch.wall_s

    async def bare(self) -> float:
        """The script, in a process of its own as well."""
        await self._stand_in.set(guests=0, ops=0, task_s=self._task_s)
        command = [sys.executable, "-m", "benchmarks.bare_apply", self._stand_in.url, str(self._stand_in.ca_file)]
        with Stopwatch() as watch:
            await asyncio.to_thread(
                subprocess.run, [*command, str(self._count)], cwd=stage.ROOT, check=True, env=dict(os.environ)
            )
        return watch.wall_s
