"""Planted faults of carrying out what people signed; see `faults`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from tests.teeth.faults import _both
from trueup.adapters.pve import PveClient
from trueup.core import incarnation, recovery
from trueup.engine import looker
from trueup.engine.one_shots import OneShots
from trueup.engine.recoverer import Recoverer
from trueup.engine.standing import Standing
from trueup.model.ids import Digest
from trueup.model.ops import Guarded


def whoever_has_the_vmid() -> AbstractContextManager[Any]:
    """Identity and digest are not compared before a one-shot is carried out."""
    return patch.object(incarnation, "as_signed", lambda *_: "")


def no_guard() -> AbstractContextManager[Any]:
    """The DELETE is sent without the write that proves whose it is."""

    async def unguarded(self: Any, view: Any, seen: Any, _send_by: Any) -> Any:
        return await self._note(view, Guarded(digest=seen.digest))

    return patch.object(OneShots, "_guard", unguarded)


def the_guards_answer_is_not_read_back() -> AbstractContextManager[Any]:
    """Whatever came of the guard, it is taken to stand."""
    guard = OneShots._guard

    async def believed(self: Any, view: Any, seen: Any, send_by: Any) -> Any:
        after = await guard(self, view, seen, send_by)
        return (
            after if after.guarded or after.state != "started" else await self._note(after, Guarded(digest=Digest("d")))
        )

    return patch.object(OneShots, "_guard", believed)


def protection_is_not_restored() -> AbstractContextManager[Any]:
    """A destroy that failed leaves its guest without `protection`."""

    async def left(_self: Any, view: Any) -> Any:
        return view, True

    return _both(
        patch.object(recovery, "_protected", lambda _case, verdict: verdict), patch.object(Recoverer, "protect", left)
    )


def time_does_not_matter() -> AbstractContextManager[Any]:
    """A one-shot is carried out however late it has become."""

    async def early(_self: Any) -> int:
        return 0

    return patch.object(OneShots, "_now_ms", early)


def deletes_are_sent_twice() -> AbstractContextManager[Any]:
    """A DELETE is sent once more, to be on the safe side."""
    send = PveClient.send

    async def twice(self: Any, call: Any) -> Any:
        reply = await send(self, call)
        return await send(self, call) if call.method == "DELETE" else reply

    return patch.object(PveClient, "send", twice)


def tasks_on_a_container_are_not_looked_at() -> AbstractContextManager[Any]:
    """A container whose config is the same is the same."""

    async def same(_self: Any, _accepted: Any) -> None:
        return None

    return patch.object(OneShots, "_made_anew", same)


@contextmanager
def the_gate_is_not_asked_again() -> Iterator[None]:
    """What was accepted once is carried out."""
    ready: Callable[..., Any] = OneShots._ready

    async def sure(self: Any, accepted: Any) -> Any:
        check, self._check = self._check, None
        try:
            return await ready(self, accepted)
        finally:
            self._check = check

    with patch.object(OneShots, "_ready", sure):
        yield


def standing_fences_are_forgotten() -> AbstractContextManager[Any]:
    """Nobody looks whether `protection` still stands."""

    async def none(_self: Any, *_: Any) -> None:
        return None

    return patch.object(Standing, "look", none)


def a_guard_counts_as_a_delete() -> AbstractContextManager[Any]:
    """A destroy whose guard alone was sent is judged as if its DELETE had been."""
    return patch.object(looker, "_held_back", lambda _op: False)
