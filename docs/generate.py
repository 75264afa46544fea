# noqa: INP001 - a script beside the pages, no package
"""Write lifecycle.md, commands.md and settings.md from the code, so that they cannot say anything else than it does.

python docs/generate.py            write the pages
python docs/generate.py --check    fail if a page is not what would be written
"""

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import reference  # beside this script
from msgspec.structs import replace

from trueup.core import requests
from trueup.core.kinds import KINDS, STATE_FENCES, Fence, KindSpec
from trueup.core.lifecycle import IN_FLIGHT, TABLE, TERMINAL
from trueup.core.probes import Finding, Landing
from trueup.core.recovery import (
    RULES,
    Again,
    Close,
    Evidence,
    FenceState,
    Lock,
    Open,
    Requeue,
    Task,
    Verdict,
    Watch,
    decide,
)
from trueup.model.gate import RequestState
from trueup.model.ids import Epoch, GuestType, NodeName, OpId, TokenId, Vmid
from trueup.model.ops import Intent, Kind, OpState, OpView, Row, Succeeded

FOLDER = Path(__file__).parent
COMMAND = "python docs/generate.py"

HEAD = f"""\
<!-- Made by `{COMMAND}` from src/trueup/core; do not edit. -->

# What becomes of an operation

An operation is one mutation of one guest. Its record is durable before its request leaves, and it ends `succeeded` or
`failed` only on evidence. Everything on this page is read from the tables that decide, in `src/trueup/core`.

"""

STATES = """\
## States

{diagram}

- **In flight** ({in_flight}): PVE may have acted. Nothing else touches the guest until it has ended.
- **Ended** ({terminal}): only `Contradicted` leads back, when an operation that was presumed not to have
  started shows up after all.
- `accepted` is a signed request that has not been sent.
- An event that leads back to its own state is a note about what was done or found out meanwhile.
- An event that is not drawn is illegal in that state; it raises and changes nothing.

"""

REQUESTS = """\
## Requests

What people sign is a request first. Once enough of them agreed it is accepted: that makes an operation of the same id,
and from there on the diagram above goes on.

{diagram}

- **Ended** ({ended}): nothing leads back.
- A request's **nonce** is used by `Requested`, once.
- Its **idempotency key** is held from `Requested` on by one request at a time. It is free again only after the request
  was vetoed, expired or refused, or its operation failed; once that has succeeded, it is held for ever.
- A veto of what was accepted ends its operation in the same append, as `failed` (`vetoed`). Once the operation was
  started, a veto is illegal: it comes too late.
- An operation is accepted only as its request says (kind, guest, nonce, key, payload, deadline), and started only as it
  was accepted. If an operation that had failed shows up after all, it takes its key again, and no other one with that
  key is started.

"""

RECOVERY = """\
## Recovery

After a crash, after a lost answer and at the end of a task, the same table judges the operation on what was seen of its
task and of its guest. The first row that matches decides; its name stands in the journal beside the outcome.

{rows}

Only **succeeded** and **failed** end an operation. What is unresolved is shown first everywhere, and is looked at again
on every pass.

"""

REGISTRY = """\
## Kinds of operations

{kinds}

- **Tier**: the loop may do what is `safe` by itself, `disruptive` things within the manifest's rules, and `destructive`
  ones never: these need signatures.
- **Task**: the type in PVE's UPID, for VMs / for containers; *sync* = the call makes no task.
- **Fence**: what makes PVE refuse the request of a dead agent, should it still arrive. `digest`: the request carried
  the config's digest, and a new counter in our marker changes it. `protection`: it is set again. `goal`: none is
  needed, since a late effect is what the loop wants or puts right. `token`: only the death of its API token stops it,
  and otherwise recovery waits, and says that it presumes.
- **Issued**: this version carries it out. The others are known to recovery and are named by the plan.
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(list(head)), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(names: Iterable[str]) -> str:
    """Names as inline code."""
    return ", ".join(f"`{name}`" for name in names)


# -- states -----------------------------------------------------------------------------------------------------------


def diagram(moves: Iterable[tuple[str, str, str]], ended: Iterable[str]) -> str:
    """A Mermaid state diagram of (before, event, after); events between the same two states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for before, event, after in moves:
        arrows.setdefault((before, after), []).append(event)
    lines = [f"    {before} --> {after}: {', '.join(events)}" for (before, after), events in arrows.items()]
    ends = [f"    {state} --> [*]" for state in ended]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, *ends, "```"])


def op_moves() -> Iterator[tuple[str, str, str]]:
    """The moves of an operation."""
    for (before, event), after in TABLE.items():
        yield before.value if before else "[*]", event.__name__, after.value


def request_moves() -> Iterator[tuple[str, str, str]]:
    """The moves of a request."""
    for (state, event), afters in requests.TABLE.items():
        for after in afters:
            yield state.value if state else "[*]", event.__name__, after.value


# -- recovery ---------------------------------------------------------------------------------------------------------


FLAGS = ("seen_behind_fence", "settled", "children_dead", "patience_over", "late_possible", "too_late")


