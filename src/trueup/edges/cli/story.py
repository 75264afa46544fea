"""The whole story of one operation, told from its records alone: what happened, what is known, what is not, what to do.

Nothing here is a guess: a sentence is either a record in words, or the recovery table's own reason.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from trueup.core.probes import Landing
from trueup.core.recovery import RULES
from trueup.edges import topics
from trueup.edges.cli import gate_words, words
from trueup.edges.cli.output import WORD_OF, Json, iso, local
from trueup.model import limits
from trueup.model.gate import GateEvent
from trueup.model.ids import GuestType
from trueup.model.ops import (
    Accepted,
    Contradicted,
    Event,
    Failed,
    Fenced,
    Fencing,
    Guarded,
    Guarding,
    OpState,
    OpView,
    Reason,
    Record,
    Started,
    Succeeded,
    TaskRunning,
    Unresolved,
)

_WHY: Final = {rule.row: rule.why for rule in RULES}


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One record in words."""

    at_ms: int
    seq: int
    what: str
    words: str


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """All that is to be said. `known` and `unknown` are sentences; `settles` is '' where nothing is open."""

    title: str
    state: str
    moments: tuple[Moment, ...]
    known: tuple[str, ...]
    row: str = ""
    why: str = ""
    unknown: tuple[str, ...] = ()
    settles: str = ""
    to_do: tuple[str, ...] = ()


def tell(view: OpView, records: Sequence[Record], *, agent_lives: bool) -> Story:
    """Tell one operation's story. `agent_lives`: somebody holds the journal and may be at work on it."""
    return Story(
        title=title(view),
        state=_state(view),
        moments=tuple(
            Moment(at_ms=record.at_ms, seq=record.seq, what=_tag(record.event), words=_words(record.event))
            for record in records
        ),
        known=_known(view, records),
        row=view.row.value if view.row else "",
        why=_WHY[view.row] if view.row else "",
        unknown=_unknown(view),
        settles=view.unresolved.settles_by if view.unresolved else "",
        to_do=_to_do(view, _last_evidence(records), agent_lives=agent_lives),
    )


def title(view: OpView) -> str:
    """Which operation it is."""
    intent = view.intent
    name = f" {intent.name}" if intent.name else ""
    source = f", from {intent.source}" if intent.source is not None else ""
    return f"{intent.kind.value} of {WORD_OF[intent.type]} {intent.vmid}{name} on {intent.node}{source}"


def as_json(story: Story) -> dict[str, Json]:
    """The story as data."""
    return {
        "title": story.title,
        "timeline": [
            {"at": iso(moment.at_ms), "seq": moment.seq, "event": moment.what, "text": moment.words}
            for moment in story.moments
        ],
        "known": list(story.known),
        "row_why": story.why or None,
        "unknown": list(story.unknown),
        "settles_by": story.settles or None,
        "to_do": list(story.to_do),
    }


def _state(view: OpView) -> str:
    if view.unresolved is not None:
        return "unresolved: it stays open, and its guest is left alone"
    return {
        OpState.ACCEPTED: "accepted: signed and queued, not sent yet",
        OpState.STARTED: "started: PVE may have received it, and no end is known",
        OpState.TASK_RUNNING: "at work: PVE has a task for it",
        OpState.SUCCEEDED: "succeeded",
        OpState.FAILED: "failed",
    }[view.state]


# -- what happened -----------------------------------------------------------------------------------------------------


def _tag(event: Event) -> str:
    tag = type(event).__struct_config__.tag
    return str(tag)


def words_of(event: Event) -> str:
    """One record in words."""
    return _words(event)


def _words(event: Event) -> str:
    match event:
        case Accepted(execute_by_ms=by, not_before_ms=not_before_ms):
            return gate_words.accepted(by, not_before_ms)
        case Started(intent=intent):
            return (
                f"The intent became durable: from here on {intent.method} {intent.path} may have left us, once, "
                f"with the token {intent.token}."
            )
        case TaskRunning(upid=upid, adopted=True):
            return f"The answer never reached us, but its task was found: {upid}"
        case TaskRunning(upid=upid):
            return f"PVE answered with its task: {upid}"
        case Succeeded(reason=reason):
            return f"It succeeded: {words.REASONS[reason]}.{_exit(event.exit_status)}{_by(event)}"
        case Failed(reason=reason):
            left = f" Left over: {', '.join(event.leftovers)}." if event.leftovers else ""
            return f"It failed: {words.REASONS[reason]}.{_exit(event.exit_status)}{left}{_by(event)}"
        case Unresolved(reason=reason):
            return f"Recovery could not tell: {words.REASONS[reason]}.{_by(event)}"
        case _:
            return _note(event)


