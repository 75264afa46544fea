"""What people ask of whoever holds the journal: pause, resume, adopt, cancel, submit. One code for both ways in.

A command that finds the journal free does it itself; otherwise the message goes over the control socket to the agent
(or the `apply`) that holds it, which does the very same.
"""

import base64
import binascii
import getpass
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import msgspec

from trueup.adapters import control_socket
from trueup.adapters.control_socket import Message
from trueup.edges import incarnation
from trueup.edges.parts import Parts
from trueup.engine import adoption
from trueup.engine.adoption import Refusal, Result
from trueup.engine.agent import Agent
from trueup.engine.gate import Gate
from trueup.engine.reconciler import Reconciler
from trueup.engine.surveyor import Surveyor
from trueup.model.errors import BadInput, InvariantBroken, JournalBusy
from trueup.model.gate_answers import Answer
from trueup.model.guests import Desired
from trueup.model.ids import Epoch, OpId, TokenId, Vmid
from trueup.model.ops import Acknowledged, Draft, Event, Failed, OpState, OpView, Paused, Reason, Record, Resumed
from trueup.model.settings import Settings
from trueup.ports import Clock, Entropy, Journal

Load = Callable[[], Sequence[Desired]]

ACKNOWLEDGE, ADOPT, CANCEL, PAUSE, RESUME, SUBMIT = "acknowledge", "adopt", "cancel", "pause", "resume", "submit"


class Pausing(msgspec.Struct, frozen=True, kw_only=True):
    """What is paused after a pause or a resume ('*' = everything)."""

    paused: tuple[str, ...]


class Adopting(msgspec.Struct, frozen=True, kw_only=True):
    """How an adoption ended."""

    results: tuple[Result, ...]
    refusals: tuple[Refusal, ...]


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """The doubts that were acknowledged."""

    doubts: tuple[str, ...]


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """The operation that was ended before it was sent."""

    op_id: str
    state: str
    reason: str


class Pen(Protocol):
    """Writes records of this epoch: an agent's deck, or a scribe."""

    @property
    def journal(self) -> Journal:
        """The journal."""
        ...

    async def record(self, op_id: OpId | str, *events: Event) -> tuple[Record, ...]:
        """See `trueup.engine.deck.Deck`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scribe:
    """An epoch of its own, taken only to write down what a person said; PVE is not asked."""

    journal: Journal
    epoch: Epoch
    clock: Clock
    entropy: Entropy

    @classmethod
    async def begin(cls, parts: Parts, journal: Journal) -> "Scribe":
        """Take the epoch."""
        clock, entropy = parts.clock(), parts.entropy()
        now_ms = clock.now_ms()
        holder = f"{socket.gethostname()}:{os.getpid()}"
        record_id = entropy.uuid7(now_ms)
        epoch = await journal.take_epoch(holder=holder, token=TokenId(""), record_id=record_id, at_ms=now_ms)
        return cls(journal=journal, epoch=epoch, clock=clock, entropy=entropy)

    async def record(self, op_id: OpId | str, *events: Event) -> tuple[Record, ...]:
        """Append events; durable when it returns."""
        now_ms = self.clock.now_ms()
        drafts = [
            Draft(record_id=self.entropy.uuid7(now_ms), at_ms=now_ms, op_id=OpId(op_id), event=event)
            for event in events
        ]
        return await self.journal.append(self.epoch, drafts)


class Acts:
    """The acts, on one pen. What needs an engine has one only while `working`."""

    def __init__(self, pen: Pen, load: Load, gate: Gate | None = None) -> None:
        """Write with `pen`; `load` reads the manifests. Without a gate nothing signed is taken."""
        self._pen = pen
        self.load = load
        self._gate = gate
        self._agent: Agent | None = None
        self._reconciler: Reconciler | None = None

    @contextmanager
    def working(self, agent: Agent, reconciler: Reconciler) -> Generator[None]:
        """There is an engine while this is open."""
        self._agent, self._reconciler = agent, reconciler
        try:
            yield
        finally:
            self._agent = self._reconciler = None

    async def do(self, message: Message) -> msgspec.Raw:
        """Do what a message asks for; the answer is the act's result as JSON. Raises TrueupError."""
        match message.command:
            case "pause":
                done: object = await self.pause(message)
            case "resume":
                done = await self.resume(message)
            case "adopt":
                done = await self.adopt(message)
            case "cancel":
                done = await self.cancel(message)
            case "acknowledge":
                done = await self.acknowledge(message)
            case "submit":
                done = await self.submit(message)
            case _:
                what = f"this version cannot {message.command!r} for another one"
                raise BadInput(what=what, remedy="use the same version as the agent")
        if self._reconciler is not None:
            self._reconciler.look_now()
        return msgspec.Raw(msgspec.json.encode(done))

    async def pause(self, message: Message) -> Pausing:
        """Leave guests alone from now on."""
        names = self._names(message.guests, frozenset())
        await self._pen.record("", Paused(guests=names, by=message.by))
        return await self._pausing()

    async def resume(self, message: Message) -> Pausing:
        """Take them up again."""
        paused = await self._pen.journal.paused()
        names = self._names(message.guests, paused)
        if paused:
            await self._pen.record("", Resumed(guests=names, by=message.by))
        return await self._pausing()

    async def _pausing(self) -> Pausing:
        return Pausing(paused=tuple(sorted(await self._pen.journal.paused())))

    def _names(self, given: Sequence[str], paused: frozenset[str]) -> tuple[str, ...]:
        """The names of guests given by name or vmid. Those that are paused may have lost their manifest since."""
        if not given:
            return ()
        declared = self.load()
        by_vmid = {str(want.vmid): want.name for want in declared}
        known = {want.name for want in declared} | paused - {"*"}
        names = [by_vmid.get(text, text) for text in given]
        for text, name in zip(given, names, strict=True):
            if name not in known:
                raise BadInput(
                    what=f"no manifest declares a guest {text!r}", remedy="give a name or a vmid; see `trueup status`"
                )
        return tuple(dict.fromkeys(names))

    async def adopt(self, message: Message) -> Adopting:
        """Take guests over."""
        agent, reconciler = self._agent, self._reconciler
        if agent is None or reconciler is None:
            raise BadInput(what="recovery is not over yet, and comes before any change", remedy="try again afterwards")
        desired = self.load()
        deck = agent.deck
        surveyor = Surveyor(pve=deck.pve, journal=deck.journal, clock=deck.clock, installation=deck.installation)
        survey = await surveyor.survey(desired)
        vmids = [Vmid(int(text)) for text in message.guests]
        found = adoption.consider(survey, desired, vmids, take_over=message.take_over)
        results = await adoption.adopt(found.candidates, reconciler.carry_out)
        return Adopting(results=results, refusals=found.refusals)

    async def acknowledge(self, message: Message) -> Acknowledgement:
        """Somebody has looked: the journal may be relied on."""
        doubts = await self._pen.journal.doubts()
        if doubts:
            await self._pen.record("", Acknowledged(by=message.by))
        return Acknowledgement(doubts=doubts)

    async def cancel(self, message: Message) -> Cancelled:
        """End an accepted operation that was not sent yet. Raises BadInput for any other."""
        view = await self._pen.journal.op(OpId(message.op_id))
        require_unsent(view, message.op_id)
        said = f"cancelled by {message.by or 'a person'} before it was sent"
        await self._pen.record(OpId(message.op_id), Failed(reason=Reason.EXPIRED, exit_status=said))
        return Cancelled(op_id=message.op_id, state=OpState.FAILED.value, reason=Reason.EXPIRED.value)

    async def submit(self, message: Message) -> Answer:
        """Take a signed statement. Its answer, also a refusal, is the gate's own."""
        if self._gate is None:
            raise InvariantBroken(what="nothing signed is handed to acts without a gate")
        try:
            content = base64.b64decode(message.content, validate=True)
        except binascii.Error as error:
            raise BadInput(what="the message is not understood", remedy="use the same version as the agent") from error
        if message.op_id:
            return await self._gate.approve(message.op_id, content, message.via)
        return await self._gate.submit(content, message.via)


