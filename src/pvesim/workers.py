"""Workers: what `fork_worker` does, from the UPID to the reaped task.

Rule kept here: the order is PVE's. Start time and UPID, the worker runs, the list knows it, the client hears of it;
each step can be the last one that happens, and none of them depends on the client still being there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pvesim.faults import Fault
from pvesim.guests import Guest, Hand, flock_path
from pvesim.kernel import Acquire, Die, Group, Proc, Sleep, Steps, acquire, sleep
from pvesim.machine import FLOCK_TIMEOUT_S, Call, Machine
from pvesim.tasks import Task, make_upid
from pvesim.wire import Failure, died

ACTIVE_LOCK_TEXT = "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout"
ORPHAN_START_S = 20.0
HIDDEN_S = 10.0
FORK_S = 0.02
LISTING_S = 0.005


class TaskError(Failure):
    """A worker dies with this text; `partial` means that it does not clean up first."""

    def __init__(self, text: str, *, partial: bool = False, interrupt: bool = False) -> None:
        """Keep the text that becomes the exit status."""
        super().__init__(text)
        self.partial = partial
        self.interrupt = interrupt


@dataclass(slots=True, kw_only=True)
class Job:
    """A running worker: its task, how far it is, and what is going to happen to it."""

    m: Machine
    task: Task
    seconds: float
    hand: Hand
    fault: Fault | None = None
    progress: float = 0.0
    warnings: int = 0
    hit: bool = False
    proc: Proc | None = None
    orphan: Callable[[], None] | None = None

    @property
    def node(self) -> str:
        """Where it runs."""
        return self.task.node

    def log(self, line: str) -> None:
        """A line in the task log."""
        self.task.log.append(line)

    def work(self, upto: float) -> Steps[None]:
        """Go on to this part of the whole duration, or to the accident before it."""
        accident = self._accident()
        stop = upto if accident is None or not self.progress <= accident <= upto else accident
        yield Sleep(max(0.0, stop - self.progress) * self.m.scaled(self.seconds))
        self.progress = stop
        if stop == accident and self.fault is not None:
            self.hit = True
            if self.fault.kind == "task_killed":
                yield Die()
            raise TaskError(self.fault.error, partial=self.fault.partial)

    def _accident(self) -> float | None:
        if self.hit or self.fault is None or self.fault.kind not in {"task_killed", "task_fails"}:
            return None
        return self.fault.at if self.fault.at is not None else 0.5

    def flock(
        self, guest_type: str, vmid: int, seconds: float = FLOCK_TIMEOUT_S, *, shared: bool = False
    ) -> Steps[None]:
        """Take a guest's lock file for the rest of the task."""
        key = flock_key(self.node, guest_type, vmid)
        waits = self.m.kernel.is_held(key)
        if waits:
            self.log("trying to acquire lock...")
        got = yield from acquire(Acquire(key, self.m.scaled(seconds), shared))
        if not got:
            raise TaskError(f"can't lock file '{flock_path(guest_type, vmid)}' - got timeout")
        if waits:
            self.log(" OK")

    def lock(self, path: str, seconds: float = FLOCK_TIMEOUT_S) -> Steps[bool]:
        """Take any other lock file of this node, quietly; False when the time ran out."""
        got = yield from acquire(Acquire(f"{self.node}:{path}", self.m.scaled(seconds)))
        return got

    def unlock(self, guest_type: str, vmid: int) -> None:
        """Give a guest's lock file back before the end of the task."""
        if self.proc is not None:
            self.m.kernel.release(self.proc, flock_key(self.node, guest_type, vmid))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What to fork; `undo` takes back what was done before the fork when the task has no effect."""

    type: str
    id: str
    seconds: float
    body: Callable[[Job], Steps[None]]
    undo: Callable[[Job], None] | None = None


def flock_key(node: str, guest_type: str, vmid: int) -> str:
    """The name of a guest's lock file on one node."""
    return f"{node}:{flock_path(guest_type, vmid)}"


def daemon_flock(m: Machine, call: Call, guest_type: str, vmid: int, seconds: float = FLOCK_TIMEOUT_S) -> Steps[str]:
    """Take a guest's lock file inside the API call; returns its key, to be released."""
    key = flock_key(call.node, guest_type, vmid)
    got = yield from acquire(Acquire(key, m.scaled(seconds)))
    if not got:
        raise died(f"can't lock file '{flock_path(guest_type, vmid)}' - got timeout")
    return key


def release(m: Machine, call: Call, key: str) -> None:
    """Give a lock taken by `daemon_flock` back."""
    if call.proc is not None:
        m.kernel.release(call.proc, key)


def worker_group(upid: str) -> Group:
    """The group of one worker, by which it can be paused."""
    return ("worker", upid)


