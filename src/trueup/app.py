"""The composition root: the only place that knows every floor, and the entry point of `trueup`.

It hands the commands a value full of parts and imports each adapter inside the function that makes it, so that
`trueup --help` answers before a person notices.
"""

import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trueup.edges.cli import run
from trueup.edges.parts import Credential, JournalFile, Parts

if TYPE_CHECKING:
    from trueup.adapters import pve_http
    from trueup.adapters.manifests import Manifests
    from trueup.adapters.pve_schema import Looked
    from trueup.adapters.sqlite import Stats, Verification
    from trueup.adapters.sqlite.copies import Copied, Salvage
    from trueup.adapters.sqlite.retention import Clerk, Pruning
    from trueup.model.settings import ClusterSettings, Settings, StoreSettings
    from trueup.ports import Clock, Entropy, Journal, JournalReader, Keeper, Pve


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(parts()))


def parts() -> Parts:
    """The parts of the real thing: this machine's clock, a SQLite journal, PVE over HTTPS."""
    return Parts(
        settings=_settings,
        clock=_clock,
        entropy=_entropy,
        journal=_journal,
        reader=_reader,
        journal_file=JournalFile(
            exists=_exists,
            held=_held,
            verify=_verify,
            export=_export,
            stats=_stats,
            durability=_durability,
            upkeep=_Upkeep(),
        ),
        manifests=_manifests,
        pve=_pve,
        keeper=_keeper,
        options=_options,
    )


def _settings(file: Path) -> "Settings":
    from trueup.edges import settings

    return settings.load(file)


def _clock() -> "Clock":
    from trueup.adapters.system import SystemClock

    return SystemClock()


def _entropy() -> "Entropy":
    from trueup.adapters.system import SystemEntropy

    return SystemEntropy()


# -- the journal -------------------------------------------------------------------------------------------------------


def _journal(store: "StoreSettings") -> "Journal":
    from trueup.adapters import sqlite

    return sqlite.open_journal(store.path)


@asynccontextmanager
async def _reader(store: "StoreSettings") -> "AsyncGenerator[JournalReader]":
    from trueup.adapters import sqlite

    reader = sqlite.open_reader(store.path)
    try:
        yield reader
    finally:
        await reader.close()


def _exists(store: "StoreSettings") -> bool:
    return store.path.exists()


def _held(store: "StoreSettings") -> bool:
    from trueup.adapters.sqlite.lock import is_held

    return is_held(store.path)


def _verify(store: "StoreSettings") -> "Verification":
    from trueup.adapters import sqlite

    return sqlite.verify(store.path)


def _export(store: "StoreSettings") -> Iterator[str]:
    from trueup.adapters import sqlite

    return sqlite.export(store.path)


def _stats(store: "StoreSettings") -> "Stats":
    from trueup.adapters import sqlite

    return sqlite.stats(store.path)


def _durability(store: "StoreSettings") -> str:
    from trueup.adapters import sqlite

    return sqlite.durability(store.path)


class _Upkeep:
    """See `trueup.edges.parts.JournalUpkeep`."""

    def backup(self, store: "StoreSettings", target: Path) -> "Copied":
        from trueup.adapters import sqlite

        return sqlite.backup(store.path, target)

    def import_lines(self, store: "StoreSettings", lines: Iterable[bytes]) -> "Copied":
        from trueup.adapters import sqlite

        return sqlite.import_lines(lines, store.path)

    def prune(self, store: "StoreSettings", before_ms: int, clerk: "Clerk", *, dry: bool) -> "Pruning":
        from trueup.adapters import sqlite

        return sqlite.prune(store.path, before_ms=before_ms, clerk=clerk, dry=dry)

    def quarantine(self, store: "StoreSettings", stamp: str, record_id: str, at_ms: int) -> "Salvage":
        from trueup.adapters import sqlite

        return sqlite.quarantine(store.path, stamp=stamp, record_id=record_id, at_ms=at_ms)

    def rebuild(self, store: "StoreSettings") -> "Verification":
        from trueup.adapters import sqlite

        return sqlite.rebuild(store.path)


# -- manifests and PVE -------------------------------------------------------------------------------------------------


def _manifests(folder: Path) -> "Callable[[], Manifests]":
    from trueup.adapters import manifests

    cache = manifests.ManifestCache()
    return lambda: manifests.load(folder, cache=cache)


@asynccontextmanager
async def _pve(settings: "Settings", who: Credential) -> "AsyncGenerator[Pve]":
    from trueup.adapters import pve_http

    login = _login(settings.cluster, who)
    slots = settings.limits.slots_per_node
    async with pve_http.connect(login, _clock(), slots_per_node=slots) as client:
        await client.version()
        yield client


@asynccontextmanager
async def _keeper(cluster: "ClusterSettings", user: str, who: Credential) -> "AsyncGenerator[Keeper]":
    from trueup.adapters import pve_http

    async with pve_http.connect_keeper(_login(cluster, who), _clock(), user=user) as keeper:
        yield keeper


async def _options(pve: "Pve", settings: "Settings") -> "Looked":
    from trueup.adapters import pve_schema
    from trueup.adapters.pve import PveClient

    if not isinstance(pve, PveClient):
        return pve_schema.Looked()
    folder = settings.store.path.parent
    return await pve_schema.look_up(pve, folder / "schema" if folder.is_dir() else None)


def _login(cluster: "ClusterSettings", who: Credential) -> "pve_http.Login":
    from trueup.adapters import pve_http

    return pve_http.Login(endpoints=cluster.endpoints, trust=cluster.trust, token=who.token, secret=who.secret)