def require_unsent(view: OpView | None, op_id: str) -> None:
    """Raise BadInput unless this operation was accepted and never sent: nothing else can be taken back."""
    if view is None:
        raise BadInput(what=f"there is no operation {op_id}", remedy="see `trueup ops list`")
    match view.state:
        case OpState.ACCEPTED:
            return
        case OpState.STARTED | OpState.TASK_RUNNING:
            raise BadInput(
                what=f"{view.intent.kind} of {view.intent.vmid} may have reached PVE, which takes nothing back",
                where=op_id,
                remedy=f"wait for its end, or look with `trueup ops show {op_id}`; `trueup pause` keeps new ones back",
            )
        case OpState.SUCCEEDED | OpState.FAILED:
            what = f"{view.intent.kind} of {view.intent.vmid} has ended already ({view.state}, {view.reason})"
            raise BadInput(what=what, where=op_id, remedy=f"see `trueup ops show {op_id}`")


@asynccontextmanager
async def at_the_socket(settings: Settings, acts: Acts) -> AsyncGenerator[None]:
    """Take what commands hand over, while this is open."""
    async with control_socket.listening(settings.store.path, acts.do):
        yield


async def write_down(parts: Parts, settings: Settings, message: Message) -> msgspec.Raw:
    """Do an act that needs the journal only: ourselves if it is free, else through whoever holds it."""

    async def here(journal: Journal) -> msgspec.Raw:
        scribe = await Scribe.begin(parts, journal)
        return await Acts(scribe, lambda: parts.manifests(settings.manifests.path)().guests).do(message)

    return await here_or_there(parts, settings, message, here)


async def here_or_there(
    parts: Parts, settings: Settings, message: Message, here: Callable[[Journal], Awaitable[msgspec.Raw]]
) -> msgspec.Raw:
    """Do it with the journal if that is free, else hand the message over.

    Raises:
        JournalBusy: the journal is held by somebody who does not listen.
        BadInput: it was refused, here or there.
    """
    async with incarnation.journal_if_free(parts, settings) as journal:
        if not isinstance(journal, JournalBusy):
            return await here(journal)
    try:
        return await control_socket.ask(settings.store.path, message)
    except JournalBusy as silent:
        what = f"{journal.what}, and {silent.what}"
        # The holder of a database may be on another machine, where the socket is.
        remedy = silent.remedy if settings.store.postgres is None else "run the command there, or stop that agent"
        raise JournalBusy(what=what, where=silent.where, remedy=remedy) from silent


def person() -> str:
    """Who asks, as this machine knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
