"""What an agent does while another one leads: it shows the cluster and takes what is signed, and changes nothing.

Rules kept here: it looks with ports that cannot change anything, more rarely than a leader does, and what is handed in
goes into the inbox. A standby that cannot read PVE still shows what the journal knows, and still waits for its turn.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from trueup.adapters.manifests import refuse_emptied
from trueup.edges import incarnation
from trueup.edges.inbox import Post
from trueup.edges.looking import LookingJournal
from trueup.edges.parts import Parts
from trueup.edges.spool import Spool
from trueup.edges.standing_by import StandingBy
from trueup.edges.web.front import Front
from trueup.engine.surveyor import Survey, Surveyor
from trueup.model import limits
from trueup.model.errors import TrueupError
from trueup.model.settings import Settings

_SURVEY_S: Final = 60.0
"""Between two looks at the cluster, for those who look at the page."""

_STIR_S: Final = 5.0
"""Between two readings of the journal for a page that is open."""


class WaitingRoom:
    """One agent's time as a standby."""

    def __init__(self, parts: Parts, settings: Settings, front: Front, warn: incarnation.Warn) -> None:
        """Show on `front`; `warn` hears what is wrong with settings and the spool."""
        self._parts = parts
        self._settings = settings
        self._front = front
        self._warn = warn
        self._clock = parts.clock()
        self._load = parts.manifests(settings.manifests.path)
        self._said = ""

    @asynccontextmanager
    async def open(self, standby: StandingBy) -> AsyncGenerator[None]:
        """Look and take while this is open; then nothing of it is left under way."""
        post = Post(standby)
        async with asyncio.TaskGroup() as group:
            work = [group.create_task(one) for one in (self._look(standby), self._spool(post), self._stir())]
            self._front.standing_by(post)
            try:
                yield
            finally:
                self._front.standing_by(None)
                for task in work:
                    task.cancel()

    async def _look(self, standby: StandingBy) -> None:
        while True:
            try:
                self._front.looked(await self._survey(standby))
            except TrueupError as error:
                self._front.not_looked(str(error))
            await self._clock.sleep(max(_SURVEY_S, self._settings.reconcile.interval_s))

    async def _survey(self, standby: StandingBy) -> Survey:
        manifests = self._load()
        refuse_emptied(manifests, await standby.adopted())
        self._front.board.wanted(manifests.guests)
        async with incarnation.sight(self._parts, self._settings, LookingJournal(standby), self._once) as seen:
            surveyor = Surveyor(pve=seen.pve, journal=seen.journal, clock=self._clock, installation=seen.installation)
            return await surveyor.survey(manifests.guests)

    async def _spool(self, post: Post) -> None:
        spool = Spool(self._settings.gate.spool, post, self._clock, self._warn)
        while True:
            try:
                await spool.look()
            except TrueupError as error:  # the file stays, and is taken later, by whoever leads here
                self._once(f"spool: {error}")
            await self._clock.sleep(limits.SPOOL_LOOK_S)

    async def _stir(self) -> None:
        """Let pages be read anew: what the leader writes is not told here."""
        while True:
            await self._clock.sleep(_STIR_S)
            self._front.perhaps_changed()

    def _once(self, text: str) -> None:
        if text != self._said:
            self._warn(text)
        self._said = text
