"""What commands that hand something signed in have in common: they do it, and tell the answer."""

from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from trueup.adapters.file_names import shown
from trueup.core.gate_envelope import render_envelope
from trueup.edges import statements
from trueup.edges.cli import shapes, signers
from trueup.edges.cli.options import bundled, json_option
from trueup.edges.cli.output import print_json, run_async, say, warn
from trueup.edges.cli.signers import Pen
from trueup.edges.handing_in import HandedIn, hand_in
from trueup.edges.parts import Parts
from trueup.model.gate_answers import Outcome
from trueup.model.ops import OpState
from trueup.model.settings import Settings

COMMAND = "command"
"""How a statement came that a command made or read."""


class Out(msgspec.Struct, frozen=True, kw_only=True):
    """Where it goes: into a file instead of to the gate, and how the answer is told."""

    output: Path | None
    as_json: bool


def out_options(command: Callable[..., int]) -> Callable[..., int]:
    """`-o FILE` and `--json`; the command gets `out`."""
    return click.option(
        "-o",
        "output",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Hand nothing in: write it there, to be signed (`trueup sign`) and handed in (`trueup submit`).",
    )(json_option(bundled("out", Out, "output", "as_json")(command)))


def signed_or_written(parts: Parts, settings: Settings, content: bytes, pen: Pen, out: Out) -> int:
    """Sign a statement and hand it in, or write it into a file, signed if there is a key. Raises what both raise."""
    found = statements.draft(content)
    if out.output is not None and not pen.key:
        statements.write(out.output, content)
        say(f"Next: trueup sign {shown(out.output)} --key KEY, then trueup submit {shown(out.output)}")
        return 0
    envelope, _ = signers.signed(found, pen, signers.keyring_for(settings))
    if out.output is not None:
        statements.write_envelope(out.output, envelope)
        return 0
    return take_in(parts, settings, render_envelope(envelope), as_json=out.as_json)


_ENDED = frozenset({OpState.SUCCEEDED.value, OpState.FAILED.value})


def take_in(
    parts: Parts,
    settings: Settings,
    content: bytes,
    *,
    as_json: bool,
    via: str = COMMAND,
    request_id: str = "",
) -> int:
    """Hand it in and tell the answer; the exit code. Raises what `hand_in` raises."""
    done = run_async(hand_in(parts, settings, content, via=via, warn=warn, request_id=request_id))
    if as_json:
        print_json(shapes.answer(done.answer))
    else:
        _tell(done)
    return 1 if done.answer.outcome is Outcome.REFUSED else 0


def _tell(done: HandedIn) -> None:
    answer = done.answer
    if answer.outcome is Outcome.REFUSED:
        why = f" [{answer.refusal.value}]" if answer.refusal else ""
        click.echo(f"{click.style('refused', fg='red', bold=True)}{why}: {answer.reason}", err=True)
        return
    color = {"succeeded": "green", "accepted": "cyan", "pending": "yellow"}.get(answer.state, "magenta")
    name = answer.request or answer.op
    known = "known already, " if answer.outcome is Outcome.REPETITION else ""
    click.echo(f"{known}{click.style(answer.state, fg=color, bold=True)}  {name}")
    if answer.missing:
        click.echo(f"missing: {answer.missing}")
    if answer.reason:
        click.echo(answer.reason)
    if answer.missing:
        say(f"Next: trueup approve {name} --key KEY, or hand in the file again with more signatures.")
    elif answer.state == "accepted":
        say(_who_does(done))
    elif answer.op and answer.state not in _ENDED:
        say(f"How it goes on: trueup ops show {answer.op}")


def _who_does(done: HandedIn) -> str:
    if done.agent_lives:
        return f"Whoever holds the journal carries it out: trueup ops show {done.answer.op}"
    return "No agent runs: `trueup apply` carries it out."
