"""Signed statements from the command line: taken to the gate here if the journal is free, else to whoever holds it.

The same function answers in both places. Nothing is carried out here: that is for `trueup agent` and `trueup apply`.
"""

import base64
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

import msgspec

from trueup.edges import acts, incarnation
from trueup.edges.acts import Acts, Message, Scribe
from trueup.edges.gating import open_gate
from trueup.edges.inbox import Post
from trueup.edges.looking import LookingPve
from trueup.edges.parts import Parts
from trueup.engine.deck import Deck
from trueup.engine.surveyor import installation_of
from trueup.model.errors import JournalBusy, ReadFailed
from trueup.model.gate_answers import Answer
from trueup.model.ids import TokenId
from trueup.model.notes import Note
from trueup.model.settings import Settings
from trueup.ports import Journal, Pve


class _Quiet:
    """Nobody listens: the command tells the answer itself."""

    def note(self, note: Note) -> None:
        """See `trueup.ports.Reporter`."""


class _Unreachable:
    """A PVE that did not answer: each read says so. Vetoes and resolutions need none, requests are then refused."""

    def __init__(self, error: ReadFailed, token: TokenId) -> None:
        self._error = error
        self.token = token

    def __getattr__(self, _name: str) -> object:
        async def read(*_: object, **__: object) -> None:
            raise self._error

        return read


class HandedIn(msgspec.Struct, frozen=True, kw_only=True):
    """The gate's answer, and whether somebody is there to carry out what was accepted."""

    answer: Answer
    agent_lives: bool


async def hand_in(
    parts: Parts, settings: Settings, content: bytes, *, via: str, warn: incarnation.Warn, request_id: str = ""
) -> HandedIn:
    """Take a signed statement to the gate; with `request_id`, as more signatures over that request.

    Raises:
        JournalBusy: the journal is held by somebody who does not listen, and is not shared with other agents.
        BadInput, Corrupt, JournalFailed: the journal cannot be written, or there is no token to look at guests with.
    """
    message = Message(
        command=acts.SUBMIT,
        by=acts.person(),
        op_id=request_id,
        content=base64.b64encode(content).decode(),
        via=via,
    )
    lives = True

    async def here(journal: Journal) -> msgspec.Raw:
        nonlocal lives
        lives = False
        async with _sight(parts, settings, warn) as pve:
            scribe = await Scribe.begin(parts, journal)
            deck = Deck(
                journal=journal,
                pve=pve,
                clock=scribe.clock,
                entropy=scribe.entropy,
                reporter=_Quiet(),
                epoch=scribe.epoch,
                installation=await installation_of(journal),
                limits=settings.limits,
            )
            gate, _ = open_gate(deck, settings, own_token=settings.cluster.keeper is not None)
            return await Acts(scribe, lambda: (), gate).do(message)

    try:
        raw = await acts.here_or_there(parts, settings, message, here)
    except JournalBusy:  # the leader is on another machine
        async with parts.standing_by(settings.store) as standby:
            if standby is None:
                raise
            return HandedIn(answer=await Post(standby).submit(content, via), agent_lives=True)
    return HandedIn(answer=msgspec.json.decode(raw, type=Answer), agent_lives=lives)


@asynccontextmanager
async def _sight(parts: Parts, settings: Settings, warn: incarnation.Warn) -> AsyncGenerator[Pve]:
    who = incarnation.credential(settings, warn)
    async with AsyncExitStack() as stack:
        try:
            pve: Pve = LookingPve(await stack.enter_async_context(parts.pve(settings, who)))
        except ReadFailed as error:
            warn(f"PVE cannot be asked: {error}")
            pve = cast("Pve", _Unreachable(error, who.token))
        yield pve
