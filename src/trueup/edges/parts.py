"""What commands are made of, as a value: the commands ask for a part, and only `app` knows where it comes from.

Nothing is opened before it is asked for, so that `trueup --help` and the commands that only read pay for what they use.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from trueup.adapters.manifests import Manifests
    from trueup.adapters.pve_schema import Looked
    from trueup.adapters.sqlite import Stats, Verification
    from trueup.adapters.sqlite.copies import Copied, Salvage
    from trueup.adapters.sqlite.retention import Clerk, Pruning
    from trueup.edges.standing_by import StandingBy
    from trueup.model.errors import BadInput
    from trueup.model.ids import TokenId
    from trueup.model.settings import ClusterSettings, NotifySettings, Secret, Settings, StoreSettings
    from trueup.ports import Clock, Entropy, Journal, JournalReader, Keeper, Pve


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """An API token with its secret."""

    token: "TokenId"
    secret: "Secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalFile:
    """What can be asked of a journal's file as a whole, beside its writer. All of them may raise BadInput or Corrupt.

    `exists` tells whether there is one; `held` whether somebody holds its writer's lock now; `durability` what is wrong
    with how it is kept ('' = nothing), `described` what keeps it.
    """

    exists: "Callable[[StoreSettings], bool]"
    held: "Callable[[StoreSettings], bool]"
    verify: "Callable[[StoreSettings], Verification]"
    export: "Callable[[StoreSettings], Iterator[str]]"
    stats: "Callable[[StoreSettings], Stats]"
    durability: "Callable[[StoreSettings], str]"
    described: "Callable[[StoreSettings], str]"
    upkeep: "JournalUpkeep"


class Notifier(Protocol):
    """Who tells people. It never raises, and what it says has no secret in it."""

    async def tell(self, title: str, text: str) -> tuple[str, ...]:
        """Tell everybody; the answer names those that could not be told."""
        ...


class JournalUpkeep(Protocol):
    """What is done to a journal's file as a whole. All of them may raise BadInput, Corrupt or JournalFailed."""

    def backup(self, store: "StoreSettings", target: "Path") -> "Copied":
        """Copy it beside its writer, and verify the copy."""
        ...

    def import_lines(self, store: "StoreSettings", lines: "Iterable[bytes]") -> "Copied":
        """Make it of an export's lines; there is none yet."""
        ...

    def prune(self, store: "StoreSettings", before_ms: int, clerk: "Clerk", *, dry: bool) -> "Pruning":
        """Remove the records of operations that ended before this instant. Raises JournalBusy too."""
        ...

    def quarantine(self, store: "StoreSettings", stamp: str, record_id: str, at_ms: int) -> "Salvage":
        """Move a damaged one aside and start anew with what could be read. Raises JournalBusy too."""
        ...

    def rebuild(self, store: "StoreSettings") -> "Verification":
        """Make its derived tables anew. Raises JournalBusy too."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All parts.

    `settings` reads a settings file for one cluster, `clusters` for each one that it names. `journal` opens the
    journal for writing; its lock or lease is held from `enter` to `close`. `reader` opens it beside its writer,
    `standing_by` for an agent that waits to lead (None where the journal knows no standbys); all raise what the adapter
    raises. `manifests` makes a loader that remembers files which did not change. `pve` and `keeper` connect, and are
    entered once PVE has answered. `options` asks the cluster which options guests have there, and never raises.
    `notifier` is who tells people of alarms, None for nobody; it raises BadInput where its library is missing.
    `notify_problems` says what is wrong with its settings.
    """

    settings: "Callable[[Path], Settings]"
    clusters: "Callable[[Path], Sequence[Settings]]"
    clock: "Callable[[], Clock]"
    entropy: "Callable[[], Entropy]"
    journal: "Callable[[StoreSettings], Journal]"
    standing_by: "Callable[[StoreSettings], AbstractAsyncContextManager[StandingBy | None]]"
    reader: "Callable[[StoreSettings], AbstractAsyncContextManager[JournalReader]]"
    journal_file: JournalFile
    manifests: "Callable[[Path], Callable[[], Manifests]]"
    pve: "Callable[[Settings, Credential], AbstractAsyncContextManager[Pve]]"
    keeper: "Callable[[ClusterSettings, str, Credential], AbstractAsyncContextManager[Keeper]]"
    options: "Callable[[Pve, Settings], Awaitable[Looked]]"
    notifier: "Callable[[NotifySettings], Notifier | None]"
    notify_problems: "Callable[[NotifySettings], Sequence[BadInput]]"

    def of_cluster(self, name: str) -> "Parts":
        """The same parts, whose settings are those of one cluster. Reading them raises BadInput if there is none."""

        def settings(file: "Path") -> "Settings":
            from trueup.edges.settings import pick

            return pick(self.clusters(file), name)

        def clusters(file: "Path") -> "Sequence[Settings]":
            return (settings(file),)

        return replace(self, settings=settings, clusters=clusters)
