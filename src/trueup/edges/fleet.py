"""One process that serves several clusters: an agent for each. Signals, HTTP and the service manager are shared.

Rule kept here: no cluster waits for another one. What ends the agent of one (PVE does not answer at the start, a
damaged journal, a mistake of ours) ends that agent only: it is said, and the agent is begun anew, with a recovery, a
little later each time. What the process cannot do without, its address and its token, ends all of it at the start.
"""

import asyncio
import os
import traceback
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

from trueup.edges import daemon, hosting
from trueup.edges.alarms import Alarms
from trueup.edges.ears import Ears
from trueup.edges.hosting import Heard
from trueup.edges.log import Log
from trueup.edges.parts import Parts
from trueup.edges.stopping import Stopping
from trueup.edges.systemd import Systemd
from trueup.edges.web.doors import Doors
from trueup.edges.web.hall import Hall, Place
from trueup.edges.web.serving import serving
from trueup.edges.web.site import Site
from trueup.model import limits
from trueup.model.errors import BadInput, TrueupError
from trueup.model.settings import Settings

AGAIN_MOST_S: Final = 60.0
"""The longest wait before an agent that ended by an error is begun anew; the first one is `BACKOFF_FIRST_S`."""


async def serve(parts: Parts, several: Sequence[Settings], log: Log) -> int:
    """Serve all clusters until told to stop. `parts` read the file that `several` came from.

    Raises:
        BadInput: the HTTP address or token cannot be used.
    """
    http, clock = several[0].http, parts.clock()
    reading = Reading(parts, several, log)
    ears = Ears(reading.renew)
    doors, about_token = hosting.doors(http, clock)
    hall = Hall(
        [settings.cluster.name for settings in several], doors, clock, lambda text: log.error("http", text=text)
    )
    manager = Manager(hall)
    with ears.open():
        async with serving(http, hall, clusters=len(several)) as url:
            hosting.say_listening(log, url, about_token)
            log.info("clusters", text=", ".join(hall.places))
            beside = [asyncio.create_task(manager.systemd.watchdog(clock)), asyncio.create_task(hall.stir())]
            try:
                async with asyncio.TaskGroup() as group:
                    for settings in several:
                        member = Member(reading.parts_of(settings), settings, log, hall, ears)
                        group.create_task(member.keep(manager), name=settings.cluster.name)
            finally:
                for task in beside:
                    task.cancel()
                hall.changes.end()
    log.info("stopped", clusters=len(several))
    return 0


def _ours(error: BaseException) -> bool:
    """Whether an error says all that there is to know."""
    if isinstance(error, BaseExceptionGroup):
        return all(_ours(one) for one in cast("BaseExceptionGroup[BaseException]", error).exceptions)
    return isinstance(error, TrueupError)


class Reading:
    """The settings file, read once for all of its clusters at the start, and once on each SIGHUP."""

    def __init__(self, parts: Parts, several: Sequence[Settings], log: Log) -> None:
        """`several` was read at the start. A cluster that is new later has to wait for a restart."""
        self._parts = parts
        self._file = several[0].file
        self._names = frozenset(settings.cluster.name for settings in several)
        self._log = log
        self._found = several

    def renew(self) -> bool:
        """Read it anew; whether it is sound. What is wrong is told here, once for all."""
        try:
            self._found = self._parts.clusters(self._file)
        except BadInput as error:
            self._log.error("settings", text=f"not taken over, the agents go on as before: {error}")
            return False
        for settings in self._found:
            if settings.cluster.name not in self._names:
                text = f"cluster {settings.cluster.name} is new: restart the agent to serve it"
                self._log.warning("settings", text=text)
        return True

    def parts_of(self, settings: Settings) -> Parts:
        """The parts of one cluster, which read what was read."""

        def clusters(_file: Path) -> Sequence[Settings]:
            return self._found

        return replace(self._parts, clusters=clusters).of_cluster(settings.cluster.name)