def _note(event: Event) -> str:
    if isinstance(event, GateEvent):
        return gate_words.words_of(event)
    match event:
        case Fencing(counter=counter):
            return f"A fence was about to be raised: counter {counter} in the guest's marker."
        case Fenced(digest=digest):
            return "The fence stood: PVE refuses the request from here on." if digest else "The guest was gone."
        case Guarding():
            return "The guard of a destroy was about to be written."
        case Guarded():
            return "The guard of a destroy stood: protection was lifted for this very guest."
        case Contradicted(what=what):
            return f"It had been presumed not to have started, but {what}: it is open again."
        case _:
            return str(type(event).__struct_config__.tag)


def _exit(text: str) -> str:
    return f" PVE said: {text!r}." if text and text != "OK" else ""


def _by(event: Succeeded | Failed | Unresolved) -> str:
    return f" [{event.row.value}]" if event.row else ""


# -- what is known -----------------------------------------------------------------------------------------------------


def _known(view: OpView, records: Sequence[Record]) -> tuple[str, ...]:
    known = ["The request left us once at the most: it is never sent again."]
    if any(isinstance(record.event, Contradicted) for record in records):
        known.append("It had been presumed not to have started, and that was wrong.")
    if view.upid:
        known.append(f"PVE's task is {view.upid}{', found by searching' if view.adopted else ''}.")
    if view.exit_status:
        known.append(f"PVE said {view.exit_status!r}.")
    if view.fenced is not None:
        known.append("A fence stands in the guest: PVE refuses the request, should it still arrive.")
    known += [f"In the last look, {sentence}." for sentence in _evidence(_last_evidence(records))]
    known += [f"Left over: {leftover}." for leftover in view.leftovers]
    return tuple(known)


def _last_evidence(records: Sequence[Record]) -> Mapping[str, str]:
    for record in reversed(records):
        if isinstance(record.event, Succeeded | Failed | Unresolved) and record.event.evidence:
            return record.event.evidence
    return {}


def _evidence(facts: Mapping[str, str]) -> list[str]:
    search = facts.get("task_search", "")
    task = words.TASKS.get(facts.get("task", ""), "")
    probe = words.PROBES.get(facts.get("probe", ""), "")
    seen = facts.get("seen", "")
    sentences = [
        f"{task} ({search})" if task and search else task,
        f"{probe} ({seen})" if probe and seen else probe,
        words.FENCES.get(facts.get("fence", ""), ""),
        words.LOCKS.get(facts.get("lock", ""), ""),
    ]
    return [sentence for sentence in sentences if sentence]


# -- what is not, and what to do ---------------------------------------------------------------------------------------


def _unknown(view: OpView) -> tuple[str, ...]:
    if view.unresolved is not None:
        return (f"{_upper(words.REASONS[view.unresolved.reason])}.",)
    if view.state is OpState.STARTED:
        return ("Whether PVE received the request, and what it did about it.",)
    if view.state is OpState.TASK_RUNNING:
        return ("How PVE's task ends.",)
    if view.reason is Reason.PRESUMED_NOT_STARTED:
        return ("Whether the request is still on its way: this kind has no fence that would stop it for sure.",)
    return ()


def _to_do(view: OpView, evidence: Mapping[str, str], *, agent_lives: bool) -> tuple[str, ...]:
    if view.state is OpState.ACCEPTED:
        if agent_lives:
            return ("Nothing: whoever holds the journal carries it out.",)
        return (words.TO_DO_ACCEPTED,)
    if view.unresolved is not None:
        again = "It is looked at again on every pass" if agent_lives else "`trueup recover` looks at it again"
        half = _half_made(view, evidence)
        alone = f"{again}; until then trueup leaves the guest alone."
        topic = topics.HALF_MADE if half else topics.OF_REASON[view.unresolved.reason]
        return (words.TO_DO[view.unresolved.reason], *half, alone, f"{topics.more(topic)}.")
    if view.state in {OpState.STARTED, OpState.TASK_RUNNING}:
        if agent_lives:
            return ("Nothing: whoever holds the journal is at work on it.",)
        return (words.TO_DO_IN_FLIGHT,)
    failed = view.state is OpState.FAILED
    done = [*words.to_do(view.reason, failed=failed, signed=view.intent.one_shot)] if view.reason else []
    if view.upid and (failed or view.reason is Reason.TASK_WARNINGS):
        node = view.upid.split(":")[1]
        done.append(f"The task's log: pvesh get /nodes/{node}/tasks/{view.upid}/log")
    if view.reason is not None and failed:
        done.append(f"{topics.more(topics.OF_REASON[view.reason])}.")
    if view.reason is Reason.PRESUMED_NOT_STARTED:
        done.append(f"The watch ends {local(view.ended_at_ms + int(limits.PRESUMED_WATCH_S * 1000))}.")
    return tuple(done)


def _half_made(view: OpView, evidence: Mapping[str, str]) -> tuple[str, ...]:
    """What else is to be done about a guest that was cut off while it was made."""
    intent = view.intent
    if intent.identity is not None or evidence.get("probe") != Landing.PARTIAL.value:
        return ()
    tool = {GuestType.QEMU: "qm", GuestType.LXC: "pct"}[intent.type]
    return (words.TO_DO_HALF_MADE.format(tool=tool, vmid=intent.vmid),)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
