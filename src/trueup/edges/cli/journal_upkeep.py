"""The upkeep of a journal: copies, retention, and what to do with a damaged one."""

import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from trueup.adapters.file_names import shown
from trueup.adapters.sqlite.retention import Clerk
from trueup.edges import acts
from trueup.edges.acts import Acknowledgement, Message
from trueup.edges.cli.asking import Answer, ask, may_ask
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import print_json, run_async, warn
from trueup.edges.parts import Parts
from trueup.model.durations import parse_duration
from trueup.model.errors import BadInput

_TAKE_OVER: Final = "markers name another journal than this new one: `trueup adopt --all --take-over` takes guests over"


@click.command(context_settings=HELP)
@config_option
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def backup(parts: Parts, config: Path, target: Path, *, as_json: bool) -> int:
    """Copy the journal into FILE, which must not exist, beside a running agent too; and verify the copy."""
    done = parts.journal_file.upkeep.backup(parts.settings(config).store, target)
    if as_json:
        print_json({"file": str(target), "records": done.records, "head": done.head})
    else:
        click.echo(f"{shown(target)}: {done.records} records, verified, head {done.head}")
    return 0


@click.command("import", context_settings=HELP)
@config_option
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def import_(parts: Parts, config: Path, source: Path, *, as_json: bool) -> int:
    """Make the journal of an export, byte for byte. There must be none yet."""
    try:
        lines = source.read_bytes().splitlines()
    except OSError as error:
        raise BadInput(what=f"cannot be read: {error.strerror}", where=shown(source)) from error
    done = parts.journal_file.upkeep.import_lines(parts.settings(config).store, lines)
    if as_json:
        print_json({"records": done.records, "head": done.head})
    else:
        click.echo(f"{done.records} records, verified, head {done.head}")
    return 0


@click.command(context_settings=HELP)
@config_option
@click.option("--older-than", required=True, metavar="DURATION", help='Of operations that ended so long ago, as "90d".')
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
@click.pass_obj
def prune(parts: Parts, config: Path, older_than: str, *, dry_run: bool, as_json: bool) -> int:
    """Remove the records of operations that ended long ago. What is left is still proved by the chain.

    Open and watched operations, epochs, tokens and adoptions stay; of what people signed, what succeeded and whatever
    could still be delivered again. The agent has to be stopped meanwhile.
    """
    clock, entropy = parts.clock(), parts.entropy()
    now_ms = clock.now_ms()
    clerk = Clerk(holder=f"{socket.gethostname()}:{os.getpid()}", at_ms=now_ms, record_id=lambda: entropy.uuid7(now_ms))
    before_ms = now_ms - int(parse_duration(older_than) * 1000)
    done = parts.journal_file.upkeep.prune(parts.settings(config).store, before_ms, clerk, dry=dry_run)
    if as_json:
        print_json({"operations": done.ops, "removed": done.records, "kept": done.kept, "dry_run": dry_run})
    else:
        would = "would be removed" if dry_run else "removed"
        click.echo(f"{done.records} records of {done.ops} operations {would}; {done.kept} are kept.")
    return 0


@click.command(context_settings=HELP)
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def quarantine(parts: Parts, config: Path, *, yes: bool, as_json: bool) -> int:
    """Move a damaged journal aside, export what can be read, and start a new one with that.

    Until `trueup journal acknowledge`, nothing is changed: an operation whose record is lost may be under way.
    """
    settings = parts.settings(config)
    if not yes and not may_ask():
        raise BadInput(what="there is no terminal to ask on", remedy="give --yes")
    if not yes and ask("Move the journal aside and start a new one with what can be read?") is not Answer.YES:
        return 1
    now_ms = parts.clock().now_ms()
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    done = parts.journal_file.upkeep.quarantine(settings.store, stamp, parts.entropy().uuid7(now_ms), now_ms)
    if as_json:
        print_json(
            {
                "aside": str(done.aside),
                "exported": str(done.exported),
                "kept": done.kept,
                "left_out": done.left_out,
                "same_installation": done.same_installation,
            }
        )
        return 0
    click.echo(f"The damaged journal is {shown(done.aside)}; what could be read is in {done.exported.name} beside it.")
    click.echo(f"The new one has {done.kept} of its records; {done.left_out} follow from lost ones and were left out.")
    if not done.same_installation:
        warn(_TAKE_OVER)
    click.echo("Nothing is changed until you have compared guests and manifests: `trueup plan`, `trueup status`, then")
    click.echo("`trueup journal acknowledge`.")
    return 0


@click.command(context_settings=HELP)
@config_option
@json_option
@click.pass_obj
def rebuild(parts: Parts, config: Path, *, as_json: bool) -> int:
    """Make the derived tables anew from the records, and verify the whole. The agent has to be stopped meanwhile."""
    done = parts.journal_file.upkeep.rebuild(parts.settings(config).store)
    if as_json:
        print_json({"ok": done.ok, "records": done.records, "head": done.head, "what": done.what or None})
    elif done.ok:
        click.echo(f"{click.style('Sound', fg='green', bold=True)}: {done.records} records, head {done.head}")
    else:
        click.echo(f"{click.style('DAMAGED', fg='red', bold=True)}: {done.what}")
    return 0 if done.ok else 1


@click.command(context_settings=HELP)
@config_option
@json_option
@click.pass_obj
def acknowledge(parts: Parts, config: Path, *, as_json: bool) -> int:
    """Say that you have looked, and that the journal may be relied on: the agent changes things again."""
    message = Message(command=acts.ACKNOWLEDGE, by=acts.person())
    answer = run_async(acts.write_down(parts, parts.settings(config), message))
    done = msgspec.json.decode(answer, type=Acknowledgement)
    if as_json:
        print_json({"acknowledged": list(done.doubts)})
        return 0
    for doubt in done.doubts:
        click.echo(f"acknowledged: {doubt}")
    if not done.doubts:
        click.echo("There is no doubt to be acknowledged.")
    return 0


COMMANDS: Final = (backup, prune, rebuild, quarantine, acknowledge, import_)
