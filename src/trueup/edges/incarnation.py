"""From settings to something that works: an incarnation of the agent for commands that write, a sight for the others.

The order of opening is kept here: the journal's lock first, then PVE must answer, and only then an epoch is taken. So
an agent that cannot work, with a wrong token for instance, leaves no trace.
"""

import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from trueup.adapters.pve_schema import Looked
from trueup.edges.looking import LookingJournal, LookingPve
from trueup.edges.parts import Credential, Parts
from trueup.edges.settings import read_secret
from trueup.engine.surveyor import installation_of
from trueup.model.errors import InvariantBroken, JournalBusy, require
from trueup.model.ids import TokenId
from trueup.model.settings import KeeperSettings, SecretSource, Settings
from trueup.ports import Journal, Pve, Reporter

if TYPE_CHECKING:
    from trueup.engine.agent import Agent
    from trueup.model.settings import Secret

Warn = Callable[[str], None]


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What a reading command sees the world through; neither part can change anything."""

    pve: LookingPve
    journal: LookingJournal
    installation: str
    options: Looked | None = None


@asynccontextmanager
async def journal_for_work(parts: Parts, settings: Settings) -> AsyncGenerator[Journal]:
    """Open the journal for writing and hold its lock. Raises JournalBusy, Corrupt, BadInput or JournalFailed."""
    journal = parts.journal(settings.store)
    try:
        await journal.enter()
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def journal_if_free(parts: Parts, settings: Settings) -> AsyncGenerator[Journal | JournalBusy]:
    """The journal for writing, or the news that somebody else holds it. Raises Corrupt, BadInput or JournalFailed."""
    try:
        journal = parts.journal(settings.store)
        await journal.enter()
    except JournalBusy as busy:
        yield busy
        return
    try:
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def journal_for_reading(parts: Parts, settings: Settings) -> AsyncGenerator[LookingJournal]:
    """Open the journal beside its writer; one that does not exist yet is empty. Raises Corrupt or BadInput."""
    if not parts.journal_file.exists(settings.store):
        yield LookingJournal(None)
        return
    async with parts.reader(settings.store) as reader:
        yield LookingJournal(reader)


@asynccontextmanager
async def incarnation(
    parts: Parts, settings: Settings, journal: Journal, reporter: Reporter, warn: Warn
) -> "AsyncGenerator[Agent]":
    """Connect and take the epoch. The agent has not recovered yet.

    Raises:
        BadInput: a secret, a certificate or an address does not do.
        ReadFailed: PVE does not answer, or does not know the token.
        KeeperFailed: the token of this epoch could not be made.
    """
    from trueup.engine.agent import Agent, Foundation, Incarnations  # what only looks needs nothing that acts

    cluster = settings.cluster
    async with AsyncExitStack() as stack:
        incarnations: Incarnations | None = None
        fixed: Pve | None = None
        if cluster.keeper is not None:
            who = keeper_credential(cluster.keeper, warn)
            await stack.enter_async_context(parts.pve(settings, who))  # says at once if the keeper cannot log in
            keeper = await stack.enter_async_context(parts.keeper(cluster, cluster.keeper.user, who))
            incarnations = Incarnations(keeper=keeper, user=cluster.keeper.user, prefix=cluster.keeper.prefix)
        else:
            fixed = await stack.enter_async_context(parts.pve(settings, credential(settings, warn)))

        async def open_pve(token: TokenId | None, secret: str) -> Pve:
            if fixed is not None:
                return fixed
            require(token is not None, "an incarnation token has a name")
            made = Credential(token=token or TokenId(""), secret=_as_secret(secret))
            return await stack.enter_async_context(parts.pve(settings, made))

        yield await Agent.begin(
            Foundation(
                journal=journal,
                open_pve=open_pve,
                clock=parts.clock(),
                entropy=parts.entropy(),
                reporter=reporter,
                holder=holder(),
                limits=settings.limits,
                incarnations=incarnations,
            )
        )


@asynccontextmanager
async def sight(
    parts: Parts, settings: Settings, reader: LookingJournal, warn: Warn, *, options: bool = False
) -> AsyncGenerator[Sight]:
    """Connect for looking only; with `options`, ask which options guests have there. Raises BadInput or ReadFailed."""
    async with parts.pve(settings, credential(settings, warn)) as pve:
        yield Sight(
            pve=LookingPve(pve),
            journal=reader,
            installation=await installation_of(reader),
            options=await parts.options(pve, settings) if options else None,
        )


def holder() -> str:
    """The process as the journal names it: host and pid."""
    return f"{socket.gethostname()}:{os.getpid()}"


def say(warnings: Iterable[str], warn: Warn) -> None:
    """Pass warnings on, one by one."""
    for warning in warnings:
        warn(warning)


def keeper_credential(keeper: KeeperSettings, warn: Warn) -> Credential:
    """The keeper's own token. Raises BadInput if there is no secret."""
    return Credential(token=keeper.token_id, secret=_secret(keeper.secret, warn, "keeper's secret"))


def credential(settings: Settings, warn: Warn) -> Credential:
    """The configured token. Where a keeper makes all tokens and none is given, the keeper's own does for looking."""
    cluster = settings.cluster
    if cluster.token_id is not None:
        return Credential(token=cluster.token_id, secret=_secret(cluster.token_secret, warn, "token secret"))
    if cluster.keeper is None:
        raise InvariantBroken(what="settings have a token or a keeper")
    return keeper_credential(cluster.keeper, warn)


def _secret(source: SecretSource, warn: Warn, what: str) -> "Secret":
    read = read_secret(source, os.environ, what=what)
    say(read.warnings, warn)
    return read.secret


def _as_secret(text: str) -> "Secret":
    from trueup.model.settings import Secret

    return Secret(text)