class Manager:
    """Speaks to the service manager for all: it is ready once the first cluster is, and its status counts them."""

    def __init__(self, hall: Hall) -> None:
        """Look at the clusters of `hall`."""
        self.systemd = Systemd(os.environ)
        self._hall = hall
        self._ready = False

    def ready(self) -> None:
        """A cluster leads, or stands by."""
        if not self._ready:
            self._ready = True
            self.systemd.ready()
        self.count()

    def count(self) -> None:
        """Something has changed."""
        places = self._hall.places.values()
        down = [place.name for place in places if place.problem and place.site is None]
        ready = sum(place.ready for place in places)
        self.systemd.status(f"{ready} of {len(places)} clusters ready" + (f"; down: {', '.join(down)}" if down else ""))


class _Told(Systemd):
    """One cluster's line to the service manager: it speaks for itself to the `Manager` only."""

    def __init__(self, manager: Manager, place: Place) -> None:
        super().__init__({})
        self._place = place
        self._manager = manager
        self.was_ready = False

    def ready(self) -> None:
        """See `Systemd`."""
        self.was_ready = True
        self._place.problem = ""
        self._manager.ready()

    def stopping(self) -> None:
        """See `Systemd`."""
        self._manager.systemd.stopping()


class Member:
    """One cluster of the fleet; also its agent's `Host`."""

    def __init__(self, parts: Parts, settings: Settings, log: Log, hall: Hall, ears: Ears) -> None:
        """`parts` are those of this cluster."""
        self._parts = parts
        self._settings = settings
        self._log = log.bind(cluster=settings.cluster.name)
        self._hall = hall
        self._ears = ears
        self._place: Place = hall.places[settings.cluster.name]
        self.root = self._place.root
        self.systemd: Systemd = Systemd({})

    async def keep(self, manager: Manager) -> None:
        """Serve this cluster until told to stop. Never raises: a group of tasks would take the others down with it."""
        try:
            await self._keep(manager)
        except Exception as error:  # noqa: BLE001 - the one broad guard of a cluster: the others go on
            self._place.problem = daemon.first_line(error)
            self._log.error("bug", text="".join(traceback.format_exception(error)))

    async def _keep(self, manager: Manager) -> None:
        async with daemon.telling(self._parts, self._settings, self._log) as alarms:
            failures, said = 0, ""
            while not self._ears.asked:
                self.systemd = told = _Told(manager, self._place)
                problem = await self._life(alarms)
                if problem is None:
                    return
                failures = 1 if told.was_ready else failures + 1
                if told.was_ready or problem != said:
                    alarms.ends(problem)
                self._place.problem = said = problem
                wait_s = self._wait_s(failures)
                self._log.error("cluster_down", text=problem, again_s=round(wait_s))
                manager.count()
                if await self._ears.stop_within(wait_s):
                    return

    async def _life(self, alarms: Alarms) -> str | None:
        """One agent, from its start to its end: None if it was told to stop, else why it ended."""
        try:
            await daemon.lead_in_turn(self._parts, self._settings, self._log, alarms, self)
        except Exception as error:  # noqa: BLE001 - the one broad guard of an agent: it is begun anew
            if _ours(error):
                return daemon.first_line(error)
            self._log.error("bug", text="".join(traceback.format_exception(error)))
            return f"something of ours went wrong ({type(error).__name__}); the log has all of it"
        return None

    def _wait_s(self, failures: int) -> float:
        wait_s = min(AGAIN_MOST_S, limits.BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))
        return wait_s * (1 + limits.BACKOFF_JITTER * (self._parts.entropy().jitter() - 0.5))

    # -- as the host of its agent --------------------------------------------------------------------------------------

    def doors(self) -> Doors:
        """See `Host`."""
        return self._hall.doors

    @asynccontextmanager
    async def serving(self, site: Site) -> AsyncGenerator[None]:
        """See `Host`."""
        async with self._place.taken(site):
            yield

    def stopping(self, stopping: Stopping) -> AbstractContextManager[None]:
        """See `Host`."""
        return self._ears.stopping(stopping)

    def reloading(self, heard: Heard) -> AbstractContextManager[None]:
        """See `Host`."""
        return self._ears.reloading(heard)
