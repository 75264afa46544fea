"""Calls about a guest that HA manages: they become wishes, and their task ends as soon as the wish is queued.

Rule kept here: such a task says nothing about the guest; only the error state of a resource refuses a wish.
"""

from __future__ import annotations

from collections.abc import Callable

from pvesim.ha import PREFIX, Resource
from pvesim.kernel import Steps
from pvesim.machine import Call, Machine
from pvesim.wire import Json
from pvesim.workers import Job, TaskError, Work, fork

REQUEST_S = 0.4


def request_start(m: Machine, call: Call) -> Steps[Json]:
    """`hastart`: the resource is wanted started."""

    def wish(resource: Resource) -> None:
        resource.request, resource.stop_timeout = "started", None

    upid = yield from _request(m, call, "hastart", ("start", "set {sid} --state started"), wish)
    return upid


def request_stop(m: Machine, call: Call, timeout: int) -> Steps[Json]:
    """`hastop`: the resource is wanted stopped, after `timeout` seconds of asking the guest."""

    def wish(resource: Resource) -> None:
        resource.request, resource.stop_timeout = "stopped", timeout

    upid = yield from _request(m, call, "hastop", ("stop", f"crm-command stop {{sid}} {timeout}"), wish)
    return upid


def request_move(m: Machine, call: Call, target: str) -> Steps[Json]:
    """`hamigrate`: the resource is to go to another node."""

    def wish(resource: Resource) -> None:
        resource.target = target

    upid = yield from _request(m, call, "hamigrate", ("migration", f"migrate {{sid}} {target}"), wish)
    return upid


def _request(m: Machine, call: Call, task: str, words: tuple[str, str], wish: Callable[[Resource], None]) -> Steps[str]:
    def body(job: Job) -> Steps[None]:
        what, command = words
        sid = f"{PREFIX[call.guest_type]}:{call.vmid}"
        word = "VM" if call.guest_type == "qemu" else "CT"
        where = f" to node {call.params['target']}" if what == "migration" else ""
        job.log(f"Requesting HA {what} for {word} {call.vmid}{where}")
        yield from job.work(0.9)
        resource = job.m.ha.resources.get(sid)
        shown = command.format(sid=sid)
        if resource is None or resource.state == "error":
            if resource is not None:
                job.log(f"service '{sid}' in error state, must be disabled and fixed first")
            raise TaskError(f"command 'ha-manager {shown}' failed: exit code 255")
        if not job.m.cluster.nodes[job.node].quorate:
            raise TaskError(f"command 'ha-manager {shown}' failed: exit code 255")
        wish(resource)
        job.hand.touched()
        yield from job.work(1.0)

    work = Work(type=task, id=str(call.vmid), seconds=REQUEST_S, body=body)
    upid = yield from fork(m, call, work)
    return upid
