"""Planted faults of the gate and of what it let in; see `faults`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import msgspec

from tests.teeth import signed_faults
from tests.teeth.faults import _both
from trueup.adapters import journal_admission
from trueup.adapters.sqlite.journal import SqliteJournal
from trueup.core import gate_checks, gate_rules, requests
from trueup.engine.gate import Gate
from trueup.engine.one_shots import OneShots
from trueup.model.gate import Requested, RequestState
from trueup.model.ops import OpState


def a_failure_keeps_its_key() -> AbstractContextManager[Any]:
    """The journal takes the key of a failed request for applied."""
    pending = {RequestState.PENDING, RequestState.ACCEPTED}
    return patch.object(requests, "holds_key", lambda request, op: op is not None or request in pending)


def the_gate_takes_a_failure_for_the_result() -> AbstractContextManager[Any]:
    """A request with the key of a failed one is answered with the failure."""
    check: Callable[..., Any] = gate_checks.check_key

    def applied(request: Any, earlier: Any) -> Any:
        for view, op in earlier:
            if op is not None and op.state is OpState.FAILED:
                return gate_checks.answer_for(view, op)
        return check(request, earlier)

    return patch.object(gate_checks, "check_key", applied)


def keys_are_counted() -> AbstractContextManager[Any]:
    """Two keys of one person are two people."""
    rule_on: Callable[..., Any] = gate_rules.rule_on

    def counted(rule: Any, number: Any, files: Any, request: Any, valid: Any) -> Any:
        ruling = rule_on(rule, number, files, request, valid)
        return msgspec.structs.replace(ruling, missing="" if len(valid) >= rule.people else ruling.missing)

    return patch.object(gate_rules, "rule_on", counted)


def nobody_is_missing() -> AbstractContextManager[Any]:
    """Whoever signs is enough."""
    rule_on: Callable[..., Any] = gate_rules.rule_on
    return patch.object(gate_rules, "rule_on", lambda *asked: msgspec.structs.replace(rule_on(*asked), missing=""))


def _told(change: Callable[[Any, Any], Any]) -> AbstractContextManager[Any]:
    """The gate is told something else of the requests that used a nonce."""
    moment = SqliteJournal.moment

    async def changed(self: Any, lookup: Any) -> Any:
        found = await moment(self, lookup)
        return msgspec.structs.replace(found, of_nonce=change(self, found.of_nonce))

    return patch.object(SqliteJournal, "moment", changed, create=True)


def _none(_journal: Any, _found: Any) -> dict[str, Any]:
    return {}


def nonces_do_not_matter() -> AbstractContextManager[Any]:
    """Neither the gate nor the journal looks at nonces."""
    return _both(
        _told(_none),
        patch.object(journal_admission._Trial, "user", lambda _self, _nonce: None),
    )


def a_redelivery_is_new() -> AbstractContextManager[Any]:
    """The gate takes what it knows for a new request; only the journal still knows its nonce."""
    return _told(_none)


def other_bytes_are_the_same_request() -> AbstractContextManager[Any]:
    """A nonce does not bind the bytes."""
    return patch.object(gate_checks, "same_payload", lambda *_: None)


def nobody_looks_whom_it_hits() -> AbstractContextManager[Any]:
    """Right before the execution nobody compares the guest with the one that was signed for."""
    return _both(signed_faults.whoever_has_the_vmid(), patch.object(gate_checks, "check_target", lambda *_: None))


def nothing_is_asked_again() -> AbstractContextManager[Any]:
    """What was accepted is carried out, whatever people say in the meantime."""

    async def sure(_self: Any, _view: Any, _observed: Any) -> None:
        return None

    return patch.object(Gate, "check_again", sure)


def execute_by_does_not_matter() -> AbstractContextManager[Any]:
    """Neither the engine nor the gate looks at the time before it is sent."""
    return _both(signed_faults.time_does_not_matter(), patch.object(gate_checks, "check_times", lambda *_: None))


def the_clock_is_believed() -> AbstractContextManager[Any]:
    """The journal's newest instant is no floor."""
    return patch.object(gate_checks, "trusted_now", lambda clock_ms, _newest_ms: clock_ms)


@contextmanager
def pending_requests_are_kept_in_memory() -> Iterator[None]:
    """The next agent does not know who has signed already."""
    append = SqliteJournal.append

    async def remembered(self: Any, epoch: Any, drafts: Any) -> Any:
        mine: set[str] = self.__dict__.setdefault("mine", set())
        mine |= {draft.event.request.nonce for draft in drafts if isinstance(draft.event, Requested)}
        return await append(self, epoch, drafts)

    def known(journal: Any, found: Any) -> dict[str, Any]:
        mine = journal.__dict__.get("mine", set())
        return {nonce: view for nonce, view in found.items() if view.state is not RequestState.PENDING or nonce in mine}

    with (
        patch.object(SqliteJournal, "append", remembered),
        _told(known),
    ):
        yield


def open_operations_close_no_lane() -> AbstractContextManager[Any]:
    """What is signed starts beside an operation of its guest whose end nobody knows."""

    async def free(_self: Any, _accepted: Any) -> None:
        return None

    return patch.object(OneShots, "_still_open", free)


def a_redelivery_hears_that_all_is_well() -> AbstractContextManager[Any]:
    """Whatever became of a request, its sender hears that it was accepted."""
    answer: Callable[..., Any] = gate_checks.answer_for
    return patch.object(
        gate_checks,
        "answer_for",
        lambda *asked, **named: msgspec.structs.replace(answer(*asked, **named), state="accepted"),
    )
