"""`trueup` that kills itself (SIGKILL) at a point that it was given: a program of its own, started by the tests.

The real commands with the real adapters; only the ports are wrapped, from the outside, and name each step that they
take. What was passed is written to $TRACE, a line each; the step that $DOOM matches is the last. At the first step that
$HALT matches the process stands still (SIGSTOP) until it is told to go on.
"""

import asyncio
import dataclasses
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar

from trueup import app
from trueup.adapters import pve_http
from trueup.edges.cli import run
from trueup.engine.agent import Agent

TRACE = os.open(os.environ["TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
DOOM = re.compile(os.environ.get("DOOM") or r"(?!)")
HALT = re.compile(os.environ.get("HALT") or r"(?!)")
sending: ContextVar[str] = ContextVar("sending", default="")


class Fate:
    halted = False

    @classmethod
    def step(cls, label: str) -> None:
        os.write(TRACE, f"{label}\n".encode())
        if DOOM.search(label):
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()  # not one step more
        if HALT.search(label) and not cls.halted:
            cls.halted = True
            os.kill(os.getpid(), signal.SIGSTOP)


class Wrapped:
    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)


class JournalOfTheDoomed(Wrapped):
    """Names the records before they are written and once they are durable."""

    _whose: dict[str, str]

    def __init__(self, inner):
        super().__init__(inner)
        self._whose = {}

    async def take_epoch(self, **named):
        Fate.step("epoch: before")
        epoch = await self._inner.take_epoch(**named)
        Fate.step("epoch: after")
        return epoch

    async def append(self, epoch, drafts: Sequence):
        labels = [await self._label(draft) for draft in drafts]
        for label in labels:
            Fate.step(f"append {label}: before")
        records = await self._inner.append(epoch, drafts)
        for label in labels:
            Fate.step(f"append {label}: after")
        return records

    async def _label(self, draft) -> str:
        event = type(draft.event).__name__.lower()
        if not draft.op_id:
            return event
        intent = getattr(draft.event, "intent", None)
        if intent is not None:
            self._whose[draft.op_id] = f"{intent.kind.value} {intent.vmid}"
        elif draft.op_id not in self._whose:
            known = await self._inner.op(draft.op_id)
            self._whose[draft.op_id] = f"{known.intent.kind.value} {known.intent.vmid}"
        return f"{event} {self._whose[draft.op_id]}"


class PveOfTheDoomed(Wrapped):
    """Names what is sent and answered, and the reads that recovery leans on."""

    async def send(self, call):
        vmid = re.search(r"/(?:qemu|lxc)/(\d+)", call.path)
        made = call.params.get("newid") or call.params.get("vmid") or (vmid[1] if vmid else "")
        own = {"description", "digest", "protection"}
        fence = call.method == "PUT" and set(call.params) <= own and "digest" in call.params
        label = f"{'fence' if fence else 'request'} {call.method} {call.path} {made}"
        sending.set(label)
        reply = await self._inner.send(call)
        Fate.step(f"answered {label}")
        return reply

    async def tasks(self, node, **named):
        found = await self._inner.tasks(node)
        Fate.step(f"read tasks {node}")
        return found


def wrap_the_wire() -> None:
    """Two points that no port can see: the connection stands, and the last byte has left."""
    one_shot = pve_http._OneShot
    write = one_shot.send

    async def send(self, conn):
        Fate.step(f"connected {sending.get()}")
        response = await write(self, conn)
        if DOOM.search(f"written {sending.get()}"):
            await asyncio.sleep(0.2)  # the bytes leave in a task of their own; the answer is not looked at meanwhile
        Fate.step(f"written {sending.get()}")
        return response

    one_shot.send = send


def wrap_recovery() -> None:
    recover = Agent.recover

    async def told(self, *, dry=False):
        Fate.step("recovery begins")
        report = await recover(self, dry=dry)
        Fate.step(f"recovery ended: examined {report.examined}")
        return report

    Agent.recover = told


def main() -> None:
    wrap_the_wire()
    wrap_recovery()
    parts = app.parts()

    @asynccontextmanager
    async def pve(settings, who):
        async with parts.pve(settings, who) as inner:
            yield PveOfTheDoomed(inner)

    journal = parts.journal
    doomed = dataclasses.replace(parts, journal=lambda store: JournalOfTheDoomed(journal(store)), pve=pve)  # type: ignore[arg-type]
    sys.exit(run(lambda: doomed))


if __name__ == "__main__":
    main()
