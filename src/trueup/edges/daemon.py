"""The agent of one cluster: it leads or stands by, recovers, and keeps the guests at their manifests until a signal.

Rule kept here: all that it has of the process, it has through its `Host`; so it may be one of many.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import msgspec

from trueup.adapters.manifests import ManifestFile, Manifests, refuse_emptied
from trueup.adapters.pve_schema import Looked
from trueup.adapters.system import give_back_memory
from trueup.edges import inbox, incarnation, leading, option_check
from trueup.edges.acts import Acts, at_the_socket
from trueup.edges.alarms import Alarms, heard
from trueup.edges.gating import Gatekeeper
from trueup.edges.hosting import Host
from trueup.edges.journal_head import HeadLog
from trueup.edges.log import Log, LogReporter
from trueup.edges.parts import Parts
from trueup.edges.reloading import Reloading
from trueup.edges.stopping import Stopping
from trueup.edges.systemd import Systemd
from trueup.edges.waiting_room import WaitingRoom
from trueup.edges.web.front import Front
from trueup.edges.web.health import Health, Phase
from trueup.engine.agent import Agent
from trueup.engine.agent import run as keep
from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.guests import Desired
from trueup.model.ids import Vmid
from trueup.model.notes import Note, What
from trueup.model.settings import Settings
from trueup.ports import Journal, Reporter


async def serve(parts: Parts, settings: Settings, log: Log, host: Host) -> int:
    """Work until told to stop, and tell people what needs them. Raises whatever ends the agent."""
    async with telling(parts, settings, log) as alarms:
        try:
            return await lead_in_turn(parts, settings, log, alarms, host)
        except Exception as error:
            alarms.ends(first_line(error))
            raise


@asynccontextmanager
async def telling(parts: Parts, settings: Settings, log: Log) -> AsyncGenerator[Alarms]:
    """Those who tell people of alarms, as the settings name them. Never raises of itself."""
    problems = parts.notify_problems(settings.notify) if settings.notify.urls else ()
    for problem in problems:
        log.warning("notify", text=str(problem))
    try:
        notifier = parts.notifier(settings.notify)
    except BadInput:
        notifier = None  # its library is missing, as was just said; alarms stand in the log
    alarms = Alarms(parts.clock(), settings.cluster.name, notifier, lambda text: log.warning("notify", text=text))
    async with alarms.telling():
        yield alarms


async def lead_in_turn(parts: Parts, settings: Settings, log: Log, alarms: Alarms, host: Host) -> int:
    """Work until told to stop; an agent that lost its lead stands by, and works again when it is its turn."""
    while True:
        settings = _as_now(parts, settings)
        stopping = Stopping(lambda text: log.warning("stopping", text=text))
        try:
            with host.stopping(stopping):
                await _work(parts, settings, stopping, _Surroundings(log, alarms, host))
                return 0
        except asyncio.CancelledError:
            if not stopping.asked:
                raise
            return 0
        except Exception as error:
            lost = leading.stands_by_again(settings, error)
            if lost is None or stopping.asked:
                raise
            alarms.lost_lead(first_line(lost))
            log.warning("not_leading", text=f"nothing is changed from here any more: {lost}")
        await parts.clock().sleep(limits.STANDBY_LOOK_S)


def _as_now(parts: Parts, settings: Settings) -> Settings:
    """What was taken over on SIGHUP counts for the next turn too, above all that nothing shall be changed."""
    try:
        return msgspec.structs.replace(settings, reconcile=parts.settings(settings.file).reconcile)
    except BadInput:
        return settings  # told when it is read on SIGHUP


class _Surroundings(msgspec.Struct, frozen=True):
    log: Log
    alarms: Alarms
    host: Host


async def _work(parts: Parts, settings: Settings, stopping: Stopping, around: _Surroundings) -> None:
    log, alarms, host = around.log, around.alarms, around.host

    def warn(text: str) -> None:
        log.warning("settings", text=text)

    incarnation.say(settings.warnings, warn)
    clock = parts.clock()
    systemd = host.systemd
    front = Front(heard(parts, alarms), settings, log, incarnation.holder())
    parts, health = front.parts, front.board.health
    heads = HeadLog(log, clock, lambda: front.board.head)
    async with (
        leading.candidate(parts, settings, log) as candidate,
        front.open(host),
        candidate.lead(health, systemd, WaitingRoom(parts, settings, front, warn)) as journal,
    ):
        sources = Sources(parts.manifests(settings.manifests.path), await journal.adopted())
        reporter = _Pulse((LogReporter(log), front, alarms), systemd)
        async with (
            _beside(journal.led(), systemd.watchdog(clock), sources.refresh(journal, reporter), heads.at_intervals()),
            incarnation.incarnation(parts, settings, journal, reporter, warn) as agent,
        ):
            heads.say()
            sources.options = await parts.options(agent.deck.pve, settings)
            gate = Gatekeeper(agent.deck, settings, own_token=agent.own_token, warn=lambda text: _warned(log, text))
            acts = Acts(agent.deck, sources.load, gate.gate)
            async with at_the_socket(settings, acts):
                health.phase, health.epoch = Phase.RECOVERING, agent.deck.epoch
                await agent.recover()
                health.phase = Phase.LEADING
                systemd.ready()
                try:
                    reloading = Reloading(parts, settings, log, host)
                    office = Office(
                        acts,
                        gate,
                        inbox.taker(settings, journal, gate, clock, lambda text: log.info("inbox", text=text)),
                    )
                    await _keep(agent, office, reloading, stopping, front, lambda: _told(health, systemd, log.info))
                finally:
                    health.phase = Phase.STOPPING
    heads.say(again=True)
    log.info("stopped")


def first_line(error: BaseException) -> str:
    """What a person is told of it, in one line; of a group its first error."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return str(error).partition("\n")[0] or type(error).__name__