def fork(m: Machine, call: Call, work: Work) -> Steps[str]:
    """Start a worker for an API call and return its UPID once the lists know it."""
    fault = call.fault
    task = new_task(m, call.node, work, call.who.full_id)
    yield Sleep(max(FORK_S, call.list_at - m.now - LISTING_S))
    launch(m, task, work, hand=Hand(pid=task.pid, row=call.row), fault=fault)
    if call.row is not None:
        call.row.upid = task.upid
    if fault is not None and fault.kind == "error_500_worker_runs":
        yield from sleep(m.scaled(FLOCK_TIMEOUT_S))
        raise died(ACTIVE_LOCK_TEXT)
    yield Sleep(LISTING_S)
    if fault is None or fault.kind != "task_unlisted":
        enter(m, task)
    yield Sleep(m.rng.uniform(0.003, 0.015))
    return task.upid


def new_task(m: Machine, node: str, work: Work, user: str) -> Task:
    """A task with its id, not yet running and not yet on disk."""
    machine = m.cluster.nodes[node]
    starttime, pstart, pid = int(machine.clock(m.now)), machine.jiffies(m.now), machine.fork_pid(m.rng)
    upid = make_upid(work.type, work.id, user, (node, pid, pstart, starttime))
    return Task(
        upid=upid, node=node, pid=pid, pstart=pstart, starttime=starttime, type=work.type, id=work.id, user=user
    )


def task_of_root(m: Machine, node: str, work: Work, hand: Hand | None = None) -> Task:
    """A task that no API call of a client started: a daemon's, or one of another task on this node."""
    task = new_task(m, node, work, "root@pam")
    launch(m, task, work, hand=hand if hand is not None else Hand(pid=task.pid))
    enter(m, task)
    return task


def launch(m: Machine, task: Task, work: Work, *, hand: Hand, fault: Fault | None = None) -> Job:
    """Let the worker go: from this line on its effect can happen."""
    job = Job(m=m, task=task, seconds=m.durations.get(work.type, work.seconds), hand=hand, fault=fault)
    without_effect = fault is not None and fault.kind == "task_ok_without_effect"
    steps = _nothing(job, work) if without_effect else work.body(job)
    job.proc = m.kernel.spawn(steps, worker_group(task.upid), lambda proc: _ended(job, proc))
    m.tasks[task.node].logs[task.upid] = task
    m.running[task.upid] = job.proc
    m.note(task.node, task.user, f"starting task {task.upid}", task.pid)
    return job


def enter(m: Machine, task: Task) -> None:
    """Put a task on the active list, and repair that list as every fork does."""
    tasks = m.tasks[task.node]
    for orphan in list(tasks.orphans):
        tasks.orphans.remove(orphan)
        tasks.archive(orphan, m.clock(task.node))
    if task.state == "unlisted" and not task.log_gone:
        tasks.enter(task)


def _nothing(job: Job, work: Work) -> Steps[None]:
    if work.undo is not None:
        work.undo(job)
    yield from job.work(1.0)


def _ended(job: Job, proc: Proc) -> None:
    """The worker process is gone: the log decides what its status is."""
    m, task = job.m, job.task
    m.running.pop(task.upid, None)
    task.exitstatus = _final_line(job, proc)
    if proc.outcome == "killed" and job.orphan is not None:
        orphan = m.kernel.spawn(_orphan(m, job.orphan), ("orphan", task.node))
        m.kernel.hand_over_locks(proc, orphan)
    hidden = job.fault is not None and job.fault.kind == "task_unlisted"
    delay = m.rng.uniform(0.004, 0.02)
    if hidden and job.fault is not None:
        delay = job.fault.delay_s if job.fault.delay_s is not None else m.scaled(HIDDEN_S)
    m.kernel.at(m.now + delay, lambda: _reap(job))


def _final_line(job: Job, proc: Proc) -> str:
    if proc.outcome == "killed":
        return "unexpected status"
    if proc.outcome == "returned":
        if job.warnings:
            job.log(f"TASK WARNINGS: {job.warnings}")
            return f"WARNINGS: {job.warnings}"
        job.log("TASK OK")
        return "OK"
    error = proc.error
    text = error.in_task if error is not None else "simulator defect"
    text = " ".join(text.rstrip("\n").split("\n"))
    job.log(f"TASK ERROR: {text}")
    return text


def _reap(job: Job) -> None:
    m, task = job.m, job.task
    tasks = m.tasks[task.node]
    if task in tasks.orphans or not m.cluster.nodes[task.node].online:
        return
    if job.fault is not None and job.fault.kind == "task_log_gone":
        tasks.forget(task)
    else:
        tasks.archive(task, m.clock(task.node))
    m.note(task.node, task.user, f"end task {task.upid} {task.exitstatus}", task.pid)


def _orphan(m: Machine, effect: Callable[[], None]) -> Steps[None]:
    """The child of a killed start: it keeps the lock file and finishes the work."""
    yield from sleep(m.scaled(ORPHAN_START_S))
    effect()


def reloaded(job: Job, guest_type: str, vmid: int) -> Guest:
    """The guest's config as the worker reads it under the lock."""
    return job.m.guests.need(guest_type, job.node, vmid)
