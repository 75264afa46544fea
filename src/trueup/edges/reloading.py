"""What an agent takes over while it runs: changed manifests at once, changed settings on SIGHUP.

Rule kept here: settings that are wrong change nothing. What an incarnation was built on (cluster, journal, gate, HTTP,
limits) is not exchanged under it; that such a setting changed is said, with what to do.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec

from trueup.adapters import watching
from trueup.edges.hosting import Host
from trueup.edges.log import Log
from trueup.edges.parts import Parts
from trueup.engine.agent import Pace
from trueup.model.errors import BadInput
from trueup.model.settings import Mode, Settings

_TAKEN_OVER = frozenset({"reconcile", "warnings"})
OBSERVING = 'observe mode: differences are shown, nothing is changed (mode = "enforce" under [reconcile] changes that)'


class Reloading:
    """The settings as they are now."""

    def __init__(self, parts: Parts, settings: Settings, log: Log, host: Host) -> None:
        """Start with what the agent was started with."""
        self._host = host
        self._parts = parts
        self._settings = settings
        self._log = log
        self._say_mode()

    def pace(self) -> Pace:
        """How the loop goes on."""
        now = self._settings.reconcile
        return Pace(interval_s=now.interval_s, enforce=now.mode is Mode.ENFORCE)

    def mode(self) -> Mode:
        """Whether the loop mends what it finds."""
        return self._settings.reconcile.mode

    def listening(self, look_now: Callable[[], None]) -> AbstractContextManager[None]:
        """Hear SIGHUP while this is open."""

        def heard() -> None:
            self.reload()
            look_now()

        return self._host.reloading(heard)

    async def watch(self, look_now: Callable[[], None]) -> None:
        """Start a pass at once when a manifest changes, for ever."""
        clock, seen = self._parts.clock(), None
        while True:
            folder = self._settings.manifests.path
            seen = await watching.changed(folder, clock, seen)
            self._log.info("manifests_changed", text=str(folder))
            look_now()

    def reload(self) -> None:
        """Read the settings anew. Wrong ones are told, and change nothing."""
        try:
            read = self._parts.settings(self._settings.file)
        except BadInput as error:
            self._log.error("settings", text=f"not taken over, the agent goes on as before: {error}")
            return
        before, self._settings = self._settings, msgspec.structs.replace(self._settings, reconcile=read.reconcile)
        for name in Settings.__struct_fields__:
            if name not in _TAKEN_OVER and getattr(read, name) != getattr(before, name):
                self._log.warning("settings", text=f"[{name}] has changed: restart the agent to take it over")
        self._log.info("reloaded", text=f"interval {read.reconcile.interval_s:g} s, mode {read.reconcile.mode}")
        if read.reconcile.mode is not before.reconcile.mode:
            self._say_mode()

    def _say_mode(self) -> None:
        if self._settings.reconcile.mode is Mode.OBSERVE:
            self._log.warning("observing", text=OBSERVING)