class Office(msgspec.Struct, frozen=True):
    """What people reach: the acts, the gate, and what other agents have put down for it."""

    acts: Acts
    gate: Gatekeeper
    taker: inbox.Taker | None

    def keep(self) -> list[Coroutine[object, object, None]]:
        """What is done beside the loop."""
        return [self.gate.keep(), *([self.taker.keep()] if self.taker else ())]


async def _keep(
    agent: Agent,
    office: Office,
    reloading: Reloading,
    stopping: Stopping,
    front: Front,
    told: Callable[[], None],
) -> None:
    """Make passes until a signal; then let what is on the wire be answered, but not for ever."""
    acts, gate = office.acts, office.gate
    async with agent.reconciler(gate.gate.check_again) as reconciler:

        def wind_down() -> None:
            told()
            reconciler.wind_down()
            asyncio.get_running_loop().call_later(limits.AGENT_STOP_S, stopping.at_once)

        stopping.gently(wind_down)
        gate.wake = reconciler.look_now
        front.working(agent, reconciler, reloading.mode, gate)
        with acts.working(agent, reconciler), reloading.listening(reconciler.look_now):
            async with _beside(reloading.watch(reconciler.look_now), *office.keep()):
                await keep(
                    reconciler, agent.deck, front.loading(acts.load), pace=reloading.pace, own_token=agent.own_token
                )


def _warned(log: Log, text: str) -> None:
    log.warning("gate", text=text)


def _told(health: Health, systemd: Systemd, say: Callable[[str], object]) -> None:
    health.phase = Phase.STOPPING
    systemd.stopping()
    say("stopping")


class Sources:
    """The manifests, read anew on each pass, and the guests known as ours, which an empty folder must not forget."""

    def __init__(self, load: Callable[[], Manifests], adopted: Iterable[Vmid]) -> None:
        """Read through `load`."""
        self._load = load
        self._adopted = tuple(adopted)
        self._checked: tuple[ManifestFile, ...] | None = None
        self.options = Looked()

    def load(self) -> Sequence[Desired]:
        """What the manifests want now. Raises BadInput, then this pass is not made."""
        manifests = self._load()
        refuse_emptied(manifests, self._adopted)
        if manifests.files != self._checked:  # what has not changed is as good as it was
            option_check.refuse(self.options, manifests)
            self._checked = manifests.files
        return manifests.guests

    async def refresh(self, journal: Journal, pulse: "_Pulse") -> None:
        """Learn after each pass which guests are ours."""
        while True:
            await pulse.passed.wait()
            pulse.passed.clear()
            self._adopted = tuple(await journal.adopted())
            give_back_memory()  # the lists of ten thousand guests are some megabytes, and the next pass is far off


class _Pulse:
    """Hears when a pass has ended, and passes all news on."""

    def __init__(self, reporters: Sequence[Reporter], systemd: Systemd) -> None:
        self._reporters = reporters
        self._systemd = systemd
        self.passed = asyncio.Event()

    def note(self, note: Note) -> None:
        """See `trueup.ports.Reporter`."""
        for reporter in self._reporters:
            reporter.note(note)
        if note.what in {What.PASS_ENDED, What.ALARM}:
            self._systemd.status(note.text)
            self.passed.set()


@asynccontextmanager
async def _beside(*work: Coroutine[object, object, None]) -> AsyncGenerator[None]:
    """Do this work while the body runs; if any of it fails, the body is cancelled and the error comes out."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