def cases() -> Iterator[tuple[OpView, Evidence]]:
    """Operations and evidence from which every row and every outcome follows.

    Of the flags: all of them, none of them, and each one against the others.
    """
    flags = [dict.fromkeys(FLAGS, value) | {odd: not value} for value in (False, True) for odd in FLAGS]
    flags += [dict.fromkeys(FLAGS, value) for value in (False, True)]
    kinds = [(Kind.START, FenceState.NO_KIND)]
    kinds += [(Kind.DESTROY, fence) for fence in FenceState if fence is not FenceState.NO_KIND]
    for (kind, fence), one_shot, upid, state in itertools.product(
        kinds, (False, True), ("", "UPID"), (OpState.ACCEPTED, OpState.STARTED)
    ):
        view = operation(kind, state, one_shot=one_shot, upid=upid)
        for task, landing, ours, lock in itertools.product(Task, Landing, (False, True), Lock):
            finding = Finding(landing=landing, attributable=ours)
            seen = Evidence(task=task, finding=finding, fence=fence, lock=lock)
            yield from ((view, replace(seen, **some)) for some in flags)


def operation(kind: Kind, state: OpState, *, one_shot: bool, upid: str) -> OpView:
    """An operation with just enough to be judged."""
    intent = Intent(
        kind=kind,
        type=GuestType.QEMU,
        vmid=Vmid(100),
        node=NodeName("pve1"),
        one_shot=one_shot,
        method="",
        path="",
        token=TokenId(""),
    )
    return OpView(op_id=OpId(""), state=state, intent=intent, started_at_ms=0, epoch=Epoch(1), upid=upid)


def outcome(verdict: Verdict) -> str:
    """A verdict in a few words."""
    match verdict:
        case Requeue():
            return "queue it again"
        case Watch():
            return "keep watching"
        case Again():
            return f"{verdict.need.value}, then all anew"
        case Open():
            return f"unresolved: `{verdict.event.reason.value}`"
        case Close():
            word = "succeeded" if isinstance(verdict.event, Succeeded) else "failed"
            return f"**{word}**: `{verdict.event.reason.value}`"


def rows() -> str:
    """The recovery table with all outcomes that each row has, found by asking it."""
    found: dict[Row, dict[str, None]] = {row: {} for row in Row}
    for view, evidence in cases():
        verdict = decide(view, evidence)
        found[verdict.row].setdefault(outcome(verdict))
    return table(
        ("row", "when, and why", "what follows"),
        ((rule.row.value, rule.why, "<br>".join(sorted(found[rule.row]))) for rule in RULES),
    )


# -- kinds ------------------------------------------------------------------------------------------------------------


def calls(spec: KindSpec) -> str:
    """The calls for VMs and containers, once where they are the same."""
    ways: dict[str, list[str]] = {}
    for guest, route in spec.routes.items():
        ways.setdefault(f"{route.method} {route.path}", []).append(guest.value)
    short = {way: f"`{way.replace('/nodes/{node}', '…')}`" for way in ways}
    if len(ways) == 1 and len(spec.routes) == len(GuestType):
        return short[next(iter(ways))]
    return "<br>".join(f"{', '.join(guests)}: {short[way]}" for way, guests in ways.items())


def tasks(spec: KindSpec) -> str:
    """The task types, once where they are the same."""
    names = [f"`{route.task}`" if route.task else "*sync*" for route in spec.routes.values()]
    return " / ".join(dict.fromkeys(names))


def fence(spec: KindSpec) -> str:
    """The fence, and the one for what people signed where it differs."""
    words = spec.fence.value if spec.fence in STATE_FENCES or spec.fence is Fence.GOAL else "token, else time"
    return f"{words}; signed: {spec.one_shot_fence.value}, else time" if spec.one_shot_fence else words


def kinds() -> str:
    """The registry."""
    return table(
        ("kind", "tier", "call (… = `/nodes/{node}`)", "task", "fence", "issued"),
        (
            (
                f"`{kind.value}`",
                spec.tier.value,
                calls(spec),
                tasks(spec),
                fence(spec),
                "yes" if spec.carried_out else "",
            )
            for kind, spec in KINDS.items()
        ),
    )


def page() -> str:
    """The whole page."""
    ordered = [state for state in OpState if state in IN_FLIGHT]
    ended = [state for state in OpState if state in TERMINAL]
    states = STATES.format(diagram=diagram(op_moves(), ended), in_flight=code(ordered), terminal=code(ended))
    over = [state for state in RequestState if state in requests.ENDED]
    asked = REQUESTS.format(diagram=diagram(request_moves(), over), ended=code(over))
    return HEAD + states + asked + RECOVERY.format(rows=rows()) + REGISTRY.format(kinds=kinds())


PAGES: Final = {"lifecycle.md": page, "commands.md": reference.commands, "settings.md": reference.settings}


def main(arguments: list[str]) -> int:
    """Write or check the pages; the answer is the exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"usage: {COMMAND} [--check]\n")
        return 2
    stale = 0
    for name, made in PAGES.items():
        file, new = FOLDER / name, made()
        if file.exists() and file.read_text(encoding="utf-8") == new:
            continue
        if arguments:
            sys.stderr.write(f"docs/{name} is stale: run `{COMMAND}`\n")
            stale = 1
        else:
            file.write_text(new, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
