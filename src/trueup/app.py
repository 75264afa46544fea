"""The composition root: the only place that knows every floor, and the entry point of `trueup`.

It hands the commands a value full of parts, made once a command is known, and imports each adapter inside the function
that makes it, so that `trueup --help` answers before a person notices.
"""

import gc
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from trueup.adapters import pve_http
    from trueup.adapters.manifests import Manifests
    from trueup.adapters.pve_schema import Looked
    from trueup.edges.parts import Credential, Notifier, Parts
    from trueup.model.errors import BadInput
    from trueup.model.settings import ClusterSettings, NotifySettings, Settings
    from trueup.ports import Clock, Entropy, Keeper, Pve


def main() -> None:
    """Run the command line and exit with its code."""
    # Most of what is made while modules are loaded and answers are decoded lives on: looking through it is in vain.
    gc.set_threshold(20_000, 20, 20)
    # Forms are checked by us alone: pydantic need not look through all that is installed for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from trueup.edges.cli import run

    code = run(parts)
    gc.freeze()  # nor is looking for cycles in all of it worth anything at the end
    sys.exit(code)


def parts() -> "Parts":
    """The parts of the real thing: this machine's clock, the journal that the settings name, PVE over HTTPS."""
    from trueup.edges.journals import Journals
    from trueup.edges.parts import JournalFile, Parts

    journals = Journals(_clock, _holder)
    return Parts(
        settings=_settings,
        clusters=_clusters,
        clock=_clock,
        entropy=_entropy,
        journal=journals.journal,
        reader=journals.reader,
        standing_by=journals.standing_by,
        journal_file=JournalFile(
            exists=journals.exists,
            held=journals.held,
            verify=journals.verify,
            export=journals.export,
            stats=journals.stats,
            durability=journals.durability,
            described=journals.described,
            upkeep=journals,
        ),
        manifests=_manifests,
        pve=_pve,
        keeper=_keeper,
        options=_options,
        notifier=_notifier,
        notify_problems=_notify_problems,
    )


def _settings(file: "Path") -> "Settings":
    from trueup.edges import settings

    return settings.load(file)


def _clusters(file: "Path") -> "Sequence[Settings]":
    from trueup.edges import settings

    return settings.load_all(file)


def _clock() -> "Clock":
    from trueup.adapters.system import SystemClock

    return SystemClock()


def _entropy() -> "Entropy":
    from trueup.adapters.system import SystemEntropy

    return SystemEntropy()


def _holder() -> str:
    """Name this process as the journal does: host and pid."""
    from trueup.edges.incarnation import holder

    return holder()


# -- manifests and PVE -------------------------------------------------------------------------------------------------


def _manifests(folder: "Path") -> "Callable[[], Manifests]":
    from trueup.adapters import manifests

    cache = manifests.ManifestCache()
    return lambda: manifests.load(folder, cache=cache)


@asynccontextmanager
async def _pve(settings: "Settings", who: "Credential") -> "AsyncGenerator[Pve]":
    from trueup.adapters import pve_http

    login = _login(settings.cluster, who)
    slots = settings.limits.slots_per_node
    async with pve_http.connect(login, _clock(), slots_per_node=slots) as client:
        await client.version()
        yield client


@asynccontextmanager
async def _keeper(cluster: "ClusterSettings", user: str, who: "Credential") -> "AsyncGenerator[Keeper]":
    from trueup.adapters import pve_http

    async with pve_http.connect_keeper(_login(cluster, who), _clock(), user=user) as keeper:
        yield keeper


async def _options(pve: "Pve", settings: "Settings") -> "Looked":
    from trueup.adapters import pve_schema
    from trueup.adapters.pve import PveClient

    inner: object = pve
    while not isinstance(inner, PveClient) and hasattr(inner, "inner"):  # whoever counts or bounds calls
        inner = getattr(inner, "inner")  # noqa: B009 - its type is not known
    if not isinstance(inner, PveClient):
        return pve_schema.Looked()
    folder = settings.store.path.parent
    return await pve_schema.look_up(inner, folder / "schema" if folder.is_dir() else None)


def _notifier(settings: "NotifySettings") -> "Notifier | None":
    from trueup.adapters.notify import AppriseNotifier

    return AppriseNotifier(settings.urls) if settings.urls else None


def _notify_problems(settings: "NotifySettings") -> "Sequence[BadInput]":
    from trueup.adapters import notify

    return notify.problems(settings.urls)


def _login(cluster: "ClusterSettings", who: "Credential") -> "pve_http.Login":
    from trueup.adapters import pve_http

    return pve_http.Login(endpoints=cluster.endpoints, trust=cluster.trust, token=who.token, secret=who.secret)
